//! Whether a webhook is concerned by a request, and in which version of the object.

use std::sync::Arc;

use serde_json::Value;

use super::asking::Asking;
use super::hook::Hook;
use crate::api::{GroupResource, GroupVersionKind, Meta, Status};
use crate::server::admission::Operation;
use crate::server::auth::Authorizer;
use crate::server::registry::Resource;

/// How a webhook is asked: the resource its rules name, and the kind of what it is shown.
#[derive(Clone)]
pub(super) struct Invocation {
    pub(super) hook: Arc<Hook>,
    pub(super) resource: Arc<Resource>,
    pub(super) kind: GroupVersionKind,
}

/// How the hook is to be asked, if at all.
///
/// # Errors
/// The namespace is missing, or the hook's selectors or conditions fail.
pub(super) fn invocation(
    asking: &Asking<'_>,
    hook: &Arc<Hook>,
    authorizer: &Arc<Authorizer>,
    (object, old): (Option<&Value>, Option<&Value>),
) -> Result<Option<Invocation>, Status> {
    let Some(resource) = resource(asking, hook) else { return Ok(None) };
    if !selects_namespace(asking, hook, object)? || !selects_object(asking, hook, object, old)? {
        return Ok(None);
    }
    if !hook.conditions.is_empty() {
        match hook.conditions.hold(asking, resource, authorizer, (object, old)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if hook.ignore_failure => return Ok(None),
            Err(why) => {
                return Err(Status::forbidden(&asking.entry.group_resource(), asking.name, why));
            }
        }
    }
    let kind = asking.kind_for(resource);
    Ok(Some(Invocation { hook: Arc::clone(hook), resource: Arc::clone(resource), kind }))
}

/// The request's resource if a rule is about it, else the first other version of it that one is about.
fn resource<'a>(asking: &Asking<'a>, hook: &Hook) -> Option<&'a Arc<Resource>> {
    if hook.rules.iter().any(|rule| rule.matches(asking, asking.entry)) {
        return Some(asking.entry);
    }
    if !hook.equivalent {
        return None;
    }
    // Earlier rules come first, whichever version they name.
    hook.rules.iter().find_map(|rule| asking.equivalents().find(|other| rule.matches(asking, other)))
}

fn selects_namespace(asking: &Asking<'_>, hook: &Hook, object: Option<&Value>) -> Result<bool, Status> {
    if asking.namespace.is_empty() && !asking.is_namespace() {
        return Ok(true);
    }
    let selector = hook.namespaces.as_ref().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(asking.operation, Operation::Create | Operation::Update);
    if asking.is_namespace() && asking.subresource.is_empty() && written {
        let labels = object.map(Meta::of);
        return Ok(selector.matches(|key| labels.and_then(|meta| meta.label(key))));
    }
    let found = asking.reader.get("namespaces", None, asking.namespace);
    let missing = || Status::not_found(&GroupResource::new("", "namespaces"), asking.namespace);
    let namespace = found.ok_or_else(missing)?;
    Ok(selector.matches(|key| namespace.label(key)))
}

fn selects_object(
    asking: &Asking<'_>,
    hook: &Hook,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<bool, Status> {
    let selector = hook.objects.as_ref().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let selected = |object: &Value| selector.matches(|key| Meta::of(object).label(key));
    Ok([object, old].into_iter().filter_map(|o| asking.labelled(o)).any(selected))
}
