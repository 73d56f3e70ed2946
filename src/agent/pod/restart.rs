//! Whether a container that ended runs again: its own rules first, its own policy, the pod's policy
//! (KEP-5307, KEP-5532).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};

const RESTART: &str = "Restart";
const RESTART_ALL: &str = "RestartAllContainers";

/// Reason of containers that were removed because one of them ended with a code that restarts all.
pub(crate) const RESTARTING_ALL: &str = "RestartingAllContainers";
/// Its message.
pub(crate) const RESTARTING_ALL_MESSAGE: &str =
    "The container is removed because RestartAllContainers in place";

fn matching(container: &Container, code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_ref().is_some_and(|v| v.contains(&code));
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// The container is started again after it ended with `code`.
pub(crate) fn again(spec: &PodSpec, container: &Container, code: i32) -> bool {
    let by_policy = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    if let Some(policy) = &container.restart_policy {
        if matching(container, code).is_some_and(|rule| rule.action == RESTART) {
            return true;
        }
        if let Some(verdict) = by_policy(policy) {
            return verdict;
        }
    }
    by_policy(spec.restart_policy.as_deref().unwrap_or("Always")).unwrap_or(true)
}

/// All containers of the pod start anew when this one ends with `code`.
pub(crate) fn all(container: &Container, code: i32) -> bool {
    matching(container, code).is_some_and(|rule| rule.action == RESTART_ALL)
}

/// Some container of the pod may restart all.
pub(crate) fn may_restart_all(spec: &PodSpec) -> bool {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.flat_map(|c| c.restart_policy_rules.iter().flatten()).any(|r| r.action == RESTART_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_come_before_the_containers_policy_and_that_before_the_pods() {
        let rule = |action: &str, operator: &str, codes: &[i32]| json!({"action": action, "exitCodes": {"operator": operator, "values": codes}});
        for (pod, own, rules, code, expected) in [
            ("Never", None, json!([]), 0, false),
            ("OnFailure", None, json!([]), 0, false),
            ("OnFailure", None, json!([]), 1, true),
            ("Always", None, json!([]), 0, true),
            ("Always", Some("Never"), json!([]), 1, false),
            ("Never", Some("OnFailure"), json!([]), 1, true),
            ("Never", Some("Never"), json!([rule("Restart", "In", &[3, 4])]), 4, true),
            ("Never", Some("Never"), json!([rule("Restart", "In", &[3, 4])]), 5, false),
            ("Never", Some("Never"), json!([rule("Restart", "NotIn", &[3])]), 5, true),
            ("Never", Some("Never"), json!([rule("Restart", "NotIn", &[3])]), 3, false),
            ("Never", Some("Never"), json!([rule("RestartAllContainers", "In", &[3])]), 3, false),
        ] {
            let spec = json!({"restartPolicy": pod, "containers": [{"name": "c", "restartPolicy": own, "restartPolicyRules": rules}]});
            let spec: PodSpec = serde_json::from_value(spec.clone()).expect("a spec");
            assert_eq!(again(&spec, &spec.containers[0], code), expected, "{spec:?} {code}");
        }
    }

    #[test]
    fn one_may_restart_all() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]}]}))
        .expect("a spec");
        assert!(may_restart_all(&spec) && all(&spec.containers[0], 42) && !all(&spec.containers[0], 1));
        assert!(!may_restart_all(&PodSpec::default()));
    }
}
