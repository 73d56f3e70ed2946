//! Validating webhooks: all at once.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;

use super::Webhooks;
use super::call::{self, Failure};
use super::hook::{Hook, Kind};
use super::invocation::Invocation;
use crate::api::Status;
use crate::server::admission::Attributes;
use crate::server::admission::matching::{Asking, Objects};

/// Asks all webhooks that are concerned.
///
/// # Errors
/// What the first of them that refuses says, or why one could not be asked.
pub(super) async fn dispatch(
    webhooks: &Webhooks,
    hooks: &[Arc<Hook>],
    asking: &Asking<'_>,
    attributes: &mut Attributes<'_>,
) -> Result<(), Status> {
    let objects = (attributes.object.as_deref(), attributes.old);
    let mut invocations: Vec<Invocation> = Vec::new();
    for hook in hooks {
        invocations.extend(Invocation::of(asking, hook, &webhooks.authorizer, objects)?);
    }
    if invocations.is_empty() {
        return Ok(());
    }
    let asked = invocations.iter().map(|invocation| ask(webhooks, asking, invocation, objects));
    let mut result = Ok(());
    // All are waited for, as upstream does: who refuses has been asked in any case.
    for (invocation, (warnings, answer)) in invocations.iter().zip(join_all(asked).await) {
        attributes.warnings.extend(warnings);
        let settled = answer.or_else(|failure| failure.settle(&invocation.hook));
        result = result.and(settled);
    }
    result
}

/// Asks one webhook: what it warns of, and whether it refuses.
async fn ask(
    webhooks: &Webhooks,
    asking: &Asking<'_>,
    invocation: &Invocation,
    objects: Objects<'_>,
) -> (Vec<String>, Result<(), Failure>) {
    let shown = match asking.show_all(&invocation.resource, objects) {
        Ok(shown) => shown,
        Err(status) => return (Vec::new(), Err(Failure::Refused(status))),
    };
    let start = Instant::now();
    let (warnings, result) = match call::ask(webhooks, Kind::Validating, asking, invocation, shown).await {
        Ok(verdict) => (verdict.warnings, verdict.denied.map_or(Ok(()), |s| Err(Failure::Refused(s)))),
        Err(failure) => (Vec::new(), Err(failure)),
    };
    let of = (Kind::Validating, &*invocation.hook);
    webhooks.metrics.count(of, asking.operation_name(), start.elapsed(), result.as_ref().err());
    (warnings, result)
}
