//! CertificateSigningRequests: those of nodes are approved, those that are approved are signed, those
//! nobody needs any more are removed. Follows `pkg/controller/certificates`.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>

mod approve;
mod clean;
mod kubelet;
mod sign;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kit::{Error, meta};
use crate::api::csr::CertificateRequest;

pub use approve::run as run_approving;
pub use clean::run as run_cleaner;
pub use sign::run as run_signing;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// The request has a condition of this type that is true.
fn has(request: &Request, kind: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == kind && c.status == "True")
}

fn conditions(request: &Request) -> &[Condition] {
    request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

/// The certificate, once there is one.
fn certificate(request: &Request) -> Option<&[u8]> {
    let status = request.status.as_ref()?;
    status.certificate.as_ref().map(|c| c.0.as_slice()).filter(|c| !c.is_empty())
}

/// A condition that became true now.
fn condition(kind: &str, reason: &str, message: &str) -> Condition {
    let now: Time = meta::now();
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

fn with_condition(request: &Request, condition: Condition) -> Request {
    let mut changed = request.clone();
    changed.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
    changed
}

fn usages(request: &Request) -> &[String] {
    request.spec.usages.as_deref().unwrap_or_default()
}

fn parsed(request: &Request) -> Result<CertificateRequest, Error> {
    CertificateRequest::parse(&request.spec.request.0)
        .map_err(|e| Error::Invalid(format!("unable to parse csr {:?}: {e}", meta::name(&request.metadata))))
}

#[cfg(test)]
mod testing {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::json;

    /// A request of `user` for a certificate with this subject, names and usages.
    pub fn request(
        signer: &str,
        user: &str,
        subject: (&str, &str),
        names: &[&str],
        usages: &[&str],
    ) -> Request {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, subject.0);
        params.distinguished_name.push(DnType::CommonName, subject.1);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        serde_json::from_value(json!({"metadata": {"name": "r", "creationTimestamp": meta::now()},
            "spec": {"signerName": signer, "username": user, "request": encoded, "usages": usages}}))
        .unwrap()
    }

    pub const CLIENT_USAGES: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
    pub const SERVER_USAGES: [&str; 2] = ["digital signature", "server auth"];
}
