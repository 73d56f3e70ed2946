//! The checks of the baseline standard.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Finding, Pod, container_list, plural, quoted, values_at};

/// What containers have without asking.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SAFE_PROFILES: [&str; 2] = ["RuntimeDefault", "Localhost"];
/// Kernel parameters that belong to the pod alone, with the minor version since which they count as safe.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn set(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

/// AppArmor profiles are the runtime's or the node's own, and not switched off.
pub fn apparmor_profile(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let bad_type = |context: &Value| {
        let profile = &context["appArmorProfile"];
        !profile.is_null() && !SAFE_PROFILES.contains(&profile["type"].as_str().unwrap_or_default())
    };
    let mut setters = pod.setters(bad_type);
    let values = values_at(pod, "/appArmorProfile/type", |v| !SAFE_PROFILES.contains(&v));
    let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
    let safe = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APPARMOR) && !safe(value))
        .map(|(key, value)| format!("{key}={}", crate::api::field::quote(value)))
        .collect();
    if !annotations.is_empty() {
        annotations.sort();
        setters.push(plural(annotations.len(), "annotation", "annotations").to_owned());
        values.append(&mut annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    Finding::new(
        reason,
        format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values)),
    )
}

/// Capabilities that are added are among those that containers have anyway.
pub fn capabilities(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let bad = |container: &Value| -> Vec<String> {
        let added = container["securityContext"]["capabilities"]["add"].as_array();
        let added = added.into_iter().flatten().filter_map(Value::as_str);
        added.filter(|c| !CAPABILITIES.contains(c)).map(str::to_owned).collect()
    };
    let containers = pod.containers_that(|c| !bad(c).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(bad).collect();
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        container_list(&containers),
        quoted(&all)
    );
    Finding::new("non-default capabilities", detail)
}

/// The node's network, processes and memory segments are not shared.
pub fn host_namespaces(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { Finding::new("host namespaces", shared.join(", ")) }
}

/// The node's files are not mounted.
pub fn host_path_volumes(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let volumes = pod.volumes().iter().filter(|v| !v["hostPath"].is_null());
    let volumes: Vec<&str> = volumes.map(|v| v["name"].as_str().unwrap_or_default()).collect();
    if volumes.is_empty() {
        return None;
    }
    Finding::new(
        "hostPath volumes",
        format!("{} {}", plural(volumes.len(), "volume", "volumes"), quoted(&volumes)),
    )
}

/// The node's ports are not taken.
pub fn host_ports(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|p| p["hostPort"].as_i64()).filter(|p| *p != 0).map(|p| p.to_string()).collect()
    };
    let containers = pod.containers_that(|c| !ports(c).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        container_list(&containers),
        plural(containers.len(), "uses", "use"),
        plural(all.len(), "hostPort", "hostPorts"),
        all.into_iter().collect::<Vec<_>>().join(", ")
    );
    Finding::new("hostPort", detail)
}

/// Probes and hooks reach the pod, not other machines.
pub fn host_probes(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let hosts = |container: &Value| -> Vec<String> {
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        let hosts = handlers.into_iter().flat_map(|h| [&h["httpGet"]["host"], &h["tcpSocket"]["host"]]);
        hosts.filter(|h| set(h)).filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let containers: BTreeSet<&str> = pod.containers_that(|c| !hosts(c).is_empty()).into_iter().collect();
    let containers: Vec<&str> = containers.into_iter().collect();
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        container_list(&containers),
        plural(containers.len(), "uses", "use"),
        plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(&all)
    );
    Finding::new("probe or lifecycle host", detail)
}

/// No container has all rights.
pub fn privileged(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let containers = pod.containers_that(|c| c["securityContext"]["privileged"] == true);
    if containers.is_empty() {
        return None;
    }
    Finding::new(
        "privileged",
        format!("{} must not set securityContext.privileged=true", container_list(&containers)),
    )
}

