//! Security contexts: the container's over the pod's.

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::ConfigError;
use crate::agent::context::Context;
use crate::agent::paths::Paths;
use crate::agent::spec::full_name;
use crate::runtime::spec::{Image, Seccomp};

/// The security part of a container's specification.
#[derive(Debug, Default)]
pub(super) struct Security {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub readonly_rootfs: bool,
    pub privileged: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
}

/// Works out the effective security context; an error if `runAsNonRoot` is broken.
pub(super) fn security(
    context: &Context,
    pod: &Pod,
    container: &Container,
    image: &Image,
) -> Result<Security, ConfigError> {
    effective(&context.paths, pod, container, &image.user)
}

fn effective(
    paths: &Paths,
    pod: &Pod,
    container: &Container,
    image_user: &str,
) -> Result<Security, ConfigError> {
    let own = container.security_context.clone().unwrap_or_default();
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let user = own.run_as_user.or(shared.run_as_user);
    if own.run_as_non_root.or(shared.run_as_non_root) == Some(true) {
        non_root(user, image_user).map_err(|problem| {
            ConfigError(format!("{problem} (pod: \"{}\", container: {})", full_name(pod), container.name))
        })?;
    }
    let privileged = own.privileged.unwrap_or(false);
    let groups = shared.supplemental_groups.iter().flatten().chain(&shared.fs_group);
    let capabilities = own.capabilities.unwrap_or_default();
    let profile = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    Ok(Security {
        uid: user.map(id).transpose()?,
        gid: own.run_as_group.or(shared.run_as_group).map(id).transpose()?,
        supplemental_groups: groups.map(|g| id(*g)).collect::<Result<_, _>>()?,
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(paths, profile)? },
    })
}

fn id(value: i64) -> Result<u32, ConfigError> {
    u32::try_from(value).map_err(|_| ConfigError(format!("{value} is not a user or group id")))
}

fn non_root(user: Option<i64>, image_user: &str) -> Result<(), String> {
    match user {
        Some(0) => return Err("container's runAsUser breaks non-root policy".into()),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or_default();
    match name.parse::<u32>() {
        Ok(0) => Err("container has runAsNonRoot and image will run as root".into()),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() || name == "root" => {
            Err("container has runAsNonRoot and image will run as root".into())
        }
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
    }
}

fn seccomp(paths: &Paths, profile: Option<&SeccompProfile>) -> Result<Seccomp, ConfigError> {
    match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        None | Some(("Unconfined", _)) => Ok(Seccomp::Unconfined),
        Some(("RuntimeDefault", _)) => Ok(Seccomp::RuntimeDefault),
        Some(("Localhost", Some(file))) if !file.split('/').any(|p| p == "..") => {
            Ok(Seccomp::Localhost(paths.seccomp().join(file.trim_start_matches('/'))))
        }
        Some(("Localhost", _)) => {
            Err(ConfigError("localhostProfile must be set if seccompProfile type is Localhost.".into()))
        }
        Some((other, _)) => Err(ConfigError(format!("unknown seccompProfile type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::path::Path;

    fn case(pod: Value, container: Value, user: &str) -> Result<Security, ConfigError> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": container}]}
        }))
        .expect("a pod");
        let paths = Paths::new(Path::new("/data"));
        effective(&paths, &pod, &pod.spec.as_ref().expect("spec").containers[0], user)
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let pod = json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]});
        let s = case(pod, json!({"runAsUser": 9, "allowPrivilegeEscalation": false}), "").expect("valid");
        assert_eq!((s.uid, s.gid, s.supplemental_groups), (Some(9), Some(2), vec![4, 3]));
        assert!(s.no_new_privileges);
    }

    #[test]
    fn non_root_is_checked() {
        for (user, image, expected) in [
            (Some(0), "1000", Some("container's runAsUser breaks non-root policy")),
            (Some(5), "", None),
            (None, "1000:0", None),
            (None, "", Some("container has runAsNonRoot and image will run as root")),
            (None, "0", Some("container has runAsNonRoot and image will run as root")),
            (
                None,
                "web",
                Some(
                    "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
                ),
            ),
        ] {
            let result = case(json!({"runAsNonRoot": true, "runAsUser": user}), json!({}), image);
            let expected = expected.map(|e| format!("{e} (pod: \"p_ns(u)\", container: c)"));
            assert_eq!(result.err().map(|e| e.to_string()), expected, "{user:?} {image}");
        }
    }

    #[test]
    fn seccomp_profiles() {
        let profile = |p: Value| case(json!({"seccompProfile": p}), json!({}), "").map(|s| s.seccomp);
        assert_eq!(profile(json!({"type": "RuntimeDefault"})).expect("valid"), Seccomp::RuntimeDefault);
        let local = profile(json!({"type": "Localhost", "localhostProfile": "a.json"})).expect("valid");
        assert_eq!(local, Seccomp::Localhost("/data/agent/seccomp/a.json".into()));
        assert!(profile(json!({"type": "Localhost", "localhostProfile": "../a"})).is_err());
        let privileged =
            case(json!({"seccompProfile": {"type": "RuntimeDefault"}}), json!({"privileged": true}), "");
        assert_eq!(privileged.expect("valid").seccomp, Seccomp::Unconfined);
    }
}
