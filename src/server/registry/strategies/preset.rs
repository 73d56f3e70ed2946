//! PodPresets: `pkg/apis/settings/validation`, as it was last.

use serde_json::{Value, json};

use super::check::Errors;
use super::pod::validate;
use super::selector;
use crate::api::{FieldError, Path, Status};
use crate::server::registry::strategy::{Context, Strategy, defaults};

/// The strategy.
pub struct PresetStrategy;

impl Strategy for PresetStrategy {
    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        // A preset stays what it is.
        defaults::keep(new, old, "spec");
        defaults::prepare_update(new, old);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let mut errors = Errors::default();
        selector::validate(&spec["selector"], &path.child("selector"), &mut errors);
        if ["env", "envFrom", "volumeMounts", "volumes"].iter().all(|list| spec[list].is_null()) {
            let at = path.child("volumes").child("env").child("envFrom").child("volumeMounts");
            errors.push(FieldError::required(&at, "must specify at least one"));
        }
        errors.0.extend(injected(spec, &path));
        errors.0
    }

    fn validate_update(&self, cx: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate_create(cx, new)
    }
}

/// What is wrong with what is injected: what would be wrong with a template that has just this.
fn injected(spec: &Value, path: &Path) -> Vec<FieldError> {
    const CONTAINER: &str = "containers[0].";
    let mut container = json!({"name": "c", "image": "i"});
    for list in ["env", "envFrom", "volumeMounts"].into_iter().filter(|list| !spec[*list].is_null()) {
        container[list] = spec[list].clone();
    }
    let template = json!({"spec": {"containers": [container], "volumes": spec["volumes"]}});
    let errors = validate::template(&template, &Path::new("template")).into_iter().filter_map(|mut error| {
        let below = error.field.as_str().strip_prefix("template.spec.")?.to_owned();
        let own = below.strip_prefix(CONTAINER).unwrap_or(&below);
        // Some paths leave out the index.
        let lists = ["env", "volumes", "volumeMounts"];
        let ours = lists.iter().any(|list| own.starts_with(list));
        error.field = path.child(own);
        ours.then_some(error)
    });
    errors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;

    fn errors(spec: Value) -> Vec<String> {
        let (user, reader) = (User::loopback(), Fake::default());
        let cx = Context { user: &user, namespace: Some("a"), reader: &reader, dry_run: false };
        let errors = PresetStrategy.validate_create(&cx, &json!({"spec": spec}));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_preset_injects_something_sound() {
        assert_eq!(
            errors(json!({"selector": {}})),
            ["spec.volumes.env.envFrom.volumeMounts: Required value: must specify at least one"]
        );
        let good = json!({"env": [{"name": "A", "value": "1"}], "volumes": [{"name": "v", "emptyDir": {}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "envFrom": [{"configMapRef": {"name": "c"}}]});
        assert_eq!(errors(good), [] as [&str; 0]);
        assert_eq!(
            errors(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            ["spec.volumeMounts[0].name: Not found: \"v\""]
        );
        assert!(errors(json!({"env": [{"name": "A=B"}]}))[0].starts_with("spec.env[0].name: Invalid value"));
        assert!(
            errors(json!({"env": [], "selector": {"matchLabels": {"a b": "c"}}}))[0]
                .starts_with("spec.selector.matchLabels: Invalid value")
        );
    }
}