/// What the runtime hides of `/proc` stays hidden; a pod with users of its own may see it since v1.35.
pub fn proc_mount(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor >= 35 && pod.has_own_users() { None } else { any_proc_mount(pod, minor) }
}

/// What the runtime hides of `/proc` stays hidden.
pub fn any_proc_mount(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let of = |container: &Value| container["securityContext"]["procMount"].as_str().map(str::to_owned);
    let bad = |container: &Value| of(container).filter(|kind| kind != "Default");
    let containers = pod.containers_that(|c| bad(c).is_some());
    let all: BTreeSet<String> = pod.containers().filter_map(bad).collect();
    if containers.is_empty() {
        return None;
    }
    Finding::new(
        "procMount",
        format!("{} must not set securityContext.procMount to {}", container_list(&containers), quoted(&all)),
    )
}

/// SELinux types are those of containers; users and roles are not set.
pub fn selinux_options(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    let allowed = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (minor >= 31 && kind == "container_engine_t")
    };
    let bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        !allowed(options["type"].as_str().unwrap_or_default())
            || set(&options["user"])
            || set(&options["role"])
    };
    let setters = pod.setters(bad);
    if setters.is_empty() {
        return None;
    }
    let types = values_at(pod, "/seLinuxOptions/type", |kind| !allowed(kind));
    let mut wrong = Vec::new();
    if !types.is_empty() {
        wrong.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    for field in ["user", "role"] {
        if !values_at(pod, &format!("/seLinuxOptions/{field}"), |v| !v.is_empty()).is_empty() {
            wrong.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.join(" and "),
        wrong.join("; ")
    );
    Finding::new("seLinuxOptions", detail)
}

/// System calls are filtered as the runtime does, or by the node's own profile.
pub fn seccomp_profile(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    if minor < 19 { seccomp_annotations(pod) } else { bad_seccomp_profiles(pod) }
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Finding> {
    let safe = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let names: Vec<&str> = pod.containers_that(|_| true);
    let of_pod = |key: &str| {
        key == SECCOMP_POD || key.strip_prefix(SECCOMP_CONTAINER).is_some_and(|name| names.contains(&name))
    };
    let bad = pod.annotations().filter(|(key, value)| of_pod(key) && !safe(value));
    let bad: BTreeSet<String> = bad.map(|(k, v)| format!("{k}={}", crate::api::field::quote(v))).collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural(bad.len(), "annotation", "annotations");
    let list = bad.into_iter().collect::<Vec<_>>().join(", ");
    Finding::new("seccompProfile", format!("forbidden {word} {list}"))
}

/// The profiles that are set are safe ones.
pub fn bad_seccomp_profiles(pod: Pod<'_>) -> Option<Finding> {
    let bad = |context: &Value| {
        let profile = &context["seccompProfile"];
        !profile.is_null() && !SAFE_PROFILES.contains(&profile["type"].as_str().unwrap_or_default())
    };
    let setters = pod.setters(bad);
    if setters.is_empty() {
        return None;
    }
    let values = values_at(pod, "/seccompProfile/type", |v| !SAFE_PROFILES.contains(&v));
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters.join(" and "),
        quoted(&values)
    );
    Finding::new("seccompProfile", detail)
}

/// Kernel parameters are those that belong to the pod alone.
pub fn sysctls(pod: Pod<'_>, minor: u32) -> Option<Finding> {
    let safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= minor);
    let sysctls = pod.security()["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> = sysctls.filter_map(|s| s["name"].as_str()).filter(|name| !safe(name)).collect();
    if bad.is_empty() { None } else { Finding::new("forbidden sysctls", bad.join(", ")) }
}

/// On Windows, no process is the host's.
pub fn windows_host_process(pod: Pod<'_>, _: u32) -> Option<Finding> {
    let setters = pod.setters(|context| context["windowsOptions"]["hostProcess"] == true);
    if setters.is_empty() {
        return None;
    }
    let who = setters.join(" and ");
    Finding::new("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
