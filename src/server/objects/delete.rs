//! Deletes objects: preconditions, propagation, grace, finalizers.
//!
//! Follows `apiserver/pkg/registry/rest/delete.go` and `generic/registry/store.go`.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::commit::{Effect, Refused};
use super::update::wait;
use super::{Call, Objects, Review, Said, meta};
use crate::api::meta::{MetaMut, parse_time, time};
use crate::api::{GroupResource, Meta, Object, Status};
use crate::server::admission::Operation;
use crate::server::cache::with_revision;
use crate::server::registry::strategy::Deletion;
use crate::store::Expect;

const ATTEMPTS: usize = 1000;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

impl Propagation {
    /// Reads `propagationPolicy`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Orphan" => Some(Self::Orphan),
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            _ => None,
        }
    }
}

/// `DeleteOptions` of `meta/v1`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds the object is given to end.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of what it owns.
    pub propagation: Option<Propagation>,
    /// What the client said of that in the old way.
    pub orphan_dependents: Option<bool>,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must have this resource version.
    pub resource_version: Option<String>,
}

/// A deletion that succeeded.
#[derive(Debug)]
pub struct Deleted {
    /// The object: as it is now if it is not gone yet, else as it was.
    pub bytes: Bytes,
    /// Its uid.
    pub uid: String,
    /// It is gone.
    pub gone: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// What a deletion does to the object.
enum Step {
    /// It goes away.
    Remove,
    /// It is marked.
    Mark(Value),
    /// It is marked already.
    Nothing,
}

impl Objects {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// 403, 404, 409 or 422 for the client; 500 and 507 when the store failed.
    pub async fn delete(
        &self,
        call: &Call<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let kind = self.kind(call.resource)?;
        for _ in 0..ATTEMPTS {
            let current = kind.get(call.namespace, name).ok_or_else(|| call.not_found(name))?;
            match self.delete_once(call, name, &current, options).await {
                Err(Refused::Conflict) => wait(&kind, call, name, Some(current.revision())).await,
                Err(Refused::Failed(status)) => return Err(status),
                Ok(deleted) => return Ok(deleted),
            }
        }
        Err(Status::modified(&call.resource.group_resource(), name))
    }

    async fn delete_once(
        &self,
        call: &Call<'_>,
        name: &str,
        current: &Object,
        options: &DeleteOptions,
    ) -> Result<Deleted, Refused> {
        let failed = Refused::Failed;
        check_preconditions(call, name, current, options).map_err(failed)?;
        let mut object = call.resource.read(current);
        let review = Review { delete: Some(options), ..Review::new(call, Operation::Delete, None, name) };
        let mut said = Said::default();
        self.mutate(call, &review, None, Some(&object), &mut said).await.map_err(failed)?;
        self.validate(call, &review, None, Some(&object), &mut said).await.map_err(failed)?;
        let deletion =
            call.resource.strategy.begin_delete(&self.context(call), &object, options.grace_period_seconds);
        call.resource.strategy.mark_deleted(&mut object);
        let uid = current.uid().to_owned();
        let expect = Expect::Revision(current.revision());
        let answer = |bytes: Bytes, gone: bool| Deleted { bytes, uid, gone, warnings: said.warnings };
        match step(&object, deletion, options, Timestamp::now()) {
            Step::Nothing => Ok(answer(current.bytes().clone(), false)),
            Step::Mark(marked) if call.options.dry_run => Ok(answer(marked.to_string().into(), false)),
            Step::Mark(mut marked) => {
                let effect = Effect { review, new: Some(&mut marked), old: Some(&object) };
                Ok(answer(self.put(call, effect, expect).await?, false))
            }
            Step::Remove if call.options.dry_run => Ok(answer(current.bytes().clone(), true)),
            Step::Remove => {
                let effect = Effect { review, new: None, old: Some(&object) };
                let revision = self.remove(call, effect, expect).await?;
                call.resource.strategy.deleted(&object);
                Ok(answer(with_revision(current.bytes(), revision), true))
            }
        }
    }
}

fn check_preconditions(
    call: &Call<'_>,
    name: &str,
    current: &Object,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let revision = current.revision().to_string();
    let checks = [
        ("UID", &options.uid, current.uid(), "deleted and then recreated"),
        ("ResourceVersion", &options.resource_version, &revision, "modified"),
    ];
    for (what, wanted, found, fate) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|w| *w != found) {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). \
                 The object might have been {fate}"
            );
            // Named by its kind, as upstream does here.
            let kind = GroupResource::new(call.resource.group.clone(), call.resource.kind.clone());
            return Err(Status::conflict(&kind, name, why));
        }
    }
    Ok(())
}

