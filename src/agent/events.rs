//! Events about pods and the node, as kubelet writes them: component `kubelet`, repeated ones counted,
//! similar ones combined ([`correlator`]).

mod correlator;

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::steady;
use correlator::{Correlator, Known};

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 1024;

/// The API server is given so long to take an event.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What an event says of an object.
#[derive(Clone, Debug)]
struct Record {
    object: ObjectReference,
    type_: &'static str,
    reason: Cow<'static, str>,
    message: String,
    /// The clock's time.
    at: Timestamp,
    /// The time that intervals are counted by.
    steady: Timestamp,
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
        reason: impl Into<Cow<'static, str>>,
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
        self.send(object, type_, reason.into(), message);
    }

    /// An event about the node; it lies in the namespace `default`, with the node's name as uid.
    pub(crate) fn node(
        &self,
        node: &str,
        type_: &'static str,
        reason: impl Into<Cow<'static, str>>,
        message: String,
    ) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            uid: Some(node.into()),
            ..ObjectReference::default()
        };
        self.send(object, type_, reason.into(), message);
    }

    fn send(&self, object: ObjectReference, type_: &'static str, reason: Cow<'static, str>, message: String) {
        tracing::debug!(object = ?object.name, %reason, message, "event");
        let record = Record { object, type_, reason, message, at: Timestamp::now(), steady: steady::now() };
        if self.0.try_send(record).is_err() {
            tracing::debug!("too many events, one is dropped");
        }
    }
}

/// The message, no longer than the API takes.
fn text(record: &Record) -> String {
    record.message.chars().take(1024).collect()
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
        reason: Some(record.reason.to_string()),
        message: Some(text(record)),
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
            let (key, record) = correlator.aggregate(record);
            if !correlator.admit(&record) {
                continue;
            }
            let written =
                tokio::time::timeout(PATIENCE, write(&client, node, &mut correlator, &key, &record)).await;
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, reason = %record.reason, "an event could not be written")
                }
                Err(_) => tracing::debug!(reason = %record.reason, "the API server did not take an event"),
            }
        }
    }
}

async fn write(
    client: &kube::Client,
    node: &str,
    correlator: &mut Correlator,
    key: &str,
    record: &Record,
) -> kube::Result<()> {
    if let Some(known) = correlator.known(key, record.steady) {
        let api: Api<Event> = Api::namespaced(client.clone(), &known.namespace);
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(record.at);
        let patch = json!({"count": known.count, "lastTimestamp": time, "message": text(record)});
        match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => return result.map(drop),
        }
    }
    let event = event(record, node);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await?;
    correlator.remember(key, Known { namespace, name, count: 1, at: record.steady });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn record(message: &str, second: i64) -> Record {
        let object = ObjectReference { uid: Some("u".into()), name: Some("p".into()), ..Default::default() };
        let at = Timestamp::from_second(second).expect("in range");
        Record { object, type_: "Normal", reason: "Started".into(), message: message.into(), at, steady: at }
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
