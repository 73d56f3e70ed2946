//! One rule of a role, and what it matches: `rbac/v1.PolicyRule`.

use serde::{Deserialize, Deserializer, Serialize};

use crate::server::auth::authz::Attributes;

/// What may be done with which resources, or with which other paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Groups of the resources; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub api_groups: Vec<String>,
    /// Paths that are no resources; a `*` at the end is any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub non_resource_urls: Vec<String>,
    /// Names of objects; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resource_names: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resources: Vec<String>,
    /// What may be done; `*` is all.
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
}

/// A list that may be null.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `*` or the value itself is among `allowed`.
fn any_or(allowed: &[String], value: &str) -> bool {
    allowed.iter().any(|a| a == "*" || a == value)
}

impl Rule {
    /// The rule allows this.
    pub fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !any_or(&self.verbs, wanted.verb) {
            return false;
        }
        match wanted.path {
            Some(path) => self.non_resource_urls.iter().any(|url| url_matches(url, path)),
            None => {
                any_or(&self.api_groups, wanted.group)
                    && self.resources.iter().any(|r| resource_matches(r, wanted.resource, wanted.subresource))
                    && self.names(wanted.name)
            }
        }
    }

    fn names(&self, name: Option<&str>) -> bool {
        self.resource_names.is_empty()
            || name.is_some_and(|name| self.resource_names.iter().any(|n| n == name))
    }
}

fn resource_matches(rule: &str, resource: &str, subresource: Option<&str>) -> bool {
    if rule == "*" {
        return true;
    }
    match (subresource.filter(|s| !s.is_empty()), rule.split_once('/')) {
        (None, None) => rule == resource,
        (Some(wanted), Some((of, sub))) => sub == wanted && (of == "*" || of == resource),
        _ => false,
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: serde_json::Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    fn resource<'a>(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
    ) -> Attributes<'a> {
        let (resource, subresource) = match resource.split_once('/') {
            Some((r, s)) => (r, Some(s)),
            None => (resource, None),
        };
        Attributes { verb, group, resource, subresource, name, ..Attributes::default() }
    }

    #[test]
    fn resources_and_their_subresources_are_apart() {
        let pods =
            rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]}));
        assert!(pods.allows(&resource("get", "", "pods", Some("a"))));
        assert!(pods.allows(&resource("get", "", "pods/log", Some("a"))));
        assert!(!pods.allows(&resource("get", "", "pods/exec", Some("a"))));
        assert!(!pods.allows(&resource("list", "", "pods", None)));
        assert!(!pods.allows(&resource("get", "apps", "pods", None)));
        assert!(pods.allows(&resource("get", "", "replicationcontrollers/scale", Some("a"))));
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(all.allows(&resource("escalate", "x", "y/z", None)));
        assert!(!all.allows(&Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() }));
    }

    #[test]
    fn names_limit_a_rule_to_requests_that_name_one() {
        let one = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
        );
        assert!(one.allows(&resource("get", "", "secrets", Some("a"))));
        assert!(!one.allows(&resource("get", "", "secrets", Some("b"))));
        assert!(!one.allows(&resource("list", "", "secrets", None)));
    }

    #[test]
    fn paths_match_exactly_or_by_their_beginning() {
        let urls = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/version", "/api/*"]}));
        for (path, ok) in
            [("/version", true), ("/version/", false), ("/api", false), ("/api/", true), ("/api/v1", true)]
        {
            assert_eq!(
                urls.allows(&Attributes { verb: "get", path: Some(path), ..Attributes::default() }),
                ok,
                "{path}"
            );
        }
        let null = rule(json!({"verbs": ["get"], "nonResourceURLs": null, "resources": null}));
        assert!(null.non_resource_urls.is_empty());
    }
}
