//! Network, storage, access and extension kinds: upstream's defaults of their groups.

use serde_json::{Value, json};

use super::Fixed::{Bool, Int, Object, OptionalText, Text};
use super::{Fields, Rule, fixed, is_empty_list, object, text, with};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) const RULES: &[Rule] = &[
    fixed("networking.v1.Ingress", &[("status", Object)]),
    fixed("networking.v1.IngressStatus", &[("loadBalancer", Object)]),
    fixed("networking.v1.IngressClassParametersReference", &[("scope", OptionalText("Cluster"))]),
    fixed("networking.v1.NetworkPolicyPort", &[("protocol", OptionalText("TCP"))]),
    with("networking.v1.NetworkPolicySpec", &[("podSelector", Object)], network_policy),
    fixed("discovery.v1.EndpointPort", &[("name", OptionalText("")), ("protocol", OptionalText("TCP"))]),
    fixed(
        "storage.v1.StorageClass",
        &[("reclaimPolicy", OptionalText("Delete")), ("volumeBindingMode", OptionalText("Immediate"))],
    ),
    with(
        "storage.v1.CSIDriverSpec",
        &[
            ("attachRequired", Bool(true)),
            ("fsGroupPolicy", OptionalText("ReadWriteOnceWithFSType")),
            ("podInfoOnMount", Bool(false)),
            ("requiresRepublish", Bool(false)),
            ("seLinuxMount", Bool(false)),
            ("storageCapacity", Bool(false)),
        ],
        csi_driver,
    ),
    fixed("scheduling.v1.PriorityClass", &[("preemptionPolicy", OptionalText("PreemptLowerPriority"))]),
    fixed("rbac.v1.RoleRef", &[("apiGroup", Text(RBAC))]),
    with("rbac.v1.Subject", &[], subject),
    fixed("authentication.v1.TokenRequestSpec", &[("expirationSeconds", Int(3600))]),
    fixed(
        "admissionregistration.v1.MutatingWebhook",
        &[
            ("failurePolicy", OptionalText("Fail")),
            ("matchPolicy", OptionalText("Equivalent")),
            ("namespaceSelector", Object),
            ("objectSelector", Object),
            ("reinvocationPolicy", OptionalText("Never")),
            ("timeoutSeconds", Int(10)),
        ],
    ),
    fixed(
        "admissionregistration.v1.ValidatingWebhook",
        &[
            ("failurePolicy", OptionalText("Fail")),
            ("matchPolicy", OptionalText("Equivalent")),
            ("namespaceSelector", Object),
            ("objectSelector", Object),
            ("timeoutSeconds", Int(10)),
        ],
    ),
    fixed("admissionregistration.v1.RuleWithOperations", &[("scope", OptionalText("*"))]),
    fixed("admissionregistration.v1.NamedRuleWithOperations", &[("scope", OptionalText("*"))]),
    fixed("admissionregistration.v1.ServiceReference", &[("port", Int(443))]),
    fixed(
        "admissionregistration.v1.ValidatingAdmissionPolicySpec",
        &[("failurePolicy", OptionalText("Fail"))],
    ),
    fixed("admissionregistration.v1.MutatingAdmissionPolicySpec", &[("failurePolicy", OptionalText("Fail"))]),
    fixed(
        "admissionregistration.v1.MatchResources",
        &[
            ("matchPolicy", OptionalText("Equivalent")),
            ("namespaceSelector", Object),
            ("objectSelector", Object),
        ],
    ),
    with("apiextensions.v1.CustomResourceDefinitionSpec", &[("conversion", Object)], custom_resource),
    fixed("apiextensions.v1.CustomResourceConversion", &[("strategy", Text("None"))]),
    fixed("apiextensions.v1.ServiceReference", &[("port", Int(443))]),
    fixed("apiregistration.v1.ServiceReference", &[("port", Int(443))]),
];

fn network_policy(spec: &mut Fields) {
    if is_empty_list(spec, "policyTypes") {
        let egress = !is_empty_list(spec, "egress");
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

fn csi_driver(spec: &mut Fields) {
    if is_empty_list(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
}

fn subject(subject: &mut Fields) {
    if text(subject, "apiGroup").is_empty() && matches!(text(subject, "kind"), "User" | "Group") {
        subject.insert("apiGroup".into(), RBAC.into());
    }
}

fn custom_resource(spec: &mut Fields) {
    let Some(names) = object(spec, "names") else {
        return;
    };
    let kind = text(names, "kind").to_owned();
    if text(names, "singular").is_empty() {
        names.insert("singular".into(), Value::from(kind.to_lowercase()));
    }
    if text(names, "listKind").is_empty() && !kind.is_empty() {
        names.insert("listKind".into(), format!("{kind}List").into());
    }
}