fn step(object: &Value, deletion: Deletion, options: &DeleteOptions, now: Timestamp) -> Step {
    let mut marked = object.clone();
    set_finalizers(&mut marked, options.propagation);
    let grace = match deletion {
        Deletion::Now => 0,
        Deletion::Graceful(seconds) => seconds.max(0),
    };
    if deletion == Deletion::Now && !meta::is_held(&marked) {
        return Step::Remove;
    }
    let meta = Meta::of(object);
    if let (Some(since), Some(before)) = (meta.deletion_timestamp(), meta.deletion_grace_period_seconds()) {
        // The time that is left may only become shorter.
        let shorter = grace < before && (options.grace_period_seconds.is_some() || deletion == Deletion::Now);
        if shorter {
            let less = SignedDuration::from_secs(before.saturating_sub(grace));
            let sooner = parse_time(since).and_then(|end| end.checked_sub(less).ok());
            let end = sooner.unwrap_or_else(|| after(now, grace));
            // What should have ended already gets the shortest grace there is, unless it is to have none.
            let left = if end < now && grace != 0 { 1 } else { grace };
            MetaMut::of(&mut marked).set_deletion(&time(end.max(now)), left);
            raise_generation(&mut marked);
        }
    } else {
        MetaMut::of(&mut marked).set_deletion(&time(after(now, grace)), grace);
        raise_generation(&mut marked);
        if object["kind"] == json!("Namespace") {
            marked["status"]["phase"] = json!("Terminating");
        }
    }
    if marked == *object { Step::Nothing } else { Step::Mark(marked) }
}

/// So many seconds later; grace periods may be longer than time can be told.
fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn raise_generation(object: &mut Value) {
    let generation = Meta::of(object).generation();
    if generation > 0 {
        MetaMut::of(object).set_generation(generation + 1);
    }
}

/// The finalizers that tell the garbage collector what to do with what the object owns.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let before: Vec<String> = Meta::of(object).finalizers().map(str::to_owned).collect();
    let mut after: Vec<String> = before
        .iter()
        .filter(|f| !matches!(f.as_str(), ORPHAN | FOREGROUND) || Some(f.as_str()) == wanted)
        .cloned()
        .collect();
    if let Some(wanted) = wanted
        && !after.iter().any(|f| f == wanted)
    {
        after.push(wanted.to_owned());
    }
    if after != before {
        MetaMut::of(object).set_finalizers(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn marked(object: &Value, deletion: Deletion, options: &DeleteOptions) -> Value {
        match step(object, deletion, options, now()) {
            Step::Mark(value) => value,
            Step::Remove => panic!("removed"),
            Step::Nothing => panic!("left alone"),
        }
    }

    #[test]
    fn without_grace_and_finalizers_it_goes_away() {
        let object = json!({"metadata": {"name": "a"}});
        assert!(matches!(step(&object, Deletion::Now, &DeleteOptions::default(), now()), Step::Remove));
    }

    #[test]
    fn finalizers_hold_it() {
        let object = json!({"metadata": {"name": "a", "finalizers": ["x.y/z"], "generation": 2}});
        let after = marked(&object, Deletion::Now, &DeleteOptions::default());
        assert_eq!(after["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(after["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(after["metadata"]["generation"], 3);
        assert!(matches!(step(&after, Deletion::Now, &DeleteOptions::default(), now()), Step::Nothing));
    }

    #[test]
    fn grace_can_only_become_shorter() {
        let object = json!({"metadata": {"name": "a"}});
        let after = marked(&object, Deletion::Graceful(30), &DeleteOptions::default());
        assert_eq!(after["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        let longer = DeleteOptions { grace_period_seconds: Some(60), ..DeleteOptions::default() };
        assert!(matches!(step(&after, Deletion::Graceful(60), &longer, now()), Step::Nothing));
        let shorter = DeleteOptions { grace_period_seconds: Some(10), ..DeleteOptions::default() };
        let after = marked(&after, Deletion::Graceful(10), &shorter);
        assert_eq!(after["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
        assert!(matches!(step(&after, Deletion::Now, &shorter, now()), Step::Remove));
    }

    #[test]
    fn grace_may_be_longer_than_time_can_be_told() {
        let object = json!({"metadata": {"name": "a"}});
        let after = marked(&object, Deletion::Graceful(i64::MAX), &DeleteOptions::default());
        assert_eq!(after["metadata"]["deletionTimestamp"], "9999-12-30T22:00:00Z");
        let shorter = DeleteOptions { grace_period_seconds: Some(10), ..DeleteOptions::default() };
        let after = marked(&after, Deletion::Graceful(10), &shorter);
        assert_eq!(after["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
    }

    #[test]
    fn propagation_is_told_by_finalizers() {
        let object = json!({"metadata": {"name": "a", "finalizers": ["orphan"]}});
        let with = |p| DeleteOptions { propagation: Some(p), ..DeleteOptions::default() };
        let after = marked(&object, Deletion::Now, &with(Propagation::Foreground));
        assert_eq!(after["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert!(matches!(step(&object, Deletion::Now, &with(Propagation::Background), now()), Step::Remove));
        assert_eq!(Propagation::parse("x"), None);
    }

    #[test]
    fn a_namespace_terminates_before_it_goes() {
        let object = json!({"kind": "Namespace", "metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"}});
        let after = marked(&object, Deletion::Now, &DeleteOptions::default());
        assert_eq!(after["status"]["phase"], "Terminating");
    }
}
