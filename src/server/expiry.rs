//! Events live for an hour after they were last written, as upstream's `--event-ttl` has it.
//!
//! Every write puts a place in a queue. The task sleeps until the first place is due, and while there
//! is none, until an event is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::auth::User;
use super::cache::{EventType, Expired, Scope};
use super::objects::{Call, DeleteOptions, Objects, WriteOptions};
use crate::api::meta::parse_time;
use crate::api::{Object, Status};
use crate::store::Revision;

const LIFE: Duration = Duration::from_secs(3600);
/// Events that are due within this time go together: there is at most one wakeup a minute.
const TOGETHER: Duration = Duration::from_secs(60);

/// The task fell behind or its kind is missing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Expired(#[from] Expired),
    #[error(transparent)]
    Status(#[from] Status),
}

/// An event that is deleted at a time unless it was written again.
struct Due {
    at: Instant,
    namespace: String,
    name: String,
    revision: Revision,
}

impl Due {
    fn of(object: &Object, at: Instant) -> Self {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        Self { at, namespace, name, revision: object.revision() }
    }
}

/// Deletes events whose time is over, until `stop`.
pub(super) async fn run(objects: &Objects, stop: CancellationToken) -> Result<(), Error> {
    let entry = objects.registry.stored("events").ok_or_else(Status::no_such_path)?;
    let (page, mut watcher) = objects.kind(&entry)?.list_and_watch(Scope::All);
    let (now, wall) = (Instant::now(), Timestamp::now());
    let mut queue: Vec<Due> = page.objects.iter().map(|(_, o)| Due::of(o, now + left(o, wall))).collect();
    queue.sort_by_key(|due| due.at);
    let mut queue = VecDeque::from(queue);
    loop {
        let first = queue.front().map(|due| due.at + TOGETHER);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            events = watcher.next() => {
                let at = Instant::now() + LIFE;
                let written = events?.into_iter().filter(|e| e.kind != EventType::Deleted);
                queue.extend(written.map(|e| Due::of(&e.object, at)));
            }
            () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                while queue.front().is_some_and(|due| due.at <= Instant::now()) {
                    let Some(due) = queue.pop_front() else { break };
                    delete(objects, &entry, &due).await?;
                }
            }
        }
    }
}

/// How long an event that was there at the start has left, by the times it names.
fn left(object: &Object, now: Timestamp) -> Duration {
    let value = object.value();
    let times = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/metadata/creationTimestamp"];
    let newest = times.iter().filter_map(|p| value.pointer(p)?.as_str().and_then(parse_time)).max();
    let age = newest.map_or(0, |t| now.as_second() - t.as_second());
    LIFE.saturating_sub(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
}

async fn delete(objects: &Objects, entry: &Arc<super::registry::Resource>, due: &Due) -> Result<(), Status> {
    let (user, options) = (User::loopback(), WriteOptions::default());
    let call = Call::own(entry, Some(&due.namespace), &user, &options);
    let revision = Some(due.revision.to_string());
    let only_this = DeleteOptions { resource_version: revision, ..DeleteOptions::default() };
    match objects.delete(&call, &due.name, &only_this).await {
        // Gone, or written again: then it has a later place in the queue.
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::object::serialize;
    use serde_json::json;

    #[test]
    fn what_is_left_counts_from_the_newest_time() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let event = |fields: serde_json::Value| {
            let bytes = serialize(fields).at(1);
            left(&Object::from_stored(bytes, 1, &[]).unwrap(), now)
        };
        let old = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T00:40:00Z"});
        assert_eq!(event(old), Duration::from_secs(2400));
        assert_eq!(event(json!({"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z"}})), Duration::ZERO);
        assert_eq!(event(json!({"metadata": {}})), LIFE);
    }
}
