//! Pods that demand an AppArmor profile need a kernel that has AppArmor.

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

use super::Refusal;
use crate::agent::spec::all_containers;

/// Refuses a pod that demands a profile where the kernel has none to enforce.
pub(super) fn check(pod: &Pod, enabled: bool) -> Result<(), Refusal> {
    let Some(spec) = pod.spec.as_ref().filter(|_| !enabled) else { return Ok(()) };
    let demands = |profile: Option<&AppArmorProfile>| profile.is_some_and(|p| p.type_ != "Unconfined");
    let shared = spec.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let required = all_containers(spec).iter().any(|c| {
        let own = c.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
        demands(own.or(shared))
    });
    if !required {
        return Ok(());
    }
    let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    Err(Refusal::new("AppArmor", message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_profile_needs_a_kernel_that_has_it() {
        let refused = |pod: Value, container: Value, enabled| {
            let pod = json!({"spec": {"securityContext": {"appArmorProfile": pod},
                "containers": [{"name": "c", "securityContext": {"appArmorProfile": container}}]}});
            check(&serde_json::from_value(pod).expect("a pod"), enabled).err().map(|r| (r.reason, r.message))
        };
        let [default, unconfined, none] =
            [json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}), json!(null)];
        let local = json!({"type": "Localhost", "localhostProfile": "p"});
        let why = ("AppArmor".into(), "Cannot enforce AppArmor: AppArmor is not enabled on the host".into());
        for (pod, container, refuses) in [
            (&none, &none, false),
            (&none, &default, true),
            (&none, &local, true),
            (&default, &none, true),
            (&default, &unconfined, false),
            (&unconfined, &local, true),
        ] {
            let told = refused(pod.clone(), container.clone(), false);
            assert_eq!(told, refuses.then(|| why.clone()), "{pod} {container}");
            assert_eq!(refused(pod.clone(), container.clone(), true), None);
        }
    }
}
