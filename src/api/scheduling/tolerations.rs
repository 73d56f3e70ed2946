//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration tolerates a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let differs =
        |mine: &Option<String>, theirs: &str| mine.as_deref().is_some_and(|m| !m.is_empty() && m != theirs);
    if differs(&toleration.effect, &taint.effect) || differs(&toleration.key, &taint.key) {
        return false;
    }
    let mine = toleration.value.as_deref().unwrap_or_default();
    let theirs = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.key.as_deref().is_some_and(|k| !k.is_empty()) && mine == theirs,
        "Exists" => mine.is_empty(),
        operator @ ("Gt" | "Lt") => match (theirs.parse::<i64>(), mine.parse::<i64>()) {
            (Ok(is), Ok(bound)) => (operator == "Gt" && is > bound) || (operator == "Lt" && is < bound),
            _ => false,
        },
        _ => false,
    }
}

/// The first taint with one of the effects that nothing tolerates.
pub fn untolerated<'t>(
    taints: &'t [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'t Taint> {
    let mut relevant = taints.iter().filter(|t| effects.contains(&t.effect.as_str()));
    relevant.find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            let t: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&t, &taint), expected, "{toleration}");
            let found = untolerated(std::slice::from_ref(&taint), &[t], &["NoSchedule"]);
            assert_eq!(found.is_none(), expected);
        }
        assert!(untolerated(&[taint], &[], &["NoExecute"]).is_none());
    }
}
