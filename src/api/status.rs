//! The error of the API: `meta/v1.Status`, with the codes, reasons and texts of `apimachinery/pkg/api/errors`.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::field::{FieldError, quote};
use super::identity::{GroupKind, GroupResource};

/// The machine-readable reason of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of meta/v1 StatusReason and say what they are")]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[default]
    #[serde(rename = "", other)]
    Unknown,
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Machine readable, as in `FieldValueRequired`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field's path, where one is to blame.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The resource's group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource's plural name, or the kind for `Invalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// More than one thing may be wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which the client may try again; 0 is not told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A failed request. [`Status::to_value`] is the body that is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// Machine readable.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
}

impl Status {
    /// A failure without details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        (details.group, details.kind, details.name) = (group.into(), kind.into(), name.into());
        self
    }

    fn of(code: u16, reason: Reason, message: String, resource: &GroupResource, name: &str) -> Self {
        Self::new(code, reason, message).about(&resource.group, &resource.resource, name)
    }

    /// Tells the client to wait this many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// 404: there is no such object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::of(404, Reason::NotFound, format!("{resource} {} not found", quote(name)), resource, name)
    }

    /// 404: nothing is served at this path.
    pub fn no_such_path() -> Self {
        Self::new(404, Reason::NotFound, "the server could not find the requested resource").about("", "", "")
    }

    /// 409: an object of this name exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::of(
            409,
            Reason::AlreadyExists,
            format!("{resource} {} already exists", quote(name)),
            resource,
            name,
        )
    }

    /// 409: no free name was found for `generateName`.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::of(409, Reason::AlreadyExists, message, resource, name).retry_after(1)
    }

    /// 409: the object changed meanwhile, or must not be changed so.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::of(409, Reason::Conflict, message, resource, name)
    }

    /// 409: the resource version given is not the object's.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        const WHY: &str =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, WHY)
    }

    /// 409: server-side apply would change fields of other managers.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        let mut status = Self::new(409, Reason::Conflict, message);
        status.details = Some(Box::new(Details { causes, ..Details::default() }));
        status
    }

    /// 422: fields are wrong.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[FieldError]) -> Self {
        let mut message = format!("{kind} {} is invalid", quote(name));
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for text in errors.iter().map(FieldError::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [] => {}
            [one] => message.push_str(&format!(": {one}")),
            many => message.push_str(&format!(": [{}]", many.join(", "))),
        }
        let mut status = Self::new(422, Reason::Invalid, message).about(&kind.group, &kind.kind, name);
        status.details.get_or_insert_default().causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.reason().into(), message: e.body(), field: e.field.to_string() })
            .collect();
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 401: who is it?
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403: not permitted. `resource` may have an empty name for non-resource paths.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = if resource.resource.is_empty() && resource.group.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Self::of(403, Reason::Forbidden, message, resource, name)
    }

    /// 405: this resource does not do that.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind {}", quote(&resource.to_string()));
        Self::of(405, Reason::MethodNotAllowed, message, resource, "")
    }

    /// 405: nothing at this path takes this method.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
        .about("", "", "")
    }

    /// 410 with reason Gone.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    /// 410 with reason Expired: the resource version or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 410 for a watch that starts before what the server remembers.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    /// 413: the body has more than `limit` bytes.
    pub fn request_entity_too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, Reason::RequestEntityTooLarge, message)
    }

    /// 415: a body of a type that is not read here.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 406: nothing the client accepts can be sent.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 504: the request took too long.
    pub fn timeout(message: impl Display, retry_after_seconds: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 500 with reason ServerTimeout: a passing fault, to be tried again.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::of(500, Reason::ServerTimeout, message, resource, operation).retry_after(retry_after_seconds)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// 500: a fault of ours.
    pub fn internal(error: impl Display) -> Self {
        let message = error.to_string();
        Self::new(500, Reason::InternalError, format!("Internal error occurred: {message}"))
            .cause("", message, "")
    }

    /// The causes, if any.
    pub fn causes(&self) -> &[Cause] {
        self.details.as_ref().map_or(&[], |d| &d.causes)
    }

    /// The body that is sent.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if self.reason != Reason::Unknown {
            value["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            value["details"] = json!(details);
        }
        value
    }

    /// The answer to a successful delete that does not return the object.
    pub fn success(resource: &GroupResource, name: &str, uid: &str) -> Value {
        let details = Details {
            name: name.into(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            uid: uid.into(),
            ..Details::default()
        };
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::Path;
    use super::*;

    fn deployments() -> GroupResource {
        GroupResource::new("apps", "deployments")
    }

    #[test]
    fn texts_and_codes_are_upstreams() {
        let r = deployments();
        let table = [
            (Status::not_found(&r, "x"), 404, "NotFound", r#"deployments.apps "x" not found"#),
            (Status::already_exists(&r, "x"), 409, "AlreadyExists", r#"deployments.apps "x" already exists"#),
            (
                Status::modified(&r, "x"),
                409,
                "Conflict",
                "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply your changes to the latest version and try again",
            ),
            (Status::forbidden(&r, "", "no"), 403, "Forbidden", "deployments.apps is forbidden: no"),
            (Status::forbidden(&r, "x", "no"), 403, "Forbidden", "deployments.apps \"x\" is forbidden: no"),
            (Status::forbidden(&GroupResource::new("", ""), "", "no"), 403, "Forbidden", "forbidden: no"),
            (Status::unauthorized(), 401, "Unauthorized", "Unauthorized"),
            (
                Status::method_not_supported(&r, "patch"),
                405,
                "MethodNotAllowed",
                "patch is not supported on resources of kind \"deployments.apps\"",
            ),
            (Status::too_old(1, 9), 410, "Expired", "too old resource version: 1 (9)"),
            (Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
            (Status::timeout("late", 0), 504, "Timeout", "Timeout: late"),
            (
                Status::unsupported_media_type(&["application/json", "application/yaml"]),
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            ),
        ];
        for (status, code, reason, message) in table {
            let value = status.to_value();
            assert_eq!(value["code"], code, "{message}");
            assert_eq!(value["reason"], reason, "{message}");
            assert_eq!(value["message"], message);
            assert_eq!(value["status"], "Failure");
        }
    }

    #[test]
    fn invalid_lists_each_cause_and_joins_the_texts() {
        let kind = GroupKind::new("", "Pod");
        let spec = Path::new("spec");
        let errors =
            [FieldError::required(&spec.child("a"), ""), FieldError::invalid(&spec.child("b"), 1, "no")];
        let one = Status::invalid(&kind, "x", &errors[..1]);
        assert_eq!(one.message, "Pod \"x\" is invalid: spec.a: Required value");
        let two = Status::invalid(&kind, "x", &errors);
        assert_eq!(
            two.message,
            "Pod \"x\" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: no]"
        );
        assert_eq!(two.code, 422);
        assert_eq!(
            two.to_value()["details"],
            json!({"name": "x", "kind": "Pod", "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueInvalid", "message": "Invalid value: 1: no", "field": "spec.b"}]})
        );
        let same = [errors[0].clone(), errors[0].clone()];
        assert_eq!(Status::invalid(&kind, "x", &same).message, one.message);
    }

    #[test]
    fn success_names_the_object() {
        let value = Status::success(&deployments(), "x", "u");
        assert_eq!(value["status"], "Success");
        assert_eq!(
            value["details"],
            json!({"name": "x", "group": "apps", "kind": "deployments", "uid": "u"})
        );
    }

    #[test]
    fn retry_after_is_told() {
        let value = Status::too_many_requests("slow down", 3).to_value();
        assert_eq!(value["details"]["retryAfterSeconds"], 3);
    }
}
