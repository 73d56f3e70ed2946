//! Roles and bindings: `pkg/apis/rbac/validation`, and `pkg/registry/rbac/*/policybased`, by which nobody
//! gives rights away that they do not have.

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, items, text};
use super::selector;
use crate::api::{FieldError, GroupResource, Meta, Path, Status, names};
use crate::server::auth::authz::rbac::{Rule, escalation};
use crate::server::auth::authz::{self, Attributes};
use crate::server::auth::user::MASTERS;
use crate::server::registry::strategy::{Context, Strategy, defaults};

const GROUP: &str = "rbac.authorization.k8s.io";

fn forbidden(plural: &'static str, object: &Value, why: impl std::fmt::Display) -> Status {
    Status::forbidden(&GroupResource::new(GROUP, plural), Meta::of(object).name(), why)
}

fn rules(role: &Value) -> Vec<Rule> {
    items(&role["rules"]).iter().filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

/// All there is to be allowed.
fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// A change only of what the garbage collector changes so that the object can go.
fn is_only_for_collection(new: &Value, old: &Value) -> bool {
    let mut same = new.clone();
    for field in ["ownerReferences", "finalizers", "managedFields"] {
        defaults::keep(&mut same["metadata"], &old["metadata"], field);
    }
    same == *old
}

/// Roles and ClusterRoles.
pub struct RoleStrategy {
    /// ClusterRoles may also be about paths.
    pub cluster: bool,
}

impl Strategy for RoleStrategy {
    fn prepare_create(&self, cx: &Context<'_>, new: &mut Value) -> Result<(), Status> {
        self.no_escalation(cx, new, None)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        self.no_escalation(cx, new, Some(old))
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object, false)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let selectors = |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].clone();
        self.validate(new, selectors(new) == selectors(old))
    }
}

impl RoleStrategy {
    fn plural(&self) -> &'static str {
        if self.cluster { "clusterroles" } else { "roles" }
    }

    /// Who writes a role has all it allows, or may `escalate`.
    fn no_escalation(&self, cx: &Context<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        if cx.user.in_group(MASTERS) || old.is_some_and(|old| is_only_for_collection(new, old)) {
            return Ok(());
        }
        let escalate = Attributes {
            verb: "escalate",
            group: GROUP,
            resource: self.plural(),
            namespace: cx.namespace,
            name: old.map(|old| Meta::of(old).name()),
            ..Attributes::default()
        };
        if authz::allowed(cx.reader, cx.user, &escalate) {
            return Ok(());
        }
        let confirm = |rules: &[Rule]| escalation::confirm(cx.reader, cx.user, cx.namespace, rules);
        confirm(&rules(new)).map_err(|why| forbidden(self.plural(), new, why))?;
        let aggregates = |role: &Value| !items(&role["aggregationRule"]["clusterRoleSelectors"]).is_empty();
        if aggregates(new) || old.is_some_and(aggregates) {
            let why = "must have cluster-admin privileges to use an aggregationRule";
            confirm(&everything()).map_err(|_| forbidden(self.plural(), new, why))?;
        }
        Ok(())
    }

    /// Selectors that were stored before stay as they are.
    fn validate(&self, role: &Value, known_selectors: bool) -> Vec<FieldError> {
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
                if !known_selectors {
                    selector::validate(one, &path, &mut errors);
                }
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
    fn prepare_create(&self, cx: &Context<'_>, new: &mut Value) -> Result<(), Status> {
        self.no_escalation(cx, new, None)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        self.no_escalation(cx, new, Some(old))
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
    fn plural(&self) -> &'static str {
        if self.cluster { "clusterrolebindings" } else { "rolebindings" }
    }

    /// Who binds a role has all it allows, or may `bind` it.
    fn no_escalation(&self, cx: &Context<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        if cx.user.in_group(MASTERS) || old.is_some_and(|old| is_only_for_collection(new, old)) {
            return Ok(());
        }
        let (role, namespace) = (&new["roleRef"], cx.namespace.filter(|_| !self.cluster));
        let (plural, of) = match text(&role["kind"]) {
            "ClusterRole" => ("clusterroles", None),
            "Role" if !self.cluster => ("roles", namespace),
            _ => return Ok(()), // validation refuses it
        };
        let name = text(&role["name"]);
        let bind = Attributes {
            verb: "bind",
            group: text(&role["apiGroup"]),
            resource: plural,
            namespace,
            name: Some(name),
            ..Attributes::default()
        };
        if authz::allowed(cx.reader, cx.user, &bind) {
            return Ok(());
        }
        let resource = GroupResource::new(GROUP, plural);
        let found = cx.reader.get(&resource.to_string(), of, name);
        let found = found.ok_or_else(|| Status::not_found(&resource, name))?;
        escalation::confirm(cx.reader, cx.user, namespace, &rules(&found.value()))
            .map_err(|why| forbidden(self.plural(), new, why))
    }

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
        let kinds: &[&str] = if self.cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
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
        let what = match text(&subject["kind"]) {
            "ServiceAccount" => {
                errors.optionally_named(&path.child("name"), &subject["name"], names::dns1123_subdomain);
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
                }
                if self.cluster && is_empty(&subject["namespace"]) {
                    errors.push(FieldError::required(&path.child("namespace"), ""));
                }
                return;
            }
            "User" => "user",
            "Group" => "group",
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errors.push(FieldError::not_supported(&path.child("kind"), other, &kinds));
                return;
            }
        };
        if is_empty(&subject["name"]) {
            let detail = format!("{what} name cannot be empty");
            errors.push(FieldError::invalid(&path.child("name"), "", detail));
        }
        if group != GROUP {
            errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
        }
    }
}

#[cfg(test)]
mod tests;
