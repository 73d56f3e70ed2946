//! The task behind definitions: it accepts names, establishes, and empties a kind whose definition goes.
//!
//! Names are given one after the other, so that no two definitions get the same one. A definition that is being
//! deleted goes when the last of its objects is gone; those are deleted as by any client, so admission and finalizers
//! have their say.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::conditions::{self, Accepted, Condition};
use super::definition::{DEFINITIONS, Definition};
use super::strategy::CLEANUP;
use crate::api::{Meta, MetaMut, Object, Status};
use crate::server::admission::Shown;
use crate::server::auth::User;
use crate::server::cache::{Event, EventType, Expired, Kind, Scope};
use crate::server::objects::{Call, Change, DeleteOptions, Objects, WriteOptions};
use crate::server::registry::Resource;

/// Objects that could not be deleted are tried again after this time, and at most
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// this long after.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The task fell behind, or a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It fell behind.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The API refused.
    #[error(transparent)]
    Status(#[from] Status),
    /// A stored definition is damaged.
    #[error("CustomResourceDefinition {0} cannot be read: {1}")]
    Unreadable(String, serde_json::Error),
}

/// Looks after all definitions until `stop`.
///
/// # Errors
/// See [`Error`]; it may be started again.
pub async fn run(objects: &Objects, stop: CancellationToken) -> Result<(), Error> {
    let resource = objects.registry.stored(DEFINITIONS).ok_or_else(Status::no_such_path)?;
    let kind = objects.kind(&resource)?;
    let (page, mut watcher) = kind.list_and_watch(Scope::All);
    let mut keeper = Keeper {
        objects,
        resource,
        kind,
        accepted: Accepted::default(),
        dirty: BTreeSet::new(),
        waiting: BTreeSet::new(),
    };
    for (_, object) in &page.objects {
        keeper.note(object)?;
    }
    let mut ending: FuturesUnordered<_> = FuturesUnordered::new();
    let mut names: HashSet<String> = HashSet::new();
    loop {
        while let Some(name) = keeper.dirty.pop_first() {
            if keeper.sync(&name).await? && names.insert(name.clone()) {
                ending.push(end(objects, Arc::clone(&keeper.resource), name));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            events = watcher.next() => {
                for event in events? {
                    keeper.follow(&event)?;
                }
            }
            Some((name, result)) = ending.next(), if !ending.is_empty() => {
                names.remove(&name);
                ignore_gone(result)?;
            }
        }
    }
}

struct Keeper<'o> {
    objects: &'o Objects,
    resource: Arc<Resource>,
    kind: Arc<Kind>,
    accepted: Accepted,
    /// Definitions to look at.
    dirty: BTreeSet<String>,
    /// Definitions that wait for a name.
    waiting: BTreeSet<String>,
}

fn parse(object: &Object) -> Result<Definition, Error> {
    Definition::parse(object.bytes()).map_err(|e| Error::Unreadable(object.name().to_owned(), e))
}

impl Keeper<'_> {
    fn note(&mut self, object: &Object) -> Result<(), Error> {
        let (name, definition) = (object.name(), parse(object)?);
        self.accepted.note(name, &definition);
        self.dirty.insert(name.to_owned());
        if definition.is_true("NamesAccepted") {
            self.waiting.remove(name);
        } else {
            self.waiting.insert(name.to_owned());
        }
        Ok(())
    }

    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        let name = event.object.name();
        if event.kind == EventType::Deleted {
            self.accepted.forget(name);
            self.waiting.remove(name);
            self.dirty.remove(name);
        } else {
            self.note(&event.object)?;
        }
        // It may have given names free that others of its group wait for.
        let group = |name: &str| name.split_once('.').map(|(_, group)| group.to_owned());
        self.dirty.extend(self.waiting.iter().filter(|other| group(other) == group(name)).cloned());
        Ok(())
    }

    fn would_change(&self, object: &Object, definition: &Definition) -> bool {
        let before = object.value();
        let mut after = before.clone();
        conditions::update(&mut after, definition, &self.accepted);
        after != before
    }

    /// Brings the status up to date; true if the objects are to be deleted.
    async fn sync(&mut self, name: &str) -> Result<bool, Error> {
        let Some(object) = self.kind.get(None, name) else { return Ok(false) };
        let definition = parse(&object)?;
        if !conditions::is_up_to_date(&definition) && self.would_change(&object, &definition) {
            let accepted = &self.accepted;
            let mut change = |object: &mut Value| {
                let definition: Definition =
                    serde_json::from_value(object.clone()).map_err(Status::internal)?;
                conditions::update(object, &definition, accepted);
                Ok(())
            };
            ignore_gone(write(self.objects, &self.resource, name, &mut change).await)?;
            if let Some(object) = self.kind.get(None, name) {
                self.accepted.note(name, &parse(&object)?);
            }
        }
        Ok(definition.is_terminating() && definition.metadata.finalizers.iter().any(|f| f == CLEANUP))
    }
}

