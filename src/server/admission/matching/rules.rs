//! Which requests a rule of a configuration is about: operations, groups, versions, resources, scope.

use serde_json::Value;

use super::asking::Asking;
use crate::server::registry::Resource;

const ANY: &str = "*";

/// A `NamedRuleWithOperations` of `admissionregistration.k8s.io/v1`; those of webhooks have no names.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    /// `Cluster`, `Namespaced` or all.
    scope: String,
    /// Of objects; all if there are none.
    names: Vec<String>,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn listed(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == ANY || item == wanted)
}

impl Rule {
    /// From a configuration.
    pub(super) fn of(rule: &Value) -> Self {
        let resources = texts(&rule["resources"]);
        let split = |text: &String| {
            let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
            (resource.to_owned(), subresource.to_owned())
        };
        Self {
            operations: texts(&rule["operations"]),
            groups: texts(&rule["apiGroups"]),
            versions: texts(&rule["apiVersions"]),
            resources: resources.iter().map(split).collect(),
            scope: rule["scope"].as_str().unwrap_or(ANY).to_owned(),
            names: texts(&rule["resourceNames"]),
        }
    }

    /// Whether the rule is about the request, if that had been for `resource`.
    pub(super) fn matches(&self, asking: &Asking<'_>, resource: &Resource) -> bool {
        listed(&self.operations, asking.operation_name())
            && listed(&self.groups, &resource.group)
            && listed(&self.versions, &resource.version)
            && self.has(&resource.plural, asking.subresource)
            && self.in_scope(asking)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asking.name))
    }

    fn has(&self, plural: &str, subresource: &str) -> bool {
        self.resources
            .iter()
            .any(|(res, sub)| (res == ANY || res == plural) && (sub == ANY || sub == subresource))
    }

    fn in_scope(&self, asking: &Asking<'_>) -> bool {
        let cluster = asking.is_namespace() || asking.namespace.is_empty();
        match &*self.scope {
            ANY => true,
            "Namespaced" => !cluster,
            "Cluster" => cluster,
            _ => false,
        }
    }
}
