//! Security contexts: the container's over the pod's.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SeccompProfile};

use super::ConfigError;
use crate::agent::context::Context;
use crate::agent::paths::Paths;
use crate::agent::spec::full_name;
use crate::runtime::apparmor::{DEFAULT_PROFILE, Machine};
use crate::runtime::spec::{Image, Seccomp};

/// Where manifests written for kubelet expect their profiles to be.
const KUBELET_PROFILES: &str = "/var/lib/kubelet/seccomp";

/// The security part of a container's specification.
#[derive(Debug, Default)]
pub(super) struct Security {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub strict_groups: bool,
    pub readonly_rootfs: bool,
    pub privileged: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub apparmor: Option<String>,
    pub unmasked: bool,
}

/// What the node has to say.
struct Node<'a> {
    paths: &'a Paths,
    /// Containers without a profile get the runtime's.
    seccomp_default: bool,
    /// AppArmor profiles can be applied.
    apparmor: bool,
}

/// Works out the effective security context; an error if `runAsNonRoot` is broken.
pub(super) fn security(
    context: &Context,
    pod: &Pod,
    container: &Container,
    image: &Image,
) -> Result<Security, ConfigError> {
    let node = Node {
        paths: &context.paths,
        seccomp_default: context.settings.kubelet.seccomp_default,
        apparmor: Machine::this().is_usable(),
    };
    effective(&node, pod, container, &image.user)
}

fn effective(
    node: &Node<'_>,
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
    let apparmor = own.app_armor_profile.as_ref().or(shared.app_armor_profile.as_ref());
    Ok(Security {
        uid: user.map(id).transpose()?,
        gid: own.run_as_group.or(shared.run_as_group).map(id).transpose()?,
        supplemental_groups: groups.map(|g| id(*g)).collect::<Result<_, _>>()?,
        strict_groups: shared.supplemental_groups_policy.as_deref() == Some("Strict"),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(node, profile)? },
        apparmor: self::apparmor(node, apparmor, privileged)?,
        unmasked: own.proc_mount.as_deref() == Some("Unmasked"),
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
        Err(_) if name.is_empty() => Err("container has runAsNonRoot and image will run as root".into()),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
    }
}

/// The profile to apply: as with containerd the default one where a pod says nothing and AppArmor can be had.
/// It does not confine privileged containers.
fn apparmor(
    node: &Node<'_>,
    profile: Option<&AppArmorProfile>,
    privileged: bool,
) -> Result<Option<String>, ConfigError> {
    let default = || (!privileged).then(|| DEFAULT_PROFILE.to_owned());
    match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("Unconfined", _)) => Ok(None),
        None if !node.apparmor => Ok(None),
        Some(_) if !node.apparmor => Err(ConfigError("apparmor is not supported".into())),
        None | Some(("RuntimeDefault", _)) => Ok(default()),
        Some(("Localhost", Some(name))) => Ok(Some(name.to_owned())),
        Some(("Localhost", None)) => {
            Err(ConfigError("localhostProfile must be set if appArmorProfile type is Localhost.".into()))
        }
        Some((other, _)) => Err(ConfigError(format!("unknown appArmorProfile type {other:?}"))),
    }
}

/// The file of a profile below the node's directory of profiles, or below kubelet's well-known one.
fn profile_file(node: &Node<'_>, name: &str) -> PathBuf {
    let name = name.trim_start_matches('/');
    let own = node.paths.seccomp().join(name);
    let kubelets = Path::new(KUBELET_PROFILES).join(name);
    if !own.exists() && kubelets.exists() { kubelets } else { own }
}

fn seccomp(node: &Node<'_>, profile: Option<&SeccompProfile>) -> Result<Seccomp, ConfigError> {
    match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        None if node.seccomp_default => Ok(Seccomp::RuntimeDefault),
        None | Some(("Unconfined", _)) => Ok(Seccomp::Unconfined),
        Some(("RuntimeDefault", _)) => Ok(Seccomp::RuntimeDefault),
        Some(("Localhost", Some(file))) if !file.split('/').any(|p| p == "..") => {
            Ok(Seccomp::Localhost(profile_file(node, file)))
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

    fn case(pod: Value, container: Value, user: &str) -> Result<Security, ConfigError> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": container}]}
        }))
        .expect("a pod");
        let paths = Paths::new(Path::new("/data"));
        let node =
            Node { paths: &paths, seccomp_default: user == "seccomp-default", apparmor: user == "apparmor" };
        effective(&node, &pod, &pod.spec.as_ref().expect("spec").containers[0], user)
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
            (
                None,
                "root",
                Some(
                    "container has runAsNonRoot and image has non-numeric user (root), cannot verify user is non-root",
                ),
            ),
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
        let default = |pod: Value| case(pod, json!({}), "seccomp-default").expect("valid").seccomp;
        assert_eq!(default(json!({})), Seccomp::RuntimeDefault);
        assert_eq!(default(json!({"seccompProfile": {"type": "Unconfined"}})), Seccomp::Unconfined);
    }

    #[test]
    fn apparmor_profiles() {
        let profile = |p: Value, privileged: bool, user: &str| {
            case(json!({"appArmorProfile": p}), json!({"privileged": privileged}), user)
                .map(|s| s.apparmor)
                .map_err(|e| e.to_string())
        };
        let (missing, default) =
            (Err("apparmor is not supported".to_owned()), Ok(Some(DEFAULT_PROFILE.to_owned())));
        let local = json!({"type": "Localhost", "localhostProfile": "p"});
        for (asked, privileged, without, with) in [
            (json!(null), false, Ok(None), default.clone()),
            (json!(null), true, Ok(None), Ok(None)),
            (json!({"type": "RuntimeDefault"}), false, missing.clone(), default),
            (json!({"type": "RuntimeDefault"}), true, missing.clone(), Ok(None)),
            (json!({"type": "Unconfined"}), false, Ok(None), Ok(None)),
            (local.clone(), false, missing.clone(), Ok(Some("p".into()))),
            (local, true, missing, Ok(Some("p".into()))),
        ] {
            assert_eq!(profile(asked.clone(), privileged, ""), without, "{asked} {privileged}");
            assert_eq!(profile(asked.clone(), privileged, "apparmor"), with, "{asked} {privileged}");
        }
    }

    #[test]
    fn strict_groups_and_an_open_proc() {
        let strict =
            case(json!({"supplementalGroupsPolicy": "Strict"}), json!({"procMount": "Unmasked"}), "");
        let strict = strict.expect("valid");
        assert!(strict.strict_groups && strict.unmasked);
        let merge = case(json!({"supplementalGroupsPolicy": "Merge"}), json!({"procMount": "Default"}), "");
        let merge = merge.expect("valid");
        assert!(!merge.strict_groups && !merge.unmasked);
    }
}
