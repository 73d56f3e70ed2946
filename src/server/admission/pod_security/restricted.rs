//! The checks of the restricted standard, beyond the baseline's.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::bad_seccomp_profiles;
use super::pod::{Finding, Pod, container_list, plural, quoted};

/// Volumes that show nothing of the node.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// The first minor version in which Windows pods need not say what has no meaning there.
const WINDOWS_EXEMPT: u32 = 25;
/// The first minor version in which a pod with users of its own may be root.
const OWN_USERS_EXEMPT: u32 = 35;

/// No process gets more rights than its parent has.
pub fn privilege_escalation(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= WINDOWS_EXEMPT && pod.is_windows() {
        return None;
    }
    let bad = pod.containers_that(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", container_list(&bad));
    Finding::new("allowPrivilegeEscalation != false", detail)
}

/// All capabilities are dropped; that for low ports may be added.
pub fn capabilities(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= WINDOWS_EXEMPT && pod.is_windows() {
        return None;
    }
    let list = |container: &Value, field: &str| -> Vec<String> {
        let names = container["securityContext"]["capabilities"][field].as_array();
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let forbidden = |container: &Value| -> Vec<String> {
        list(container, "add").into_iter().filter(|c| c != "NET_BIND_SERVICE").collect()
    };
    let mut details = Vec::new();
    let keeping = pod.containers_that(|c| !list(c, "drop").iter().any(|dropped| dropped == "ALL"));
    if !keeping.is_empty() {
        let who = container_list(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    let adding = pod.containers_that(|c| !forbidden(c).is_empty());
    if !adding.is_empty() {
        let all: BTreeSet<String> = pod.containers().flat_map(forbidden).collect();
        let who = container_list(&adding);
        details.push(format!("{who} must not include {} in securityContext.capabilities.add", quoted(&all)));
    }
    if details.is_empty() { None } else { Finding::new("unrestricted capabilities", details.join("; ")) }
}

/// Volumes are of the harmless kinds.
pub fn volumes(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let kind = |volume: &Value| -> Option<String> {
        let fields = volume.as_object().into_iter().flatten().filter(|(k, v)| *k != "name" && !v.is_null());
        let fields: Vec<&str> = fields.map(|(k, _)| k.as_str()).collect();
        if fields.iter().any(|f| VOLUMES.contains(f)) {
            return None;
        }
        Some((*fields.first().unwrap_or(&"unknown")).to_owned())
    };
    let bad = pod.volumes().iter().filter(|v| kind(v).is_some());
    let bad: Vec<&str> = bad.map(|v| v["name"].as_str().unwrap_or_default()).collect();
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = pod.volumes().iter().filter_map(kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(&bad),
        plural(bad.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(&kinds)
    );
    Finding::new("restricted volume types", detail)
}

/// Nothing runs as root: said by the pod or by each container.
pub fn run_as_non_root(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= OWN_USERS_EXEMPT && pod.has_own_users() {
        return None;
    }
    let setters = pod.setters(|context| context["runAsNonRoot"] == false);
    if !setters.is_empty() {
        let who = setters.join(" and ");
        return Finding::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if pod.security()["runAsNonRoot"] == true {
        return None;
    }
    let silent = pod.containers_that(|c| !c["securityContext"]["runAsNonRoot"].is_boolean());
    if silent.is_empty() {
        return None;
    }
    let who = container_list(&silent);
    Finding::new(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

/// No user id is root's.
pub fn run_as_user(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= OWN_USERS_EXEMPT && pod.has_own_users() {
        return None;
    }
    let setters = pod.setters(|context| context["runAsUser"].as_i64() == Some(0));
    if setters.is_empty() {
        return None;
    }
    Finding::new("runAsUser=0", format!("{} must not set runAsUser=0", setters.join(" and ")))
}

/// System calls are filtered: said by the pod or by each container.
pub fn seccomp_profile(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= WINDOWS_EXEMPT && pod.is_windows() {
        return None;
    }
    if let Some(finding) = bad_seccomp_profiles(pod) {
        return Some(finding);
    }
    if !pod.security()["seccompProfile"].is_null() {
        return None;
    }
    let silent = pod.containers_that(|c| c["securityContext"]["seccompProfile"].is_null());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        container_list(&silent)
    );
    Finding::new("seccompProfile", detail)
}
