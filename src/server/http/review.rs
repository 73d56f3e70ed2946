//! Kinds of which nothing is stored: reviews are answered, component statuses are looked up.

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::{decode, health, negotiate, render, special};
use crate::api::Status;
use crate::server::auth::{authn, authz};
use crate::server::objects::schema_of;

/// Answers a review that is posted.
pub(super) async fn create(api: &Api, cx: Cx) -> Answer {
    negotiate::plain(&cx.parts.headers, None)?;
    let options = cx.params.write_options("CreateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let (review, warnings) =
        decode::checked(&schema_of(&cx.entry)?, cx.content_type(), &body, options.field_validation)?;
    let answer = match &*cx.entry.kind {
        "Binding" => return special::bind(api, &cx, &options, &review).await,
        "TokenReview" => api.authenticator.token_review(review)?,
        "SelfSubjectReview" => authn::review::self_subject(&cx.user, review),
        "SelfSubjectRulesReview" => authz::review::rules(&api.authorizer, &cx.user, review)?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" | "SelfSubjectAccessReview" => {
            authz::review::access(&api.authorizer, &cx.user, cx.namespace(), review)?
        }
        _ => return Err(Status::method_not_allowed().into()),
    };
    let mut response = render::value(&cx, StatusCode::CREATED, &answer)?;
    render::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// `componentstatuses`, deprecated but asked for by old tools: the tasks of this process.
pub(super) fn components(api: &Api, cx: &Cx) -> Answer {
    if cx.entry.plural != "componentstatuses" {
        return Err(Status::method_not_allowed().into());
    }
    let all: Vec<Value> = health::components(api)
        .into_iter()
        .map(|(name, problem)| {
            let mut condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
            if let Some(problem) = problem {
                condition = json!({"type": "Healthy", "status": "False", "error": problem});
            }
            json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]})
        })
        .collect();
    let mut value = match &cx.info.name {
        Some(name) => {
            let one = all.into_iter().find(|c| c["metadata"]["name"] == name.as_str());
            one.ok_or_else(|| Status::not_found(&cx.entry.group_resource(), name))?
        }
        None => json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": all}),
    };
    if let super::negotiate::Form::Table(version) = render::output(cx)?.form {
        let items = match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![value],
        };
        value = super::table::of_many(cx, version, json!({}), items.into_iter())?;
    }
    render::value(cx, StatusCode::OK, &value)
}
