//! One question to one webhook, and what its failure means.

use bytes::Bytes;
use serde_json::Value;

use super::Webhooks;
use super::hook::{Hook, Kind};
use super::invocation::Invocation;
use super::response::{self, Unusable, Verdict};
use super::review;
use crate::api::Status;
use crate::api::field::quote;
use crate::api::meta::new_uid;
use crate::server::admission::matching::{Asking, request};

/// Why a webhook did not let a request pass.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be asked, or answered nonsense: its failure policy decides.
    Calling(String),
    /// It refuses, or the request cannot be shown to it.
    Refused(Status),
    /// What it said cannot be done.
    Internal(String),
}

impl Failure {
    /// It could not be asked.
    pub(super) fn is_calling(&self) -> bool {
        matches!(self, Self::Calling(_))
    }

    /// Kind and code, as metrics show them.
    pub(super) fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Calling(_) => ("calling_webhook_error", 503),
            Self::Refused(status) => ("no_error", status.code),
            Self::Internal(_) => ("apiserver_internal_error", 0),
        }
    }

    /// What becomes of the request: `Ok` if the webhook's failure does not matter.
    ///
    /// # Errors
    /// The answer to the client.
    pub(super) fn settle(self, hook: &Hook) -> Result<(), Status> {
        match self {
            Self::Refused(status) => Err(status),
            Self::Internal(why) => Err(Status::internal(why)),
            Self::Calling(why) => {
                let why = format!("failed calling webhook {}: {why}", quote(&hook.name));
                if hook.ignore_failure {
                    tracing::warn!(webhook = %hook.id, %why, "its failure policy lets the request pass");
                    return Ok(());
                }
                Err(Status::internal(why))
            }
        }
    }
}

/// Asks a webhook about the objects as they are shown to it.
///
/// # Errors
/// Why the request may not pass.
pub(super) async fn ask(
    webhooks: &Webhooks,
    kind: Kind,
    asking: &Asking<'_>,
    invocation: &Invocation,
    (object, old): (Option<Value>, Option<Value>),
) -> Result<Verdict, Failure> {
    let hook = &invocation.hook;
    check_dry_run(asking, hook)?;
    let version = hook.review.ok_or_else(|| {
        let known = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::Calling(format!("could not create admission objects: {known}"))
    })?;
    let uid = new_uid();
    let request = request(asking, &invocation.resource);
    let review = review::review(version, &uid, request, object, old);
    let body = Bytes::from(review.to_string());
    let answer = hook
        .endpoint
        .post(asking.reader, &webhooks.roots, body, hook.timeout)
        .await
        .map_err(|error| Failure::Calling(error.to_string()))?;
    let verdict = response::read(kind, version, &uid, &hook.name, &answer).map_err(|unusable| {
        Failure::Calling(match unusable {
            Unusable::Unreadable(why) => format!("failed to call webhook: {why}"),
            Unusable::Invalid(why) => format!("received invalid webhook response: {why}"),
        })
    })?;
    Ok(verdict)
}

/// A request that must have no effects is not shown to a webhook that may have some.
fn check_dry_run(asking: &Asking<'_>, hook: &Hook) -> Result<(), Failure> {
    if !asking.dry_run {
        return Ok(());
    }
    match hook.side_effects.as_deref() {
        Some("None" | "NoneOnDryRun") => Ok(()),
        Some(_) => {
            let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
            Err(Failure::Refused(Status::bad_request(why)))
        }
        None => Err(Failure::Calling("Webhook SideEffects is nil".to_owned())),
    }
}
