//! RuntimeClasses: `pkg/apis/node/validation`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Errors, entries, indexed, text};
use super::node_selector;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

/// The strategy of RuntimeClasses.
pub struct RuntimeClassStrategy;

impl Strategy for RuntimeClassStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let handler = text(&object["handler"]);
        errors.invalid_all(&Path::new("handler"), &handler.into(), names::dns1123_label(handler));
        let at = Path::new("overhead").child("limits");
        for (name, amount) in entries(&object["overhead"]["podFixed"]) {
            errors.invalid_all(&at, &name.into(), names::qualified_name(name));
            errors.quantity(&at.key(name), amount);
        }
        let path = Path::new("scheduling");
        errors.labels(&path.child("nodeSelector"), &object["scheduling"]["nodeSelector"]);
        tolerations(&object["scheduling"]["tolerations"], &path.child("tolerations"), &mut errors);
        errors.0
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        errors.immutable(&Path::new("handler"), &new["handler"], &old["handler"]);
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let labels = entries(&object["scheduling"]["nodeSelector"]);
        let old = labels.filter_map(|(label, _)| node_selector::deprecated(label));
        old.map(|why| format!("scheduling.nodeSelector: {why}")).collect()
    }
}

/// No toleration twice.
fn tolerations(list: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (toleration, path) in indexed(list, path) {
        let key = ["key", "operator", "value", "effect"].map(|field| text(&toleration[field]));
        if !key[0].is_empty() {
            errors.invalid_all(&path.child("key"), &toleration["key"], names::qualified_name(key[0]));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&path, toleration.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;
    use serde_json::json;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { user: &User::loopback(), namespace: None, reader: &Fake::default(), dry_run: false })
    }

    #[test]
    fn a_class_names_its_handler_for_good() {
        let class = |handler: &str| json!({"handler": handler, "scheduling": {"tolerations": [{"key": "a"}, {"key": "a"}]}});
        let errors = with(|cx| RuntimeClassStrategy.validate_create(cx, &class("a.b")));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "handler: Invalid value: \"a.b\": must not contain dots",
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\"}"
            ]
        );
        let errors = with(|cx| RuntimeClassStrategy.validate_update(cx, &class("b"), &class("a")));
        assert_eq!(errors[0].to_string(), "handler: Invalid value: \"b\": field is immutable");
    }
}
