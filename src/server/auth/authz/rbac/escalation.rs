//! Nobody may grant what they do not have: whether some rules cover others.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use super::Rule;
use crate::server::auth::authz::Attributes;

/// The parts of `wanted` that `owned` does not allow.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(break_down).filter(|part| !owned.iter().any(|o| covers(o, part))).collect()
}

/// A rule as one rule for each verb, resource, name and path.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for url in &rule.non_resource_urls {
            parts.push(Rule {
                verbs: verbs.clone(),
                non_resource_urls: vec![url.clone()],
                ..Rule::default()
            });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let part = Rule {
                    verbs: verbs.clone(),
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                } else {
                    parts.extend(
                        rule.resource_names
                            .iter()
                            .map(|n| Rule { resource_names: vec![n.clone()], ..part.clone() }),
                    );
                }
            }
        }
    }
    parts
}

/// `owned` allows all that `part`, a rule of one verb and one thing, allows. A `*` in the part is a
/// verb, group or resource like any other: only an owned `*` covers it.
fn covers(owned: &Rule, part: &Rule) -> bool {
    let verb = part.verbs[0].as_str();
    if let Some(url) = part.non_resource_urls.first() {
        return owned.allows(&Attributes { verb, path: Some(url), ..Attributes::default() });
    }
    let resource = part.resources[0].as_str();
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (resource, None),
    };
    let name = part.resource_names.first().map(String::as_str);
    owned.allows(&Attributes {
        verb,
        group: &part.api_groups[0],
        resource,
        subresource,
        name,
        ..Attributes::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_owned_is_named() {
        let rules = |v: serde_json::Value| -> Vec<Rule> { serde_json::from_value(v).unwrap() };
        let owned = rules(json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]},
            {"verbs": ["get"], "nonResourceURLs": ["/api/*"]},
        ]));
        let ok = rules(json!([
            {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]},
            {"verbs": ["get"], "nonResourceURLs": ["/api/v1", "/api/*"]},
        ]));
        assert_eq!(uncovered(&owned, &ok), []);
        let more = rules(json!([
            {"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]},
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        ]));
        assert_eq!(uncovered(&owned, &more).len(), 4);
        let all = rules(json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
        assert_eq!(uncovered(&all, &more), []);
    }
}
