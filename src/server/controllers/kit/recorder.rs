//! Events as `kubectl describe` shows them, correlated as client-go does: the same event again only
//! raises its count, many alike are combined, and one object cannot flood the store.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::meta;
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// Events that wait to be written; more are dropped, as upstream does.
const QUEUE: usize = 1000;
/// Events being written at once.
const IN_FLIGHT: usize = 16;
/// Entries remembered for correlation.
const REMEMBERED: usize = 1024;
/// This many different messages of one reason and object in [`SIMILAR_WINDOW`] are combined.
const SIMILAR: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events one object may cause at once, and the time after which it may cause one more.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
const MESSAGE_LIMIT: usize = 1024;

/// An event to be written.
struct Pending {
    client: Client,
    component: &'static str,
    object: ObjectReference,
    kind: &'static str,
    reason: &'static str,
    message: String,
    time: Timestamp,
}

/// Writes the events of all recorders in one task.
#[derive(Clone)]
pub struct Broadcaster(mpsc::Sender<Pending>);

/// Records events under one component's name.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Pending>,
    client: Client,
    component: &'static str,
}

impl Broadcaster {
    /// Starts the task that writes events.
    pub fn start(supervisor: &Supervisor) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        supervisor.spawn("event recorder", Stage::Controller, OnFailure::Restart, move |stop| {
            let receiver = Arc::clone(&receiver);
            async move {
                broadcast(&mut *receiver.lock().await, stop).await;
                Ok(())
            }
        });
        Self(sender)
    }

    /// A recorder whose events come from `component` and are written through `client`.
    pub fn recorder(&self, component: &'static str, client: Client) -> Recorder {
        Recorder { sender: self.0.clone(), client, component }
    }
}

impl Recorder {
    /// Records an event of type Normal about `object`.
    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(meta::reference(object), "Normal", reason, message.into());
    }

    /// Records an event of type Warning about `object`.
    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(meta::reference(object), "Warning", reason, message.into());
    }

    /// Records an event about the object a reference names.
    pub fn record(
        &self,
        object: ObjectReference,
        kind: &'static str,
        reason: &'static str,
        mut message: String,
    ) {
        if message.len() > MESSAGE_LIMIT {
            let cut = (0..=MESSAGE_LIMIT - 3).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let pending = Pending {
            client: self.client.clone(),
            component: self.component,
            object,
            kind,
            reason,
            message,
            time: Timestamp::now(),
        };
        if self.sender.try_send(pending).is_err() {
            tracing::debug!(component = self.component, reason, "too many events; one is dropped");
        }
    }
}

async fn broadcast(receiver: &mut mpsc::Receiver<Pending>, stop: CancellationToken) {
    let mut correlator = Correlator::default();
    let mut writes = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = writes.next(), if !writes.is_empty() => {}
            pending = receiver.recv(), if writes.len() < IN_FLIGHT => {
                let Some(pending) = pending else { return };
                if let Some((event, again)) = correlator.correlate(&pending) {
                    writes.push(store(pending.client, event, again));
                }
            }
        }
    }
}

/// Writes an event: raises the count of a known one, or creates it.
async fn store(client: Client, event: Event, again: bool) {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client, &namespace);
    let name = event.metadata.name.clone().unwrap_or_default();
    if again {
        let patch = serde_json::json!({
            "count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message,
        });
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return tracing::debug!(%error, %name, "an event could not be updated"),
            Ok(_) => return,
        }
    }
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, %name, "an event could not be created");
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct About {
    component: &'static str,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
}

type Group = (About, &'static str, &'static str);

struct Similar {
    messages: Vec<String>,
    last: Instant,
}

struct Known {
    name: String,
    count: i32,
    first: Time,
    last: Instant,
}

struct Bucket {
    tokens: f64,
    last: Instant,
}

#[derive(Default)]
struct Correlator {
    similar: HashMap<Group, Similar>,
    known: HashMap<(Group, String), Known>,
    buckets: HashMap<About, Bucket>,
}

/// Forgets the older half of a map that has grown too large.
fn bound<K: Eq + Hash, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Instant) {
    if map.len() > REMEMBERED {
        let mut times: Vec<Instant> = map.values().map(&last).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        map.retain(|_, v| last(v) > middle);
    }
}

