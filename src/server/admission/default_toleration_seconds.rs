//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable.

use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::api::Status;

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

/// The plugin.
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("pods") || !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        let own = tolerations.len();
        for taint in TAINTS {
            if !tolerations[..own].iter().any(|t| tolerates(t, taint)) {
                tolerations.push(
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
                );
            }
        }
        pod["spec"]["tolerations"] = json!(tolerations);
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is = |field: &str, value: &str| toleration[field].as_str().is_none_or(|v| v.is_empty() || v == value);
    is("key", taint) && is("effect", "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

    fn tolerations(own: Value) -> Value {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"tolerations": own}});
        let admitted =
            Request::create("Pod", "pods").admit(&DefaultTolerationSeconds, &Fake::default(), pod).unwrap();
        admitted["spec"]["tolerations"].clone()
    }

    #[test]
    fn both_are_added_unless_they_are_tolerated() {
        let added = tolerations(json!([]));
        assert_eq!(
            added[0],
            json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        );
        assert_eq!(added[1]["key"], "node.kubernetes.io/unreachable");
        let all = json!([{"operator": "Exists"}]);
        assert_eq!(tolerations(all.clone()), all);
        let one = tolerations(
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]),
        );
        assert_eq!(one.as_array().unwrap().len(), 3);
    }
}
