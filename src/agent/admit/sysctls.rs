//! Kernel parameters pods may set: the safe ones, and those the administrator allows
//! (`--kubelet-arg=allowed-unsafe-sysctls`).

use k8s_openapi::api::core::v1::Pod;

use super::Refusal;

/// Upstream's safe list: parameters of a namespace that harm nobody outside the pod.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The namespace a parameter belongs to, by upstream's names.
fn namespace(name: &str) -> Option<&'static str> {
    if name.starts_with("net.") {
        return Some("Net");
    }
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    ipc.iter().any(|p| name.starts_with(p)).then_some("IPC")
}

fn allowed(name: &str, unsafe_ones: &[String]) -> bool {
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    SAFE.contains(&name) || unsafe_ones.iter().map(|p| p.replace('/', ".")).any(|p| matches(&p))
}

/// Refuses a pod that sets a parameter it may not set.
pub(super) fn check(pod: &Pod, unsafe_ones: &[String]) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_deref()).unwrap_or_default();
    for sysctl in sysctls {
        let name = sysctl.name.replace('/', ".");
        let refuse = |why: String| Err(Refusal::new("SysctlForbidden", format!("forbidden sysctl: {why}")));
        let Some(namespace) = namespace(&name).filter(|_| allowed(&name, unsafe_ones)) else {
            return refuse(format!("\"{name}\" not allowlisted"));
        };
        let host = if namespace == "Net" { spec.host_network } else { spec.host_ipc };
        if host == Some(true) {
            return refuse(format!("\"{name}\" not allowed with host {} enabled", namespace.to_lowercase()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_listed_is_refused_in_upstreams_words() {
        for (name, host, unsafe_ones, expected) in [
            ("net.ipv4.tcp_syncookies", false, vec![], None),
            ("kernel/shm_rmid_forced", false, vec![], None),
            ("net.core.somaxconn", false, vec![], Some("\"net.core.somaxconn\" not allowlisted")),
            ("net.core.somaxconn", false, vec!["net.core.*"], None),
            ("kernel.msgmax", false, vec!["kernel.msg*"], None),
            ("kernel.panic", false, vec!["kernel.*"], Some("\"kernel.panic\" not allowlisted")),
            (
                "net.ipv4.tcp_syncookies",
                true,
                vec![],
                Some("\"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
            ),
        ] {
            let pod = json!({"spec": {"containers": [], "hostNetwork": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            let unsafe_ones: Vec<String> = unsafe_ones.into_iter().map(str::to_owned).collect();
            let told = check(&pod, &unsafe_ones).err();
            assert_eq!(
                told.as_ref().map(|r| r.message.as_str()),
                expected.map(|e| format!("forbidden sysctl: {e}")).as_deref()
            );
            assert!(told.is_none_or(|r| r.reason == "SysctlForbidden"), "{name}");
        }
    }
}
