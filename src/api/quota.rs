//! What objects cost a namespace's ResourceQuotas: <https://kubernetes.io/docs/concepts/policy/resource-quotas/>.
//!
//! An [`Evaluator`] knows the resources that one kind of object is charged for, whether an object is in
//! a quota's scopes, and what it costs. Follows `pkg/quota/v1`.

mod claims;
mod pods;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Quantity;
use super::quantity::Format;

pub use pods::{requests_of, stops_counting};

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// One thing.
const ONE: fn() -> Quantity = || Quantity::from_units(1, Format::DecimalSi);
const COUNT: &str = "count/";
/// Kinds that are counted under their plain name too.
const ALIASES: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// Kinds that no quota counts.
const IGNORED: [&str; 2] = ["events", "events.events.k8s.io"];

/// Reads a quantity, which clients may write as a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Reads a `ResourceList`; what is no quantity is left out.
pub fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

/// A `ResourceList` of canonical quantities.
pub fn list(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Adds amounts to a sum.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.plus(*amount);
    }
}

/// What must be true of an object to be in a scope: `ScopedResourceSelectorRequirement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Such as `BestEffort`.
    pub name: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// With which the object's is compared.
    pub values: Vec<String>,
}

impl Scope {
    /// All scopes of a quota.
    pub fn all(quota: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &quota["spec"];
        let plain = spec["scopes"].as_array().into_iter().flatten().map(|name| Self {
            name: text(name),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
        let selected = selected.map(|one| Self {
            name: text(&one["scopeName"]),
            operator: text(&one["operator"]),
            values: one["values"].as_array().into_iter().flatten().map(text).collect(),
        });
        plain.chain(selected).collect()
    }

    /// Whether a label of this scope's name with one of these values is selected; none is a missing label.
    fn selects(&self, values: &[&str]) -> bool {
        let listed = || values.iter().any(|v| self.values.iter().any(|wanted| wanted == v));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => values.is_empty() || values.iter().any(|v| !self.values.iter().any(|w| w == v)),
            "Exists" => !values.is_empty(),
            "DoesNotExist" => values.is_empty(),
            _ => false,
        }
    }
}

/// How objects of one kind are charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// By number, CPU, memory and what else they ask for.
    Pods,
    /// By number, node ports and load balancers.
    Services,
    /// By number and size, also of each storage class.
    Claims,
    /// By number alone: the plural with its group.
    Count(String),
}

impl Evaluator {
    /// The evaluator of a kind, by plural and group: `pods`, `deployments.apps`. None for what is never counted.
    pub fn of(resource: &str) -> Option<Self> {
        match resource {
            "pods" => Some(Self::Pods),
            "services" => Some(Self::Services),
            "persistentvolumeclaims" => Some(Self::Claims),
            ignored if IGNORED.contains(&ignored) => None,
            other => Some(Self::Count(other.to_owned())),
        }
    }

    /// The kind whose objects are charged for a resource, if any is: of `requests.cpu` pods, of
    /// `count/deployments.apps` deployments.
    pub fn charging(name: &str) -> Option<Self> {
        if let Some(resource) = name.strip_prefix(COUNT) {
            return Self::of(resource);
        }
        if ALIASES.contains(&name) {
            return Self::of(name);
        }
        [Self::Pods, Self::Services, Self::Claims].into_iter().find(|e| e.tracks(name))
    }

    /// The plural of its kind, with the group.
    pub fn resource(&self) -> &str {
        match self {
            Self::Pods => "pods",
            Self::Services => "services",
            Self::Claims => "persistentvolumeclaims",
            Self::Count(resource) => resource,
        }
    }

    /// Whether its objects are charged for a resource.
    pub fn tracks(&self, name: &str) -> bool {
        if name.strip_prefix(COUNT) == Some(self.resource()) {
            return true;
        }
        match self {
            Self::Pods => pods::tracks(name),
            Self::Services => services::RESOURCES.contains(&name),
            Self::Claims => claims::tracks(name),
            Self::Count(resource) => resource == name && ALIASES.contains(&name),
        }
    }

