//! Changes objects: replace, patch, apply, and all of their subresources that are parts of the object.

use std::time::Duration;

use serde_json::Value;

use super::commit::{Effect, Refused};
use super::{Call, Objects, Review, Said, Written, meta, schema_of};
use crate::api::meta::{MetaMut, now};
use crate::api::{Meta, Object, Status};
use crate::server::admission::Operation;
use crate::server::cache::Kind;
use crate::server::patch::managed;
use crate::server::registry::Storage;
use crate::store::{Expect, Revision};

/// A change that names no revision is tried so often when others write at the same time: each time it
/// loses, another has won.
pub(super) const ATTEMPTS: usize = 1000;
/// A write that won but is not acknowledged for so long has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an object is to be changed.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    /// Its name.
    pub name: &'a str,
    /// Through which subresource.
    pub subresource: Option<&'a str>,
    /// If the object does not exist, create what is made of nothing, instead of a 404.
    pub create: bool,
    /// The changed object has its managed fields already, as an apply makes them.
    pub owned: bool,
}

impl Change<'_> {
    fn review<'b>(&'b self, call: &Call<'b>) -> Review<'b> {
        Review::new(call, Operation::Update, self.subresource, self.name)
    }

    /// Subresources that are a field of the object, which strategies prepare on their own; a scale is a
    /// change of the spec like another.
    fn part(&self) -> Option<&str> {
        self.subresource.filter(|s| *s != "scale")
    }
}

/// Waits for the write that was faster.
pub(super) async fn wait(kind: &Kind, call: &Call<'_>, name: &str, tried: Option<Revision>) {
    wait_for(kind, call.namespace, name, tried).await;
}

/// Waits until an object is not what it was at this revision.
pub(super) async fn wait_for(kind: &Kind, namespace: Option<&str>, name: &str, tried: Option<Revision>) {
    let moved = kind.moved_on(namespace, name, tried);
    if tokio::time::timeout(PATIENCE, moved).await.is_err() {
        tracing::warn!(kind = kind.name(), name, "a write that came first is not acknowledged");
    }
}

impl Objects {
    /// Changes an object to what `apply` makes of it; `apply` is called again when another write came
    /// between. A resource version in what it makes must be the object's.
    ///
    /// # Errors
    /// 400, 403, 404, 409 or 422 for the client; 500 and 507 when the store failed.
    pub async fn update(
        &self,
        call: &Call<'_>,
        change: Change<'_>,
        apply: &mut (dyn FnMut(Option<&Value>) -> Result<Value, Status> + Send),
    ) -> Result<Written, Status> {
        let kind = self.kind(call.resource)?;
        for _ in 0..ATTEMPTS {
            let Some(current) = kind.get(call.namespace, change.name) else {
                if !change.create {
                    return Err(call.not_found(change.name));
                }
                let mut object = apply(None)?;
                meta::fill_name(change.name, &mut object)?;
                meta::begin_create_on_update(call, change.name, &mut object)?;
                match self.create_with(call, object, change.owned).await {
                    Err(status) if status.code == 409 => {
                        wait(&kind, call, change.name, None).await;
                        continue;
                    }
                    result => return result,
                }
            };
            let old = call.resource.read(&current);
            let new = self.changed(call, &change, &old, apply(Some(&old))?)?;
            match self.commit_change(call, &change, &current, &old, new).await {
                Err(Refused::Conflict) => wait(&kind, call, change.name, Some(current.revision())).await,
                Err(Refused::Failed(status)) => return Err(status),
                Ok(written) => return Ok(written),
            }
        }
        Err(Status::modified(&call.resource.group_resource(), change.name))
    }