impl Correlator {
    /// The event to write, and whether it was written before; `None` when the object floods.
    fn correlate(&mut self, pending: &Pending) -> Option<(Event, bool)> {
        let now = Instant::now();
        let object = &pending.object;
        let about = About {
            component: pending.component,
            kind: object.kind.clone().unwrap_or_default(),
            namespace: object.namespace.clone().unwrap_or_default(),
            name: object.name.clone().unwrap_or_default(),
            uid: object.uid.clone().unwrap_or_default(),
            field_path: object.field_path.clone().unwrap_or_default(),
        };
        let group: Group = (about.clone(), pending.kind, pending.reason);
        let (key, message) = self.aggregate(&group, &pending.message, now);
        let time = Time(pending.time);
        let known = self.known.entry((group, key)).or_insert_with(|| Known {
            name: format!("{}.{:x}", about.name, pending.time.as_nanosecond()),
            count: 0,
            first: time.clone(),
            last: now,
        });
        known.count += 1;
        known.last = now;
        let (name, count, first) = (known.name.clone(), known.count, known.first.clone());
        bound(&mut self.known, |k| k.last);
        if !self.admit(about, now) {
            return None;
        }
        Some((event(pending, name, count, first, time, message), count > 1))
    }

    /// The key and message under which a message is counted.
    fn aggregate(&mut self, group: &Group, message: &str, now: Instant) -> (String, String) {
        let similar =
            self.similar.entry(group.clone()).or_insert_with(|| Similar { messages: vec![], last: now });
        if now.duration_since(similar.last) > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.last = now;
        if !similar.messages.iter().any(|m| m == message) {
            similar.messages.push(message.to_owned());
        }
        let combine = similar.messages.len() >= SIMILAR;
        similar.messages.truncate(SIMILAR);
        bound(&mut self.similar, |s| s.last);
        if combine {
            (String::new(), format!("(combined from similar events): {message}"))
        } else {
            (message.to_owned(), message.to_owned())
        }
    }

    /// Takes one of the tokens of the object an event is about.
    fn admit(&mut self, about: About, now: Instant) -> bool {
        let bucket = self.buckets.entry(about).or_insert(Bucket { tokens: BURST, last: now });
        let refill = now.duration_since(bucket.last).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(BURST);
        bucket.last = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        bound(&mut self.buckets, |b| b.last);
        admitted
    }
}

fn event(pending: &Pending, name: String, count: i32, first: Time, last: Time, message: String) -> Event {
    let object = pending.object.clone();
    let namespace =
        object.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..Default::default() },
        involved_object: object,
        reason: Some(pending.reason.to_owned()),
        message: Some(message),
        source: Some(EventSource { component: Some(pending.component.to_owned()), host: None }),
        reporting_component: Some(pending.component.to_owned()),
        first_timestamp: Some(first),
        last_timestamp: Some(last),
        count: Some(count),
        type_: Some(pending.kind.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(name: &str, message: &str) -> Pending {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        Pending {
            client: Client::new(service, "default"),
            component: "tester",
            object: ObjectReference {
                name: Some(name.into()),
                namespace: Some("ns".into()),
                ..Default::default()
            },
            kind: "Normal",
            reason: "Tested",
            message: message.into(),
            time: Timestamp::now(),
        }
    }

    #[tokio::test]
    async fn the_same_event_again_raises_its_count_under_its_name() {
        let mut c = Correlator::default();
        let (first, again) = c.correlate(&pending("a", "m")).expect("written");
        assert!(!again);
        let (second, again) = c.correlate(&pending("a", "m")).expect("written");
        assert!(again);
        assert_eq!((second.count, &second.metadata.name), (Some(2), &first.metadata.name));
        assert_eq!(second.first_timestamp, first.first_timestamp);
        let (other, again) = c.correlate(&pending("a", "n")).expect("written");
        assert!(!again);
        assert_ne!(other.metadata.name, first.metadata.name);
        assert_eq!(other.source.and_then(|s| s.component).as_deref(), Some("tester"));
    }

    #[tokio::test]
    async fn many_alike_are_combined() {
        let mut c = Correlator::default();
        let events: Vec<_> = (0..12).filter_map(|i| c.correlate(&pending("a", &format!("m{i}")))).collect();
        let message = |i: usize| events[i].0.message.clone().unwrap_or_default();
        assert_eq!(message(8), "m8");
        assert_eq!(message(9), "(combined from similar events): m9");
        assert_eq!(events[11].0.count, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_cannot_flood() {
        let mut c = Correlator::default();
        let written = (0..100).filter(|_| c.correlate(&pending("a", "m")).is_some()).count();
        assert_eq!(written, 25);
        assert!(c.correlate(&pending("b", "m")).is_some());
        tokio::time::advance(REFILL + Duration::from_secs(1)).await;
        assert!(c.correlate(&pending("a", "m")).is_some());
        assert!(c.correlate(&pending("a", "m")).is_none());
    }
}
