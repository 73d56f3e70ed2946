//! rbac.authorization.k8s.io, authentication.k8s.io, authorization.k8s.io, certificates.k8s.io.

use super::super::printers::{access, cluster};
use super::super::{Resource, verbs};
use crate::api::names::path_segment;
use crate::api::object::SelectableField as Field;

pub(super) fn entries() -> Vec<Resource> {
    vec![
        rbac("ClusterRoleBinding", "clusterrolebindings").cluster().columns(access::BINDINGS),
        rbac("ClusterRole", "clusterroles").cluster().columns(access::ROLES),
        rbac("RoleBinding", "rolebindings").columns(access::BINDINGS),
        rbac("Role", "roles").columns(access::ROLES),
        Resource::new("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews")
            .cluster()
            .review(),
        Resource::new("authentication.k8s.io", "v1", "TokenReview", "tokenreviews").cluster().review(),
        authorization("LocalSubjectAccessReview", "localsubjectaccessreviews"),
        authorization("SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster(),
        authorization("SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster(),
        authorization("SubjectAccessReview", "subjectaccessreviews").cluster(),
        Resource::new("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
            .cluster()
            .names(path_segment)
            .short(&["csr"])
            .sub("approval", verbs::GET_PATCH_UPDATE)
            .status()
            .fields(vec![Field::new("spec.signerName")])
            .columns(cluster::SIGNING_REQUESTS),
    ]
}

fn rbac(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", kind, plural).names(path_segment).create_on_update()
}

fn authorization(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("authorization.k8s.io", "v1", kind, plural).review()
}
