//! Where upstream's types say something that k8s-openapi's merge code does not: markers and tags of k8s.io/api.

/// How a list is merged, by server-side apply and by strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFacts {
    /// `x-kubernetes-list-type`: atomic, set or map.
    pub list_type: &'static str,
    /// `x-kubernetes-list-map-keys`.
    pub keys: Vec<String>,
    /// Whether `x-kubernetes-patch-strategy` has `merge`.
    pub merge: bool,
    /// `x-kubernetes-patch-merge-key`.
    pub merge_key: Option<String>,
}

/// Sets that strategic merge patches merge; they replace the others.
const MERGED_SETS: [(&str, &str); 2] = [("ObjectMeta", "finalizers"), ("NodeSpec", "podCIDRs")];

/// Lists with map keys that strategic merge patches replace nevertheless.
const REPLACED_MAPS: [(&str, &str); 11] = [
    ("AllocatedDeviceStatus", "conditions"),
    ("CertificateSigningRequestStatus", "conditions"),
    ("CustomResourceDefinitionStatus", "conditions"),
    ("ResourceClaimStatus", "devices"),
    ("ResourceRequirements", "claims"),
    ("ResourceStatus", "resources"),
    ("StatefulSetSpec", "volumeClaimTemplates"),
    ("StorageVersionStatus", "conditions"),
    ("StorageVersionStatus", "storageVersions"),
    ("ValidatingAdmissionPolicyStatus", "conditions"),
    ("VolumeResourceRequirements", "claims"),
];

/// Lists whose keys for server-side apply are more than the merge key; none means atomic.
const APPLY_KEYS: [(&str, &str, &[&str]); 7] = [
    ("Container", "ports", &["containerPort", "protocol"]),
    ("EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("JobStatus", "conditions", &[]),
    ("PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("PodStatus", "hostIPs", &[]),
    ("ServiceSpec", "ports", &["port", "protocol"]),
    ("StatefulSetSpec", "volumeClaimTemplates", &[]),
];

/// Fields whose keys are retained: `x-kubernetes-patch-strategy: retainKeys`.
const RETAIN_KEYS: [(&str, &str); 4] = [
    ("PodSpec", "volumes"),
    ("PodSpec", "resourceClaims"),
    ("PodStatus", "resourceClaimStatuses"),
    ("DeploymentSpec", "strategy"),
];

/// Objects that strategic merge patches replace: `x-kubernetes-patch-strategy: replace`.
const REPLACED: [(&str, &str); 1] = [("PodDisruptionBudgetSpec", "selector")];

/// Objects that server-side apply sets as a whole: `x-kubernetes-map-type: atomic` of a type.
const ATOMIC_TYPES: [&str; 28] = [
    "admissionregistration.v1.MatchResources",
    "admissionregistration.v1.NamedRuleWithOperations",
    "admissionregistration.v1.ParamKind",
    "admissionregistration.v1.ParamRef",
    "admissionregistration.v1.Variable",
    "autoscaling.v1.CrossVersionObjectReference",
    "core.v1.ConfigMapKeySelector",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.ScopeSelector",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "discovery.v1.EndpointPort",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
    "storage.v1.TokenRequest",
];

/// Defaults of fields that are keys of lists: an item without one is the same item as one with it.
const KEY_DEFAULTS: [(&str, &str, &str); 2] =
    [("ContainerPort", "protocol", "\"TCP\""), ("ServicePort", "protocol", "\"TCP\"")];

fn has(table: &[(&str, &str)], kind: &str, field: &str) -> bool {
    table.contains(&(kind, field))
}

/// Corrects what the merge code says about a list. `kind` is the short name of the type.
pub fn correct(kind: &str, field: &str, mut facts: ListFacts) -> ListFacts {
    facts.merge = match facts.list_type {
        "set" => has(&MERGED_SETS, kind, field),
        "map" => !has(&REPLACED_MAPS, kind, field),
        _ => false,
    };
    facts.merge_key = if facts.merge { facts.keys.first().cloned() } else { None };
    if let Some((_, _, keys)) = APPLY_KEYS.iter().find(|(k, f, _)| (*k, *f) == (kind, field)) {
        facts.list_type = if keys.is_empty() { "atomic" } else { "map" };
        facts.keys = keys.iter().map(|k| (*k).to_owned()).collect();
    }
    facts
}

/// Whether `x-kubernetes-patch-strategy` has `retainKeys`.
pub fn retains_keys(kind: &str, field: &str) -> bool {
    has(&RETAIN_KEYS, kind, field)
}

/// Whether `x-kubernetes-patch-strategy` is `replace`.
pub fn is_replaced(kind: &str, field: &str) -> bool {
    has(&REPLACED, kind, field)
}

/// Whether a definition is set as a whole.
pub fn is_atomic(definition: &str) -> bool {
    ATOMIC_TYPES.iter().any(|t| definition.ends_with(&format!(".{t}")))
}

/// The JSON of a field's default.
pub fn default(kind: &str, field: &str) -> Option<&'static str> {
    KEY_DEFAULTS.iter().find(|(k, f, _)| (*k, *f) == (kind, field)).map(|(_, _, json)| *json)
}
