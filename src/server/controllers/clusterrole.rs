//! Aggregated ClusterRoles: their rules are those of the roles their selectors choose.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use tokio_util::sync::CancellationToken;

use super::kit::informer::Key;
use super::kit::meta::{self, Matcher};
use super::kit::{Context, Next, Queue, patch};
use crate::supervisor::TaskError;

const WORKERS: usize = 2;

/// Runs the controller of aggregated ClusterRoles.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let roles = cx.informers.get::<ClusterRole>();
    let queue: Queue<Key> = Queue::new("clusterrole-aggregation");
    let (adds, all) = (queue.clone(), Arc::clone(&roles));
    let _roles = roles.subscribe(move |_| {
        let aggregated = |r: &&Arc<ClusterRole>| r.aggregation_rule.is_some();
        all.list().iter().filter(aggregated).for_each(|r| adds.add(Key::of(r.as_ref())));
    });
    roles.synced().await;
    let reconcile = |key: Key| {
        let (roles, client) = (Arc::clone(&roles), cx.client.clone());
        async move {
            let Some(role) = roles.get(&key) else { return Ok(Next::Done) };
            let Some(rules) = aggregate(&role, &roles.list()) else { return Ok(Next::Done) };
            let mut wanted = ClusterRole::clone(&role);
            wanted.rules = (!rules.is_empty()).then_some(rules);
            patch::write(&Api::all(client), role.as_ref(), &wanted, None).await?;
            Ok(Next::Done)
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// The rules an aggregated role should have, in the order of the names of the roles they come from;
/// `None` for other roles.
fn aggregate(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut taken: Vec<&str> = vec![meta::name(&role.metadata)];
    for matcher in selectors.iter().map(|s| Matcher::new(Some(s))) {
        for source in all.iter().filter(|r| matcher.matches(meta::labels(&r.metadata))) {
            let name = meta::name(&source.metadata);
            if taken.contains(&name) {
                continue;
            }
            taken.push(name);
            for rule in source.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn role(name: &str, labels: Value, resources: &[&str], aggregates: Value) -> Arc<ClusterRole> {
        let rules: Vec<Value> = resources
            .iter()
            .map(|r| json!({"apiGroups": [""], "resources": [r], "verbs": ["get"]}))
            .collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "rules": rules,
                "aggregationRule": aggregates}))
            .expect("a role"),
        )
    }

    #[test]
    fn rules_are_gathered_once_from_all_chosen_roles() {
        let chosen = json!({"to": "view"});
        let rule =
            json!({"clusterRoleSelectors": [{"matchLabels": chosen}, {"matchLabels": {"also": "yes"}}]});
        let view = role("view", chosen.clone(), &["stale"], rule);
        let all = [
            role("a", chosen.clone(), &["pods"], Value::Null),
            role("b", chosen, &["pods", "services"], Value::Null),
            role("c", json!({"also": "yes"}), &["nodes"], Value::Null),
            role("d", json!({}), &["secrets"], Value::Null),
            Arc::clone(&view),
        ];
        let rules = aggregate(&view, &all).expect("it aggregates");
        let resources: Vec<_> = rules.iter().filter_map(|r| r.resources.as_ref()?.first().cloned()).collect();
        assert_eq!(resources, ["pods", "services", "nodes"]);
        assert_eq!(aggregate(&all[0], &all), None);
    }
}
