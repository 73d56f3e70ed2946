//! Whether a webhook is to be asked, and how.

use std::sync::Arc;

use super::hook::Hook;
use crate::api::{GroupVersionKind, Status};
use crate::server::admission::matching::{Asking, Objects, Scene};
use crate::server::auth::Authorizer;
use crate::server::cel::MATCH_CONDITIONS_BUDGET;
use crate::server::registry::Resource;

/// How a webhook is asked: the resource its rules name, and the kind of what it is shown.
pub(super) struct Invocation {
    pub(super) hook: Arc<Hook>,
    pub(super) resource: Arc<Resource>,
    pub(super) kind: GroupVersionKind,
}

impl Invocation {
    /// How the hook is to be asked, if at all.
    ///
    /// # Errors
    /// The namespace is missing, or the hook's selectors or conditions fail.
    pub(super) fn of(
        asking: &Asking<'_>,
        hook: &Arc<Hook>,
        authorizer: &Arc<Authorizer>,
        objects: Objects<'_>,
    ) -> Result<Option<Self>, Status> {
        let Some(resource) = hook.criteria.matches(asking, objects)? else { return Ok(None) };
        if !hook.conditions.is_empty() {
            let mut budget = MATCH_CONDITIONS_BUDGET;
            let scene = Scene::of(asking, resource, authorizer, objects)?;
            match hook.conditions.hold(&scene.variables(), &mut budget) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(_) if hook.ignore_failure => return Ok(None),
                Err(why) => {
                    return Err(Status::forbidden(&asking.entry.group_resource(), asking.name, why));
                }
            }
        }
        let kind = asking.kind_for(resource);
        Ok(Some(Self { hook: Arc::clone(hook), resource: Arc::clone(resource), kind }))
    }
}
