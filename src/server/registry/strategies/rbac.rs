//! Roles and bindings: `pkg/apis/rbac/validation`.
//!
//! Whether who writes them may grant what they grant is not asked here yet: the place for
//! `auth::authz::rbac::escalation` is `validate_create` and `validate_update`.

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, items, text};
use super::selector;
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles and ClusterRoles.
pub struct RoleStrategy {
    /// ClusterRoles may also be about paths.
    pub cluster: bool,
}

impl Strategy for RoleStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        self.validate(new)
    }
}

impl RoleStrategy {
    fn validate(&self, role: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        for (rule, path) in indexed(&role["rules"], &Path::new("rules")) {
            self.rule(rule, &path, &mut errors);
        }
        let selectors = Path::new("aggregationRule").child("clusterRoleSelectors");
        if !role["aggregationRule"].is_null() {
            if items(&role["aggregationRule"]["clusterRoleSelectors"]).is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(&selectors, detail));
            }
            for (one, path) in indexed(&role["aggregationRule"]["clusterRoleSelectors"], &selectors) {
                selector::validate(one, &path, &mut errors);
            }
        }
        errors.0
    }

    fn rule(&self, rule: &Value, path: &Path, errors: &mut Errors) {
        if is_empty(&rule["verbs"]) {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if !is_empty(&rule["nonResourceURLs"]) {
            let at = path.child("nonResourceURLs");
            if !self.cluster {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&at, rule["nonResourceURLs"].clone(), detail));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !is_empty(&rule[*f])) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&at, rule["nonResourceURLs"].clone(), detail));
            }
            return;
        }
        if is_empty(&rule["apiGroups"]) {
            let detail = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), detail));
        }
        if is_empty(&rule["resources"]) {
            let detail = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), detail));
        }
    }
}

/// RoleBindings and ClusterRoleBindings.
pub struct BindingStrategy {
    /// Bound in the whole cluster: to a ClusterRole only, service accounts with their namespace.
    pub cluster: bool,
}

impl Strategy for BindingStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        if new["roleRef"] != old["roleRef"] {
            let detail = "cannot change roleRef";
            errors.push(FieldError::invalid(&Path::new("roleRef"), new["roleRef"].clone(), detail));
        }
        errors
    }
}

impl BindingStrategy {
    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        let (role, path) = (&binding["roleRef"], Path::new("roleRef"));
        let mut errors = Errors::default();
        if text(&role["apiGroup"]) != GROUP {
            errors.push(FieldError::not_supported(
                &path.child("apiGroup"),
                role["apiGroup"].clone(),
                &[GROUP],
            ));
        }
        let kinds: &[&str] = if self.cluster { &["ClusterRole"] } else { &["ClusterRole", "Role"] };
        if !kinds.contains(&text(&role["kind"])) {
            errors.push(FieldError::not_supported(&path.child("kind"), role["kind"].clone(), kinds));
        }
        errors.named(&path.child("name"), &role["name"], names::path_segment);
        for (subject, path) in indexed(&binding["subjects"], &Path::new("subjects")) {
            self.subject(subject, &path, &mut errors);
        }
        errors.0
    }

    fn subject(&self, subject: &Value, path: &Path, errors: &mut Errors) {
        errors.required(&path.child("name"), &subject["name"]);
        let group = text(&subject["apiGroup"]);
        let wanted = match text(&subject["kind"]) {
            "ServiceAccount" => {
                errors.optionally_named(&path.child("name"), &subject["name"], names::dns1123_subdomain);
                if self.cluster && is_empty(&subject["namespace"]) {
                    errors.push(FieldError::required(&path.child("namespace"), ""));
                }
                ""
            }
            "User" | "Group" => GROUP,
            other => {
                let kinds = ["Group", "ServiceAccount", "User"];
                errors.push(FieldError::not_supported(&path.child("kind"), other, &kinds));
                return;
            }
        };
        if group != wanted {
            errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[wanted]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_say_what_may_be_done_with_what() {
        let role =
            |rule: Value, cluster: bool| texts(RoleStrategy { cluster }.validate(&json!({"rules": [rule]})));
        assert_eq!(
            role(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), false),
            [] as [&str; 0]
        );
        assert_eq!(role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), true), [] as [&str; 0]);
        assert_eq!(
            role(json!({}), true),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource"
            ]
        );
        assert_eq!(
            role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), false),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
    }

    #[test]
    fn bindings_name_a_role_for_good() {
        let binding = |role: &str, subject: Value| json!({"roleRef": {"apiGroup": GROUP, "kind": role, "name": "r"}, "subjects": [subject]});
        let user = json!({"kind": "User", "name": "u", "apiGroup": GROUP});
        let (local, cluster) = (BindingStrategy { cluster: false }, BindingStrategy { cluster: true });
        assert_eq!(texts(local.validate(&binding("Role", user.clone()))), [] as [&str; 0]);
        assert_eq!(
            texts(cluster.validate(&binding("Role", json!({"kind": "ServiceAccount", "name": "s"})))),
            [
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[0].namespace: Required value"
            ]
        );
        let reader = crate::server::auth::testing::Fake::default();
        let by = crate::server::auth::user::User::loopback();
        let cx = Context { user: &by, namespace: None, reader: &reader, dry_run: false };
        let changed =
            local.validate_update(&cx, &binding("ClusterRole", user.clone()), &binding("Role", user));
        assert!(changed[0].to_string().ends_with("cannot change roleRef"), "{changed:?}");
    }
}
