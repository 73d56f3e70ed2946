//! Security contexts of pods and containers: `validatePodSpecSecurityContext`, `ValidateSecurityContext`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::volume::descending;
use super::{Scope, windows};
use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, items, text};

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const MAX_ID: i64 = i32::MAX as i64;
const MAX_SYSCTL: usize = 253;
/// As upstream shows it.
const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// The longest path of a profile.
const MAX_PROFILE: usize = 4095;

/// `spec.securityContext`
pub fn of_pod(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let context = &scope.spec["securityContext"];
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        errors.within(&path.child(field), &context[field], 0, MAX_ID);
    }
    for (group, path) in indexed(&context["supplementalGroups"], &path.child("supplementalGroups")) {
        errors.within(&path, group, 0, MAX_ID);
    }
    if scope.flag("shareProcessNamespace") && scope.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(scope, &path.child("sysctls"), errors);
    let choices: [(&str, &[&str]); 3] = [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ];
    let choose = |index: usize, errors: &mut Errors| {
        let (field, supported) = choices[index];
        let value = &context[field];
        if !value.is_null() && !supported.contains(&text(value)) {
            errors.push(FieldError::not_supported(&path.child(field), value.clone(), supported));
        }
    };
    choose(0, errors);
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    windows::options(&context["windowsOptions"], &path.child("windowsOptions"), errors);
    app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
    choose(1, errors);
    choose(2, errors);
}

/// The security context of a container.
pub fn of_container(context: &Value, scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        errors.within(&path.child(field), &context[field], 0, MAX_ID);
    }
    let (mount, at) = (&context["procMount"], path.child("procMount"));
    if !mount.is_null() {
        if !matches!(text(mount), "Default" | "Unmasked") {
            errors.push(FieldError::not_supported(&at, mount.clone(), &["Default", "Unmasked"]));
        }
        if mount == "Unmasked" && scope.spec["hostUsers"] != false {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&at, mount.clone(), detail));
        }
    }
    seccomp(&context["seccompProfile"], &path.child("seccompProfile"), errors);
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        for _ in items(&context["capabilities"]["add"]).iter().filter(|c| *c == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
    windows::options(&context["windowsOptions"], &path.child("windowsOptions"), errors);
    app_armor(&context["appArmorProfile"], &path.child("appArmorProfile"), errors);
}

fn seccomp(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let (kind, local) = (text(&profile["type"]), &profile["localhostProfile"]);
    let (type_at, local_at) = (path.child("type"), path.child("localhostProfile"));
    if kind.is_empty() {
        errors.push(FieldError::required(&type_at, "type is required when seccompProfile is set"));
    } else if !PROFILE_TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&type_at, kind, &PROFILE_TYPES));
    }
    match (kind, local.is_null()) {
        ("Localhost", true) => {
            let detail = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&local_at, detail));
        }
        ("Localhost", false) => descending(local, &local_at, errors),
        (_, false) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&local_at, profile.clone(), detail));
        }
        _ => {}
    }
}

/// `ValidateAppArmorProfileField`
pub fn app_armor(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let (local, at) = (&profile["localhostProfile"], path.child("localhostProfile"));
    let missing = "must be set when AppArmor type is Localhost";
    match text(&profile["type"]) {
        "Localhost" if local.is_null() => errors.push(FieldError::required(&at, missing)),
        "Localhost" => {
            let name = text(local);
            if name.trim() != name {
                errors.push(FieldError::invalid(&at, name, "must not be padded with whitespace"));
            } else if name.is_empty() {
                errors.push(FieldError::required(&at, missing));
            }
            if name.len() > MAX_PROFILE {
                errors.push(FieldError::too_long(&at, MAX_PROFILE));
            }
        }
        "RuntimeDefault" | "Unconfined" if !local.is_null() => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(&at, local.clone(), detail));
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => {
            let detail = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(&path.child("type"), detail));
        }
        other => errors.push(FieldError::not_supported(&path.child("type"), other, &PROFILE_TYPES)),
    }
}

fn sysctls(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (sysctl, path) in indexed(&scope.spec["securityContext"]["sysctls"], path) {
        let (name, at) = (text(&sysctl["name"]), path.child("name"));
        let fresh = seen.insert(name);
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !is_sysctl(name) {
            let detail = format!("must have at most {MAX_SYSCTL} characters and match regex {SYSCTL}");
            errors.push(FieldError::invalid(&at, name, detail));
        } else if !fresh {
            errors.push(FieldError::duplicate(&at, name));
        }
        let shared = match sysctl_namespace(name) {
            Some("net") => "hostNetwork",
            Some("ipc") => "hostIPC",
            _ => continue,
        };
        if scope.flag(shared) {
            let detail = format!("may not be specified when '{shared}' is true");
            errors.push(FieldError::invalid(&at, name, detail));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= MAX_SYSCTL
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| edge(Some(b)) || matches!(b, b'-' | b'_'))
        })
}

/// Which kernel namespace has its own value of this.
fn sysctl_namespace(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    match name.as_str() {
        "kernel.sem" => Some("ipc"),
        _ if of_ipc => Some("ipc"),
        other => other.starts_with("net.").then_some("net"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_have_names_and_namespaces() {
        for good in ["kernel.shm_rmid_forced", "net.ipv4.ip_forward", "net/ipv4/conf/eth-0/x", "a"] {
            assert!(is_sysctl(good), "{good}");
        }
        for bad in ["", "A.b", "a..b", "-a", "a.b-", "a b", &"a".repeat(254)] {
            assert!(!is_sysctl(bad), "{bad}");
        }
        assert_eq!(sysctl_namespace("net/ipv4/ip_forward"), Some("net"));
        assert_eq!(sysctl_namespace("kernel.msgmax"), Some("ipc"));
        assert_eq!(sysctl_namespace("vm.swappiness"), None);
    }
}