    /// Checks that the change is one of this object, and keeps what it cannot change.
    fn changed(
        &self,
        call: &Call<'_>,
        change: &Change<'_>,
        old: &Value,
        mut new: Value,
    ) -> Result<Value, Status> {
        meta::fill_namespace(call, &mut new)?;
        meta::fill_name(change.name, &mut new)?;
        let resource = call.resource.group_resource();
        let (given, stored) = (Meta::of(&new).resource_version(), Meta::of(old).resource_version());
        if given.is_empty() && !call.resource.unconditional_update {
            return Err(meta::no_resource_version(call, change.name));
        }
        if !given.is_empty() && given != stored {
            return Err(Status::modified(&resource, change.name));
        }
        let (given, stored) = (Meta::of(&new).uid(), Meta::of(old).uid());
        if !given.is_empty() && given != stored {
            let why =
                format!("Precondition failed: UID in precondition: {given}, UID in object meta: {stored}");
            return Err(Status::conflict(&resource, change.name, why));
        }
        call.resource.settle(&mut new)?;
        meta::carry(&mut new, old);
        // As every object in the store, so that an update that changes nothing is seen as such.
        MetaMut::of(&mut new).set_resource_version(Meta::of(old).resource_version());
        Ok(new)
    }

    async fn commit_change(
        &self,
        call: &Call<'_>,
        change: &Change<'_>,
        current: &Object,
        old: &Value,
        mut new: Value,
    ) -> Result<Written, Refused> {
        let failed = Refused::Failed;
        let mut said = Said::default();
        let review = change.review(call);
        self.mutate(call, &review, Some(&mut new), Some(old), &mut said).await.map_err(failed)?;
        meta::complete_update(call, change.name, &mut new, old).map_err(failed)?;
        let (strategy, context) = (&call.resource.strategy, self.context(call));
        match change.part() {
            None => strategy.prepare_update(&context, &mut new, old),
            Some(part) => strategy.prepare_subresource(&context, part, &mut new, old),
        }
        .map_err(failed)?;
        if let Err(status) = self.check_change(call, change, old, &mut new, &mut said).await {
            strategy.rollback(&new);
            return Err(Refused::Failed(status));
        }
        let mut warnings = said.warnings;
        if change.subresource.is_none() {
            warnings.extend(strategy.warnings_on_update(&new, old));
        }
        let unchanged =
            new == *old && !self.kind(call.resource).map_err(failed)?.is_stale(call.namespace, change.name);
        if call.options.dry_run || unchanged {
            strategy.rollback(&new);
            self.afford(call, Effect { review, new: Some(&mut new), old: Some(old) })?;
            return Ok(Written { bytes: new.to_string().into(), created: false, warnings });
        }
        let expect = Expect::Revision(current.revision());
        if self.is_finished(&new) {
            self.remove(call, Effect { review, new: None, old: Some(old) }, expect).await?;
            strategy.deleted(&new);
            return Ok(Written { bytes: new.to_string().into(), created: false, warnings });
        }
        let effect = Effect { review, new: Some(&mut new), old: Some(old) };
        match self.put(call, effect, expect).await {
            Ok(bytes) => Ok(Written { bytes, created: false, warnings }),
            Err(refused) => {
                strategy.rollback(&new);
                Err(refused)
            }
        }
    }

    async fn check_change(
        &self,
        call: &Call<'_>,
        change: &Change<'_>,
        old: &Value,
        new: &mut Value,
        said: &mut Said,
    ) -> Result<(), Status> {
        let (strategy, context) = (&call.resource.strategy, self.context(call));
        let mut errors = meta::validate_update(new, old);
        errors.extend(match change.part() {
            None => strategy.validate_update(&context, new, old),
            Some(part) => strategy.validate_subresource(&context, part, new, old),
        });
        if let (Storage::View(view), None) = (call.entry.storage, change.part()) {
            (view.validate)(new, Some(old), &mut errors);
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&call.resource.group_kind(), change.name, &errors));
        }
        self.validate(call, &change.review(call), Some(new), Some(old), said).await?;
        if !change.owned {
            let (manager, version) = (&call.options.field_manager, call.resource.api_version());
            let part = change.subresource.unwrap_or_default();
            managed::track_update(
                &schema_of(call.resource)?,
                Some(old),
                new,
                manager,
                &version,
                part,
                &now(),
            );
        }
        Ok(())
    }

    /// Whether the last finalizer of an object that is being deleted is gone.
    fn is_finished(&self, object: &Value) -> bool {
        let meta = Meta::of(object);
        let grace = meta.deletion_grace_period_seconds().unwrap_or(0);
        meta.deletion_timestamp().is_some() && grace == 0 && !meta::is_held(object)
    }
}
