//! Mutating webhooks: one after the other, in the order of their names, some twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::Webhooks;
use super::call::{self, Failure};
use super::hook::{Hook, Kind};
use super::invocation::Invocation;
use crate::api::field::quote;
use crate::api::{FieldValidation, Schemas, Status};
use crate::server::admission::Attributes;
use crate::server::admission::matching::Asking;

/// The two rounds of a request: when a webhook changed the object, plugins and those webhooks that want it look at
/// it again.
#[derive(Default)]
pub struct Rounds {
    second: bool,
    changed: bool,
    /// Asked so far, and to be asked again if the object changes after.
    asked: HashSet<String>,
    /// To be asked in the second round.
    wanted: HashSet<String>,
    /// The object after the first round.
    last: Option<Value>,
}

impl Rounds {
    /// Whether there is to be a second round, which begins with this call.
    pub fn again(&mut self) -> bool {
        let again = self.changed && !self.second;
        self.second |= again;
        again
    }

    /// The object changed: who looked at it before is to look again.
    fn object_changed(&mut self) {
        self.wanted.extend(self.asked.drain());
    }

    fn begin(&mut self, object: Option<&Value>) {
        if self.second && self.last.as_ref() != object {
            self.object_changed();
        }
    }

    fn end(&mut self, object: Option<&Value>) {
        if self.changed && !self.second {
            self.last = object.cloned();
        }
    }
}

/// Asks all webhooks that are concerned and changes the object as they say.
///
/// # Errors
/// What the first that refuses says, or why one could not be asked.
pub(super) async fn dispatch(
    webhooks: &Webhooks,
    hooks: &[Arc<Hook>],
    asking: &Asking<'_>,
    attributes: &mut Attributes<'_>,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    rounds.begin(attributes.object.as_deref());
    for hook in hooks {
        let objects = (attributes.object.as_deref(), attributes.old);
        let Some(invocation) = Invocation::of(asking, hook, &webhooks.authorizer, objects)? else {
            continue;
        };
        // Who was not asked in the first round is not asked in the second.
        if rounds.second && !rounds.wanted.contains(&hook.id) {
            continue;
        }
        let start = Instant::now();
        let result = ask(webhooks, asking, &invocation, attributes).await;
        let of = (Kind::Mutating, &**hook);
        webhooks.metrics.count(of, asking.operation_name(), start.elapsed(), result.as_ref().err());
        if matches!(result, Ok(true)) {
            rounds.object_changed();
            rounds.changed = true;
        }
        if hook.reinvoke {
            rounds.asked.insert(hook.id.clone());
        }
        if let Err(failure) = result {
            failure.settle(hook)?;
        }
    }
    rounds.end(attributes.object.as_deref());
    Ok(())
}

/// Asks one webhook; whether it changed the object.
async fn ask(
    webhooks: &Webhooks,
    asking: &Asking<'_>,
    invocation: &Invocation,
    attributes: &mut Attributes<'_>,
) -> Result<bool, Failure> {
    let objects = (attributes.object.as_deref(), attributes.old);
    let shown = asking.show_all(&invocation.resource, objects).map_err(Failure::Refused)?;
    let verdict = call::ask(webhooks, Kind::Mutating, asking, invocation, shown).await?;
    attributes.warnings.extend(verdict.warnings);
    if let Some(status) = verdict.denied {
        return Err(Failure::Refused(status));
    }
    if verdict.patch.is_empty() {
        return Ok(false);
    }
    let patch: Patch = serde_json::from_slice(&verdict.patch)
        .map_err(|e| Failure::Calling(format!("received undecodable patch in webhook response: {e}")))?;
    if patch.0.is_empty() {
        return Ok(false);
    }
    let Some(object) = attributes.object.as_deref_mut() else {
        return Err(Failure::Internal(format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            quote(&invocation.hook.name)
        )));
    };
    let before = asking.show(&invocation.resource, object).map_err(Failure::Refused)?;
    let after = patched(invocation, &before, &patch).map_err(Failure::Internal)?;
    let changed = after != before;
    if changed {
        asking.take(&invocation.resource, after, object).map_err(Failure::Refused)?;
    }
    Ok(changed)
}

/// What a patch makes of an object: of its kind still, without fields its kind does not have, with its defaults.
fn patched(invocation: &Invocation, before: &Value, patch: &Patch) -> Result<Value, String> {
    let mut after = before.clone();
    json_patch::patch(&mut after, patch).map_err(|error| {
        let operation = patch.0.get(error.operation).map_or("json patch", name);
        match error.kind {
            json_patch::PatchErrorKind::TestFailed => {
                format!("testing value {} failed: test failed", error.path)
            }
            _ => format!(
                "jsonpatch {operation} operation does not apply: doc is missing path: {}: missing value",
                quote(&error.path.to_string())
            ),
        }
    })?;
    let kind = &invocation.kind;
    if after["kind"] != before["kind"] || after["apiVersion"] != before["apiVersion"] {
        return Err(format!("webhook {} made another kind of a {kind}", quote(&invocation.hook.name)));
    }
    let schema = if invocation.resource.gvk() == *kind {
        invocation.resource.schema().ok()
    } else {
        Schemas::builtin().get(kind)
    };
    // There is none of the options of streams.
    if let Some(schema) = schema {
        let checked = schema.check(&mut after, FieldValidation::Ignore);
        if !checked.errors.is_empty() {
            return Err(checked.errors.join(", "));
        }
        match &invocation.resource.custom {
            Some(custom) if custom.schema().is_ok_and(|own| own.kind() == schema.kind()) => {
                custom.settle(&mut after);
            }
            _ => schema.default(&mut after),
        }
    }
    Ok(after)
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}
