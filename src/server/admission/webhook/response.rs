//! What a webhook answers, checked as upstream checks it.

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

use super::hook::{Kind, ReviewVersion};
use crate::api::field::quote;
use crate::api::status::Details;
use crate::api::{Reason, Status};

/// The answer of a webhook.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Why not, if it refuses.
    pub(super) denied: Option<Status>,
    /// Texts for `Warning` headers.
    pub(super) warnings: Vec<String>,
    /// What it changes: a JSON patch.
    pub(super) patch: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    #[serde(default)]
    status: Option<Refusal>,
    #[serde(default)]
    patch: Option<String>,
    #[serde(default)]
    patch_type: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: Option<i64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    details: Option<Details>,
}

/// Why an answer cannot be used.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// It is no AdmissionReview.
    Unreadable(String),
    /// It is one that breaks a rule.
    Invalid(String),
}

/// Reads the answer to a review.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn read(
    kind: Kind,
    version: ReviewVersion,
    uid: &str,
    hook: &str,
    body: &[u8],
) -> Result<Verdict, Unusable> {
    let unreadable = |why: String| Unusable::Unreadable(why);
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| unreadable(format!("couldn't get version/kind; json parse error: {e}")))?;
    let review: Review = serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))?;
    let invalid = |why: String| Err(Unusable::Invalid(why));
    let Some(response) = review.response else { return invalid("webhook response was absent".to_owned()) };
    let patch = base64::engine::general_purpose::STANDARD
        .decode(response.patch.as_deref().unwrap_or_default())
        .map_err(|e| unreadable(format!("illegal base64 data in response.patch: {e}")))?;
    let mut verdict = Verdict { warnings: response.warnings.unwrap_or_default(), ..Verdict::default() };
    if version == ReviewVersion::V1 {
        if response.uid != uid {
            return invalid(format!("expected response.uid={}, got {}", quote(uid), quote(&response.uid)));
        }
        let got = group_version_kind(&review.api_version, &review.kind);
        if got != WANTED {
            return invalid(format!("expected webhook response of {WANTED}, got {got}"));
        }
        check_patch(kind, &patch, response.patch_type.as_deref()).map_err(Unusable::Invalid)?;
    }
    if !response.allowed {
        verdict.denied = Some(denial(hook, response.status.unwrap_or_default()));
    }
    if kind == Kind::Mutating {
        verdict.patch = patch;
    }
    Ok(verdict)
}

const WANTED: &str = "admission.k8s.io/v1, Kind=AdmissionReview";

/// As Go prints one, also an empty one.
fn group_version_kind(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

fn check_patch(kind: Kind, patch: &[u8], patch_type: Option<&str>) -> Result<(), String> {
    let wrong = match (kind, patch.is_empty(), patch_type) {
        (Kind::Validating, false, _) => "validating webhook may not return response.patch",
        (Kind::Validating, true, Some(_)) => "validating webhook may not return response.patchType",
        (Kind::Mutating, false, None) => "webhook returned response.patch but not response.patchType",
        (Kind::Mutating, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (Kind::Mutating, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (Kind::Mutating, false, Some("JSONPatch")) => return Ok(()),
        (Kind::Mutating, false, Some(other)) => {
            return Err(format!("unsupported patch type {}", quote(other)));
        }
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

/// The failure of a request that a webhook refuses.
fn denial(hook: &str, refusal: Refusal) -> Status {
    let by = format!("admission webhook {} denied the request", quote(hook));
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let message = match (given(&refusal.message), given(&refusal.reason)) {
        (Some(why), _) | (None, Some(why)) => format!("{by}: {why}"),
        (None, None) => format!("{by} without explanation"),
    };
    let code = refusal.code.and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let reason =
        given(&refusal.reason).map(Value::String).and_then(|r| serde_json::from_value::<Reason>(r).ok());
    let mut status = Status::new(code.unwrap_or(400), reason.unwrap_or_default(), message);
    status.details = refusal.details.map(Box::new);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn v1(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    fn of(kind: Kind, body: &[u8]) -> Result<Verdict, Unusable> {
        read(kind, ReviewVersion::V1, "u", "h.a.b", body)
    }

    #[test]
    fn answers_that_break_a_rule_are_named() {
        let patch = "W10="; // []
        for (kind, body, why) in [
            (Kind::Mutating, v1(Value::Null), "webhook response was absent"),
            (Kind::Mutating, v1(json!({"uid": "x"})), "expected response.uid=\"u\", got \"x\""),
            (
                Kind::Mutating,
                json!({"response": {"uid": "u"}}).to_string().into_bytes(),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
            ),
            (
                Kind::Mutating,
                v1(json!({"uid": "u", "patch": patch})),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                Kind::Mutating,
                v1(json!({"uid": "u", "patchType": "JSONPatch"})),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                Kind::Mutating,
                v1(json!({"uid": "u", "patch": patch, "patchType": ""})),
                "webhook returned invalid response.patchType of \"\"",
            ),
            (
                Kind::Validating,
                v1(json!({"uid": "u", "patch": patch})),
                "validating webhook may not return response.patch",
            ),
            (
                Kind::Validating,
                v1(json!({"uid": "u", "patchType": "JSONPatch"})),
                "validating webhook may not return response.patchType",
            ),
        ] {
            assert_eq!(of(kind, &body).unwrap_err(), Unusable::Invalid(why.to_owned()));
        }
        assert!(matches!(of(Kind::Mutating, b"<html>"), Err(Unusable::Unreadable(_))));
        assert!(matches!(
            of(Kind::Mutating, &v1(json!({"uid": "u", "patch": "*"}))),
            Err(Unusable::Unreadable(_))
        ));
    }

    #[test]
    fn a_refusal_has_upstreams_words() {
        let denied = |status: Value| {
            let body = v1(json!({"uid": "u", "allowed": false, "status": status}));
            let status = of(Kind::Validating, &body).unwrap().denied.unwrap();
            (status.code, status.reason, status.message)
        };
        let by = "admission webhook \"h.a.b\" denied the request";
        assert_eq!(denied(Value::Null), (400, Reason::Unknown, format!("{by} without explanation")));
        assert_eq!(denied(json!({"message": "no"})), (400, Reason::Unknown, format!("{by}: no")));
        assert_eq!(
            denied(json!({"reason": "Forbidden", "code": 403})),
            (403, Reason::Forbidden, format!("{by}: Forbidden"))
        );
        assert_eq!(denied(json!({"code": 200, "message": "m"})).0, 400);
    }

    #[test]
    fn the_old_version_is_not_checked_as_closely() {
        let body = json!({"response": {"allowed": true, "patch": "W10="}}).to_string();
        let verdict = read(Kind::Mutating, ReviewVersion::V1Beta1, "u", "h", body.as_bytes()).unwrap();
        assert_eq!(verdict, Verdict { patch: b"[]".to_vec(), ..Verdict::default() });
    }
}