    /// Whether an object is in all of these scopes.
    pub fn in_scopes(&self, scopes: &[Scope], object: &Value) -> bool {
        scopes.iter().all(|scope| match self {
            Self::Pods => pods::in_scope(scope, object),
            Self::Claims => claims::in_scope(scope, object),
            Self::Services | Self::Count(_) => false,
        })
    }

    /// What an object costs at this time, of all resources it is charged for.
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let mut usage = match self {
            Self::Pods => pods::usage(object, now),
            Self::Services => services::usage(object),
            Self::Claims => claims::usage(object),
            Self::Count(resource) if ALIASES.contains(&resource.as_str()) => {
                Amounts::from([(resource.clone(), ONE())])
            }
            Self::Count(_) => Amounts::new(),
        };
        usage.insert(format!("{COUNT}{}", self.resource()), ONE());
        usage
    }

    /// What an object must say because these resources are limited, and does not: the end of upstream's
    /// `must specify …`.
    pub fn unspecified(&self, limited: &BTreeSet<&str>, object: &Value) -> Option<String> {
        if *self == Self::Pods { pods::unspecified(limited, object) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope(operator: &str, values: &[&str]) -> Scope {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        Scope { name: "PriorityClass".into(), operator: operator.into(), values }
    }

    #[test]
    fn resources_are_charged_to_their_kinds() {
        for (name, kind) in [
            ("pods", "pods"),
            ("count/pods", "pods"),
            ("requests.cpu", "pods"),
            ("limits.memory", "pods"),
            ("hugepages-2Mi", "pods"),
            ("requests.example.com/gpu", "pods"),
            ("services.nodeports", "services"),
            ("count/services", "services"),
            ("requests.storage", "persistentvolumeclaims"),
            ("gold.storageclass.storage.k8s.io/requests.storage", "persistentvolumeclaims"),
            ("configmaps", "configmaps"),
            ("count/deployments.apps", "deployments.apps"),
            ("count/widgets.example.com", "widgets.example.com"),
        ] {
            assert_eq!(
                Evaluator::charging(name).map(|e| e.resource().to_owned()).as_deref(),
                Some(kind),
                "{name}"
            );
        }
        for name in ["deployments", "count/events", "cpus", "example.com/gpu"] {
            assert_eq!(Evaluator::charging(name), None, "{name}");
        }
        assert!(!Evaluator::Count("deployments.apps".into()).tracks("deployments.apps"));
    }

    #[test]
    fn counted_objects_are_never_in_a_scope() {
        let count = Evaluator::of("secrets").unwrap();
        assert!(count.in_scopes(&[], &json!({})));
        assert!(!count.in_scopes(&[scope("Exists", &[])], &json!({})));
        let usage = count.usage(&json!({}), Timestamp::now());
        assert_eq!(list(&usage), json!({"count/secrets": "1", "secrets": "1"}));
    }

    #[test]
    fn scopes_select_as_labels_do() {
        for (operator, values, mine, expected) in [
            ("In", &["a", "b"][..], &["a"][..], true),
            ("In", &["a"], &[], false),
            ("NotIn", &["a"], &["b"], true),
            ("NotIn", &["a"], &[], true),
            ("NotIn", &["a"], &["a"], false),
            ("Exists", &[], &["a"], true),
            ("Exists", &[], &[], false),
            ("DoesNotExist", &[], &[], true),
        ] {
            assert_eq!(scope(operator, values).selects(mine), expected, "{operator} {values:?} {mine:?}");
        }
        let quota = json!({"spec": {"scopes": ["BestEffort"], "scopeSelector": {"matchExpressions":
            [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}});
        let all = Scope::all(&quota);
        assert_eq!((all[0].name.as_str(), all[0].operator.as_str()), ("BestEffort", "Exists"));
        assert_eq!(all[1], scope("In", &["high"]));
    }
}