fn ignore_gone(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// Changes a definition through its status.
async fn write(
    objects: &Objects,
    resource: &Arc<Resource>,
    name: &str,
    change: &mut (dyn FnMut(&mut Value) -> Result<(), Status> + Send),
) -> Result<(), Status> {
    let user = User::loopback();
    let options = WriteOptions { field_manager: "kube-apiserver".to_owned(), ..WriteOptions::default() };
    let call = Call { shown: Shown::Itself, ..Call::own(resource, None, &user, &options) };
    let mut apply = |old: Option<&Value>| {
        let mut object = old.cloned().unwrap_or_default();
        change(&mut object)?;
        Ok(object)
    };
    objects
        .update(&call, Change { name, subresource: Some("status"), ..Change::default() }, &mut apply)
        .await
        .map(drop)
}

async fn terminating(
    objects: &Objects,
    resource: &Arc<Resource>,
    name: &str,
    condition: Condition<'_>,
) -> Result<(), Status> {
    write(objects, resource, name, &mut |object| {
        conditions::set(object, condition.clone());
        Ok(())
    })
    .await
}

/// Deletes what there is of a kind, then lets its definition go.
async fn end(objects: &Objects, resource: Arc<Resource>, name: String) -> (String, Result<(), Status>) {
    let result = try_end(objects, &resource, &name).await;
    (name, result)
}

async fn try_end(objects: &Objects, resource: &Arc<Resource>, name: &str) -> Result<(), Status> {
    let message = "CustomResource deletion is in progress".to_owned();
    terminating(objects, resource, name, ("Terminating", "True", "InstanceDeletionInProgress", message))
        .await?;
    let mut last = ("NeverEstablished", "resource was never established");
    let mut pause = FIRST_RETRY;
    while let Some(instances) = objects.registry.stored(name).filter(|entry| entry.custom.is_some()) {
        last = ("InstanceDeletionCompleted", "removed all instances");
        match delete_all(objects, &instances).await {
            Ok(()) => break,
            Err(status) => {
                let why = format!("could not issue all deletes: {}", status.message);
                terminating(objects, resource, name, ("Terminating", "True", "InstanceDeletionFailed", why))
                    .await?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
    write(objects, resource, name, &mut |object| {
        conditions::set(object, ("Terminating", "False", last.0, last.1.to_owned()));
        let left: Vec<String> =
            Meta::of(object).finalizers().filter(|f| *f != CLEANUP).map(str::to_owned).collect();
        MetaMut::of(object).set_finalizers(left);
        Ok(())
    })
    .await
}

/// Deletes all objects of a kind and waits until they are gone.
async fn delete_all(objects: &Objects, resource: &Arc<Resource>) -> Result<(), Status> {
    let kind = objects.kind(resource)?;
    let (user, options) = (User::loopback(), WriteOptions::default());
    loop {
        let (page, mut watcher) = kind.list_and_watch(Scope::All);
        for (_, object) in &page.objects {
            if object.deletion_timestamp().is_some() {
                continue;
            }
            let namespace = Some(object.namespace()).filter(|n| !n.is_empty());
            let call = Call::own(resource, namespace, &user, &options);
            let deleted = objects.delete(&call, object.name(), &DeleteOptions::default()).await;
            ignore_gone(deleted.map(drop))?;
        }
        while !kind.is_empty() {
            let Ok(events) = watcher.next().await else { break };
            // Another object came before the definition was found to be going.
            if events.iter().any(|e| e.kind == EventType::Added) {
                break;
            }
        }
        if kind.is_empty() {
            return Ok(());
        }
    }
}
