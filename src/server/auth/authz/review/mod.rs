//! Answers `SubjectAccessReview`, `LocalSubjectAccessReview`, `SelfSubjectAccessReview` and
//! `SelfSubjectRulesReview` of `authorization.k8s.io/v1`.

mod validate;

use serde_json::{Value, json};

use super::rbac::Rule;
use super::{Attributes, Authorizer};
use crate::api::{GroupKind, Status};
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
    if local {
        let given = review["metadata"]["namespace"].as_str().unwrap_or_default();
        if !given.is_empty() && Some(given) != namespace {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(message));
        }
        review["metadata"]["namespace"] = json!(namespace);
    }
    let errors = validate::access(&review, other, local);
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new(GROUP, kind), "", &errors));
    }
    let spec = &review["spec"];
    let subject = if other { subject(spec) } else { user.clone() };
    let fields = field_selector(&spec["resourceAttributes"]["fieldSelector"]);
    let decision = authorizer.explain(&subject, &attributes(spec, fields.as_deref()));
    review["status"] = match decision {
        Ok(reason) if reason.is_empty() => json!({"allowed": true}),
        Ok(reason) => json!({"allowed": true, "reason": reason}),
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
    let (mut rules, mut errors) = authorizer.rules(user, Some(&namespace));
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
    if user.node_name().is_some() {
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    let incomplete = !errors.is_empty();
    review["status"] =
        json!({"incomplete": incomplete, "nonResourceRules": path_rules, "resourceRules": resource_rules});
    if !errors.is_empty() {
        review["status"]["evaluationError"] = json!(errors.join(", "));
    }
    Ok(review)
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

/// The field selector of a review as a request would have it.
fn field_selector(selector: &Value) -> Option<String> {
    if let Some(raw) = selector["rawSelector"].as_str().filter(|s| !s.is_empty()) {
        return Some(raw.to_owned());
    }
    let requirements = selector["requirements"].as_array()?;
    // What cannot be said as a selector limits less than it says, which nobody gains by.
    let terms = requirements.iter().filter_map(|r| {
        let operator = match r["operator"].as_str()? {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        let [value] = r["values"].as_array()?.as_slice() else { return None };
        Some(format!("{}{operator}{}", r["key"].as_str()?, value.as_str()?))
    });
    Some(terms.collect::<Vec<_>>().join(","))
}

fn attributes<'a>(spec: &'a Value, field_selector: Option<&'a str>) -> Attributes<'a> {
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
            field_selector,
        },
    }
}
