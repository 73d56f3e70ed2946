//! What becomes of a default role or binding that is there already: what is missing is added, and
//! nothing is taken away. Follows `pkg/registry/rbac/reconciliation`.

use serde_json::{Value, json};

use crate::api::Meta;
use crate::server::auth::authz::rbac::{Rule, escalation};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What is to be done about an object.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It has all it needs, or must not be touched.
    Keep,
    /// It lacks something: this is the whole of it.
    Update(Value),
    /// It binds another role, which no update can change.
    Recreate,
}

/// Compares an object that exists with the default one.
pub fn reconcile(existing: &Value, wanted: &Value) -> Outcome {
    if Meta::of(existing).annotation(AUTOUPDATE) == Some("false") {
        return Outcome::Keep;
    }
    let mut new = existing.clone();
    for field in ["labels", "annotations"] {
        add_texts(&mut new["metadata"], field, &wanted["metadata"][field]);
    }
    if wanted.get("roleRef").is_some() {
        if role_of(existing) != role_of(wanted) {
            return Outcome::Recreate;
        }
        add_missing(&mut new, "subjects", missing_subjects(existing, wanted));
    } else {
        reconcile_role(existing, wanted, &mut new);
    }
    if new == *existing { Outcome::Keep } else { Outcome::Update(new) }
}

/// The rules of an aggregated role are its controller's.
fn reconcile_role(existing: &Value, wanted: &Value, new: &mut Value) {
    let selectors = |role: &Value| -> Vec<Value> {
        role["aggregationRule"]["clusterRoleSelectors"].as_array().cloned().unwrap_or_default()
    };
    if wanted["aggregationRule"].is_object() {
        let there = selectors(existing);
        let missing: Vec<Value> = selectors(wanted).into_iter().filter(|s| !there.contains(s)).collect();
        if !missing.is_empty() {
            if !new["aggregationRule"].is_object() {
                new["aggregationRule"] = json!({});
            }
            add_missing(&mut new["aggregationRule"], "clusterRoleSelectors", missing);
        }
        return;
    }
    if existing["aggregationRule"].is_object()
        && let Some(map) = new.as_object_mut()
    {
        map.remove("aggregationRule");
    }
    let missing = escalation::uncovered(&rules(existing), &rules(wanted));
    add_missing(new, "rules", missing.into_iter().map(|rule| json!(rule)).collect());
}

fn rules(role: &Value) -> Vec<Rule> {
    let list = role["rules"].as_array().into_iter().flatten();
    list.filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

fn role_of(binding: &Value) -> (&Value, &Value) {
    (&binding["roleRef"]["kind"], &binding["roleRef"]["name"])
}

fn missing_subjects(existing: &Value, wanted: &Value) -> Vec<Value> {
    fn list(binding: &Value) -> impl Iterator<Item = &Value> {
        binding["subjects"].as_array().into_iter().flatten()
    }
    let who = |s: &Value| (s["kind"].clone(), s["namespace"].clone(), s["name"].clone());
    list(wanted).filter(|w| !list(existing).any(|e| who(e) == who(w))).cloned().collect()
}

fn add_missing(object: &mut Value, field: &str, missing: Vec<Value>) {
    if missing.is_empty() {
        return;
    }
    match object[field].as_array_mut() {
        Some(list) => list.extend(missing),
        None => object[field] = json!(missing),
    }
}

/// Adds the labels or annotations that are not there; what is there stays.
fn add_texts(metadata: &mut Value, field: &str, wanted: &Value) {
    for (key, value) in wanted.as_object().into_iter().flatten() {
        if metadata[field].get(key).is_none() {
            metadata[field][key] = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects;
    use super::*;

    fn default(kind: &str, name: &str) -> Value {
        let found = objects().into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("{name}"))
    }

    fn updated(existing: &Value, wanted: &Value) -> Value {
        match reconcile(existing, wanted) {
            Outcome::Update(value) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_as_it_should_be_stays() {
        for object in objects() {
            assert_eq!(reconcile(&object, &object), Outcome::Keep, "{object}");
        }
    }

    #[test]
    fn missing_rules_come_back_and_others_stay() {
        let wanted = default("ClusterRole", "system:basic-user");
        let own = json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]});
        let mut changed = wanted.clone();
        changed["rules"] = json!([own]);
        changed["metadata"]["labels"] = json!({"mine": "1"});
        let after = updated(&changed, &wanted);
        assert_eq!((&after["rules"][0], &after["metadata"]["labels"]["mine"]), (&own, &json!("1")));
        assert!(escalation::uncovered(&rules(&after), &rules(&wanted)).is_empty());
        assert_eq!(after["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        assert_eq!(reconcile(&after, &wanted), Outcome::Keep);
        changed["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(reconcile(&changed, &wanted), Outcome::Keep);
    }

    #[test]
    fn the_rules_of_aggregated_roles_are_left_alone() {
        let wanted = default("ClusterRole", "view");
        let mut other = wanted.clone();
        other["rules"] = json!([]);
        assert_eq!(reconcile(&other, &wanted), Outcome::Keep);
        other["aggregationRule"] = Value::Null;
        let after = updated(&other, &wanted);
        assert_eq!((&after["rules"], &after["aggregationRule"]), (&json!([]), &wanted["aggregationRule"]));
        let plain = default("ClusterRole", "system:basic-user");
        let mut aggregated = plain.clone();
        aggregated["aggregationRule"] = wanted["aggregationRule"].clone();
        assert_eq!(updated(&aggregated, &plain), plain);
    }

    #[test]
    fn bindings_get_their_subjects_back_and_their_role() {
        let wanted = default("ClusterRoleBinding", "system:public-info-viewer");
        let mut changed = wanted.clone();
        changed["subjects"] = json!([{"kind": "User", "name": "jane"}, wanted["subjects"][1]]);
        let after = updated(&changed, &wanted);
        assert_eq!(after["subjects"].as_array().map(Vec::len), Some(3));
        assert_eq!(after["subjects"][0]["name"], "jane");
        changed["roleRef"]["name"] = json!("other");
        assert_eq!(reconcile(&changed, &wanted), Outcome::Recreate);
    }
}
