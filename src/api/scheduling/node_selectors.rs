//! Node selectors: which nodes a pod may run on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

type Labels = BTreeMap<String, String>;

/// Whether one requirement holds for a value that may be absent.
fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |v: &str| values.iter().any(|x| x == v);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        operator @ ("Gt" | "Lt") => {
            let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
            match (number(value), number(values.first().map(String::as_str))) {
                (Some(is), Some(bound)) => {
                    (operator == "Gt" && is > bound) || (operator == "Lt" && is < bound)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether a term selects a node. A term without requirements selects none.
pub fn term_selects(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(name)))
}

/// Whether any term of a node selector selects a node.
pub fn selects(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|t| term_selects(t, name, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn node_selector_operators() {
        let labels = map(&[("zone", "a"), ("cores", "8")]);
        for (operator, key, values, expected) in [
            ("In", "zone", vec!["a", "b"], true),
            ("In", "zone", vec!["b"], false),
            ("In", "none", vec!["b"], false),
            ("NotIn", "none", vec!["b"], true),
            ("NotIn", "zone", vec!["a"], false),
            ("Exists", "zone", vec![], true),
            ("DoesNotExist", "zone", vec![], false),
            ("Gt", "cores", vec!["4"], true),
            ("Lt", "cores", vec!["4"], false),
            ("Gt", "zone", vec!["4"], false),
        ] {
            let term: NodeSelectorTerm = serde_json::from_value(
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
            )
            .expect("a term");
            assert_eq!(term_selects(&term, "n", &labels), expected, "{key} {operator} {values:?}");
        }
        assert!(!term_selects(&NodeSelectorTerm::default(), "n", &labels));
        let by_name: NodeSelectorTerm = serde_json::from_value(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}),
        )
        .expect("a term");
        assert!(term_selects(&by_name, "n", &labels) && !term_selects(&by_name, "m", &labels));
    }
}
