//! Nobody may grant what they do not have: whether some rules cover others, and what is said if not.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use std::collections::BTreeSet;

use super::{Rbac, Rule};
use crate::api::field::{quote, quote_list};
use crate::server::auth::authz::Attributes;
use crate::server::auth::user::{MASTERS, User};
use crate::server::reader::Reader;

/// Whether a user has, in a namespace or in the cluster, all the rights these rules give.
///
/// # Errors
/// Which of them are missing, in upstream's words.
pub fn confirm(
    reader: &dyn Reader,
    user: &User,
    namespace: Option<&str>,
    wanted: &[Rule],
) -> Result<(), String> {
    if user.in_group(MASTERS) {
        return Ok(());
    }
    let (owned, missing_roles) = Rbac::default().rules(reader, user, namespace);
    let missing = uncovered(&owned, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let mut why = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        quote_list(&user.groups),
        lines.join("\n")
    );
    match missing_roles.as_slice() {
        [] => {}
        [one] => why.push_str(&format!("; resolution errors: [{one}]")),
        many => why.push_str(&format!("; resolution errors: [[{}]]", many.join(", "))),
    }
    Err(why)
}

/// Rules of one resource that differ only by their verbs, as one.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let simple = |rule: &Rule| {
        rule.resource_names.is_empty()
            && rule.non_resource_urls.is_empty()
            && rule.api_groups.len() == 1
            && rule.resources.len() == 1
    };
    let mut compacted: Vec<Rule> = Vec::new();
    for rule in rules {
        let known = compacted
            .iter_mut()
            .find(|c| simple(c) && c.api_groups == rule.api_groups && c.resources == rule.resources);
        match known {
            Some(known) if simple(&rule) => known.verbs.extend(rule.verbs),
            _ => compacted.push(rule),
        }
    }
    compacted
}

/// The rule in one line.
fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let given = parts.iter().filter(|(_, values)| !values.is_empty());
    let given: Vec<String> = given.map(|(name, values)| format!("{name}:{}", quote_list(values))).collect();
    format!("{{{}}}", given.join(", "))
}

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
    use crate::server::auth::testing::Fake;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let fake = Fake::default();
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        fake.put(
            "clusterroles.rbac.authorization.k8s.io",
            json!({"metadata": {"name": "r"}, "rules": rules}),
        );
        let bind = |role: &str| {
            json!({"metadata": {"name": role}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "Group", "name": "dev"}]})
        };
        fake.put("clusterrolebindings.rbac.authorization.k8s.io", bind("r"));
        let jane = User::new("jane", &["dev", "b"]);
        let wanted: Vec<Rule> = serde_json::from_value(json!([
            {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "secrets"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
        ]))
        .unwrap();
        let text = concat!(
            "user \"jane\" (groups=[\"dev\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n",
            "{APIGroups:[\"\"], Resources:[\"nodes\"], ResourceNames:[\"a\"], Verbs:[\"get\"]}\n",
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}\n",
            "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"watch\"]}\n",
            "{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}"
        );
        assert_eq!(confirm(&fake, &jane, None, &wanted), Err(text.to_owned()));
        assert_eq!(confirm(&fake, &jane, None, &wanted[..0]), Ok(()));
        assert_eq!(confirm(&fake, &User::loopback(), None, &wanted), Ok(()));
        fake.put("clusterrolebindings.rbac.authorization.k8s.io", bind("gone"));
        let told = confirm(&fake, &jane, None, &wanted).unwrap_err();
        let end = "; resolution errors: [clusterrole.rbac.authorization.k8s.io \"gone\" not found]";
        assert!(told.ends_with(end), "{told}");
    }

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
