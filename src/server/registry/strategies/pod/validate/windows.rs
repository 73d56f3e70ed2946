//! What concerns pods of Windows nodes, and the operating system a pod says it needs.

use serde_json::Value;

use super::{Scope, containers};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, is_empty, text};

const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_FOR_LINUX: &str = "windows options cannot be set for a linux pod";
/// Fields of a pod's security context that Windows has not.
const POD_CONTEXT: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
/// Fields of a pod's spec that Windows has not.
const POD: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
/// Fields of a container's security context that Windows has not.
const CONTAINER_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
const MAX_SPEC_KIB: usize = 64;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// Containers of all lists with the paths of their security contexts.
fn contexts<'a>(spec: &'a Value, path: &Path) -> Vec<(&'a Value, Path)> {
    containers(spec, path)
        .map(|(container, at)| (&container["securityContext"], at.child("securityContext")))
        .collect()
}

/// `validateOS`, `validateLinux`, `validateWindows`
pub fn operating_system(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let spec = scope.spec;
    if spec["os"].is_null() {
        return;
    }
    let at = path.child("os");
    match text(&spec["os"]["name"]) {
        "" => errors.push(FieldError::required(&at.child("name"), "cannot be empty")),
        "linux" => {
            let pod = (&spec["securityContext"], path.child("securityContext"));
            for (context, at) in std::iter::once(pod).chain(contexts(spec, path)) {
                if !context["windowsOptions"].is_null() {
                    errors.push(FieldError::forbidden(&at.child("windowsOptions"), NOT_FOR_LINUX));
                }
            }
        }
        "windows" => windows(spec, path, errors),
        other => errors.push(FieldError::not_supported(&at, other, &["linux", "windows"])),
    }
}

fn windows(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut refuse = |value: &Value, at: Path| {
        if !is_empty(value) {
            errors.push(FieldError::forbidden(&at, NOT_FOR_WINDOWS));
        }
    };
    let (context, at) = (&spec["securityContext"], path.child("securityContext"));
    POD_CONTEXT.iter().for_each(|field| refuse(&context[*field], at.child(field)));
    POD.iter().for_each(|field| refuse(&spec[*field], path.child(field)));
    for (context, at) in contexts(spec, path) {
        CONTAINER_CONTEXT.iter().for_each(|field| refuse(&context[*field], at.child(field)));
    }
}

/// `validateWindowsHostProcessPod`
pub fn host_process(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    let spec = scope.spec;
    let of_pod = &spec["securityContext"]["windowsOptions"]["hostProcess"];
    let all = contexts(spec, path);
    let mut on_host = 0;
    for (context, at) in &all {
        let own = &context["windowsOptions"]["hostProcess"];
        if !of_pod.is_null() && !own.is_null() && own != of_pod {
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            let at = at.child("windowsOptions").child("hostProcess");
            errors.push(FieldError::invalid(&at, own.clone(), detail));
        }
        on_host += usize::from(*own == true || (own.is_null() && *of_pod == true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != all.len() {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", detail));
    }
    if !scope.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, detail));
    }
}

/// `validateWindowsSecurityContextOptions`
pub fn options(options: &Value, path: &Path, errors: &mut Errors) {
    let (name, at) = (&options["gmsaCredentialSpecName"], path.child("gmsaCredentialSpecName"));
    if !name.is_null() {
        errors.invalid_all(&at, name, names::dns1123_subdomain(text(name)));
    }
    let (spec, at) = (&options["gmsaCredentialSpec"], path.child("gmsaCredentialSpec"));
    match text(spec).len() {
        _ if spec.is_null() => {}
        0 => errors.push(FieldError::invalid(&at, "", "gmsaCredentialSpec cannot be an empty string")),
        length if length > MAX_SPEC_KIB << 10 => {
            let detail = format!("gmsaCredentialSpec size must be under {MAX_SPEC_KIB} KiB");
            errors.push(FieldError::invalid(&at, spec.clone(), detail));
        }
        _ => {}
    }
    let user = &options["runAsUserName"];
    if !user.is_null() {
        errors.invalid_all(&path.child("runAsUserName"), user, user_name(text(user)));
    }
}

/// What is wrong with `[DOMAIN\]USER`.
fn user_name(name: &str) -> Vec<String> {
    let one = |why: &str| vec![format!("runAsUserName {why}")];
    if name.is_empty() {
        return one("cannot be an empty string");
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return one("cannot contain control characters");
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>().as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return one("cannot contain more than one backslash"),
    };
    let mut reasons = Vec::new();
    let mut wrong = |why: String| reasons.push(format!("runAsUserName's {why}"));
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            wrong(format!("Domain length must be under {MAX_DOMAIN} characters"));
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            wrong("Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        wrong("User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        wrong(format!("User length must not be longer than {MAX_USER} characters"));
    }
    if !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')) {
        wrong("User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        wrong("User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned());
    }
    reasons
}

fn is_net_bios(domain: &str) -> bool {
    let banned = |c: char| matches!(c, '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\\');
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(banned)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| names::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_windows_have_domain_and_name() {
        for good in ["Admin", "DOMAIN\\Admin", "corp.example.com\\a.b"] {
            assert_eq!(user_name(good), [] as [&str; 0], "{good}");
        }
        for (bad, why) in [
            ("", "runAsUserName cannot be an empty string"),
            ("a\u{1}", "runAsUserName cannot contain control characters"),
            ("a\\b\\c", "runAsUserName cannot contain more than one backslash"),
            ("a:b\\c", "runAsUserName's Domain doesn't match the NetBios nor the DNS format"),
            ("a\\", "runAsUserName's User cannot be empty"),
            ("..", "runAsUserName's User cannot contain only periods or spaces"),
            ("a@b", "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
        ] {
            assert_eq!(user_name(bad), [why], "{bad}");
        }
    }
}
