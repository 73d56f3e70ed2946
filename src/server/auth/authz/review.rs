//! Answers `SubjectAccessReview`, `LocalSubjectAccessReview`, `SelfSubjectAccessReview` and
//! `SelfSubjectRulesReview` of `authorization.k8s.io/v1`.

use serde_json::{Value, json};

use super::rbac::Rule;
use super::{Attributes, Authorizer};
use crate::api::{FieldError, GroupKind, Path, Status};
use crate::server::auth::user::{MASTERS, User};

const GROUP: &str = "authorization.k8s.io";

/// Answers any of the access reviews: `review` with its status. `user` is who asks, `namespace` that of a
/// local review's path.
///
/// # Errors
/// 422 when the review does not say what it asks, 400 when its namespace is not the path's.
pub fn access(
    authorizer: &Authorizer,
    user: &User,
    namespace: Option<&str>,
    mut review: Value,
) -> Result<Value, Status> {
    let kind = review["kind"].as_str().unwrap_or_default().to_owned();
    let (other, local) = (kind != "SelfSubjectAccessReview", kind == "LocalSubjectAccessReview");
    let errors = validate(&review["spec"], other, local);
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new(GROUP, kind), "", &errors));
    }
    let spec = &review["spec"];
    if local && spec["resourceAttributes"]["namespace"].as_str() != namespace {
        let message = format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            namespace.unwrap_or_default()
        );
        return Err(Status::bad_request(message));
    }
    let subject = if other { subject(spec) } else { user.clone() };
    let decision = authorizer.check(&subject, &attributes(spec));
    review["status"] = match decision {
        Ok(()) => json!({"allowed": true}),
        Err(reason) if reason.is_empty() => json!({"allowed": false}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    };
    Ok(review)
}

/// Answers a `SelfSubjectRulesReview`: `review` with its status.
///
/// # Errors
/// 400 without a namespace.
pub fn rules(authorizer: &Authorizer, user: &User, mut review: Value) -> Result<Value, Status> {
    let Some(namespace) = review["spec"]["namespace"].as_str().filter(|n| !n.is_empty()).map(str::to_owned)
    else {
        return Err(Status::bad_request("no namespace on request"));
    };
    let (mut rules, errors) = authorizer.rules(user, Some(&namespace));
    if user.in_group(MASTERS) {
        let all = || vec!["*".to_owned()];
        rules.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
        rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
    }
    let (mut resource_rules, mut path_rules): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for rule in rules {
        let push = |to: &mut Vec<Value>| {
            let value = json!(rule);
            if !to.contains(&value) {
                to.push(value);
            }
        };
        push(if rule.non_resource_urls.is_empty() { &mut resource_rules } else { &mut path_rules });
    }
    // The node authorizer cannot list its rules.
    let incomplete = user.node_name().is_some() || !errors.is_empty();
    review["status"] =
        json!({"incomplete": incomplete, "nonResourceRules": path_rules, "resourceRules": resource_rules});
    if !errors.is_empty() {
        review["status"]["evaluationError"] = json!(errors.join(", "));
    }
    Ok(review)
}

fn validate(spec: &Value, other: bool, local: bool) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (resource, other_path) = (given(spec, "resourceAttributes"), given(spec, "nonResourceAttributes"));
    if resource.is_some() && other_path.is_some() {
        let message = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            other_path.cloned().unwrap_or_default(),
            message,
        ));
    }
    if resource.is_none() && other_path.is_none() {
        let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&path.child("resourceAttributes"), Value::Null, message));
    }
    let empty = |field: &str| spec[field].as_str().is_none_or(str::is_empty);
    if other && empty("user") && spec["groups"].as_array().is_none_or(Vec::is_empty) {
        let message = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", message));
    }
    if local && other_path.is_some() {
        let message = "disallowed on this kind of request";
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            other_path.cloned().unwrap_or_default(),
            message,
        ));
    }
    errors
}

fn given<'a>(spec: &'a Value, field: &str) -> Option<&'a Value> {
    spec.get(field).filter(|v| !v.is_null())
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra =
        spec["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect();
    User { name: text("user"), uid: text("uid"), groups: strings(&spec["groups"]), extra }
}

fn attributes(spec: &Value) -> Attributes<'_> {
    let resource = &spec["resourceAttributes"];
    let text = |field: &str| resource[field].as_str().unwrap_or_default();
    let some = |field: &str| resource[field].as_str().filter(|v| !v.is_empty());
    match given(spec, "nonResourceAttributes") {
        Some(other) => Attributes {
            verb: other["verb"].as_str().unwrap_or_default(),
            path: Some(other["path"].as_str().unwrap_or_default()),
            ..Attributes::default()
        },
        None => Attributes {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: some("subresource"),
            namespace: some("namespace"),
            name: some("name"),
            path: None,
            field_selector: resource["fieldSelector"]["rawSelector"].as_str(),
        },
    }
}
