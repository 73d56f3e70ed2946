//! Events about pods and the node, as kubelet writes them: component `kubelet`, repeated ones counted.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 1024;
/// Remembered events, for counting.
const REMEMBERED: usize = 1024;
/// Events an object may cause at once, and seconds until it may cause one more (client-go's defaults).
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What an event says of an object.
#[derive(Clone, Debug)]
struct Record {
    object: ObjectReference,
    type_: &'static str,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Queues events. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<Record>);

/// Writes queued events, see [`Writer::run`].
pub(crate) struct Writer {
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Record>>>,
}

/// A recorder and its writer.
pub(crate) fn channel() -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Recorder(sender), Writer { queue: Arc::new(tokio::sync::Mutex::new(receiver)) })
}

/// The part of a pod an event is about.
pub(crate) fn container_path(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.as_ref();
    let has = |list: Option<&Vec<k8s_openapi::api::core::v1::Container>>| {
        list.is_some_and(|l| l.iter().any(|c| c.name == container))
    };
    let field = if has(spec.and_then(|s| s.init_containers.as_ref())) {
        "initContainers"
    } else if has(spec.map(|s| &s.containers)) {
        "containers"
    } else {
        "ephemeralContainers"
    };
    format!("spec.{field}{{{container}}}")
}

impl Recorder {
    /// An event about a pod, or about one of its containers.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        type_: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|c| container_path(pod, c)),
        };
        self.send(object, type_, reason, message);
    }

    /// An event about the node; it lies in the namespace `default`, with the node's name as uid.
    pub(crate) fn node(&self, node: &Node, type_: &'static str, reason: &'static str, message: String) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: node.metadata.name.clone(),
            uid: node.metadata.name.clone(),
            ..ObjectReference::default()
        };
        self.send(object, type_, reason, message);
    }

    fn send(&self, object: ObjectReference, type_: &'static str, reason: &'static str, message: String) {
        tracing::debug!(object = ?object.name, reason, message, "event");
        let record = Record { object, type_, reason, message, at: Timestamp::now() };
        if self.0.try_send(record).is_err() {
            tracing::debug!("too many events, one is dropped");
        }
    }
}

#[derive(Clone, Debug)]
struct Known {
    namespace: String,
    name: String,
    count: i32,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Which events repeat, and who causes too many.
#[derive(Debug, Default)]
struct Correlator {
    known: HashMap<String, Known>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// Whether the object may cause another event.
    fn admit(&mut self, record: &Record) -> bool {
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let key = record.object.uid.clone().unwrap_or_default();
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: record.at });
        let seconds = record.at.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + seconds / REFILL_SECONDS).min(BURST);
        bucket.at = record.at;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn key(record: &Record) -> String {
        let o = &record.object;
        let parts = [o.uid.as_deref(), o.field_path.as_deref(), Some(record.type_), Some(record.reason)];
        let parts: Vec<&str> = parts.into_iter().map(Option::unwrap_or_default).collect();
        format!("{}\0{}", parts.join("\0"), record.message)
    }

    fn remember(&mut self, key: String, known: Known) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, known);
    }
}

fn event(record: &Record, node: &str) -> Event {
    let namespace = record.object.namespace.clone().unwrap_or_else(|| "default".into());
    let object = record.object.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", record.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: record.object.clone(),
        type_: Some(record.type_.into()),
        reason: Some(record.reason.into()),
        message: Some(record.message.chars().take(1024).collect()),
        first_timestamp: Some(record.at.into()),
        last_timestamp: Some(record.at.into()),
        count: Some(1),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        ..Event::default()
    }
}

impl Writer {
    /// Writes events until cancelled; what is queued then is dropped.
    pub(crate) async fn run(&self, client: kube::Client, node: &str, token: CancellationToken) {
        let mut queue = self.queue.lock().await;
        let mut correlator = Correlator::default();
        while let Some(record) = tokio::select! { r = queue.recv() => r, () = token.cancelled() => None } {
            if !correlator.admit(&record) {
                continue;
            }
            if let Err(error) = write(&client, node, &mut correlator, &record).await {
                tracing::debug!(%error, reason = record.reason, "an event could not be written");
            }
        }
    }
}

async fn write(
    client: &kube::Client,
    node: &str,
    correlator: &mut Correlator,
    record: &Record,
) -> kube::Result<()> {
    let key = Correlator::key(record);
    if let Some(known) = correlator.known.get_mut(&key) {
        let api: Api<Event> = Api::namespaced(client.clone(), &known.namespace);
        let count = known.count + 1;
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(record.at);
        let patch = Patch::Merge(json!({"count": count, "lastTimestamp": time}));
        match api.patch(&known.name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                known.count = count;
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let event = event(record, node);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await?;
    correlator.remember(key, Known { namespace, name, count: 1 });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, second: i64) -> Record {
        let object = ObjectReference { uid: Some("u".into()), name: Some("p".into()), ..Default::default() };
        let at = Timestamp::from_second(second).expect("in range");
        Record { object, type_: "Normal", reason: "Started", message: message.into(), at }
    }

    #[test]
    fn an_object_may_cause_a_burst_and_then_one_in_five_minutes() {
        let mut correlator = Correlator::default();
        let admitted = (0..40).filter(|_| correlator.admit(&record("m", 0))).count();
        assert_eq!(admitted, 25);
        assert!(!correlator.admit(&record("m", 299)));
        assert!(correlator.admit(&record("m", 301)));
    }

    #[test]
    fn the_same_message_about_the_same_object_has_the_same_key() {
        assert_eq!(Correlator::key(&record("m", 0)), Correlator::key(&record("m", 9)));
        assert_ne!(Correlator::key(&record("m", 0)), Correlator::key(&record("n", 0)));
    }

    #[test]
    fn paths_name_the_list_a_container_is_in() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}}))
        .expect("a pod");
        assert_eq!(container_path(&pod, "c"), "spec.containers{c}");
        assert_eq!(container_path(&pod, "i"), "spec.initContainers{i}");
        assert_eq!(container_path(&pod, "e"), "spec.ephemeralContainers{e}");
    }

    #[test]
    fn events_speak_as_kubelet() {
        let event = event(&record("Container started", 5), "n1");
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.source.and_then(|s| s.component).as_deref(), Some("kubelet"));
        assert_eq!(event.count, Some(1));
    }
}
