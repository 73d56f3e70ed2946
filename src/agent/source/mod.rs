//! Which pods are to be on this node: a watch of the API, one worker a pod, and what is left over of
//! pods that are gone.

mod admission;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use super::mirrors::{is_mirror, is_static};
use super::pod::{Wanted, Worker, labels};
use super::spec::{name, namespace, uid};
use super::volumes;
use crate::runtime::spec::{RuntimeEvent, SandboxStatus};
use crate::supervisor::{OnFailure, Stage};
use admission::Admission;

/// Every pod is looked at this often, should an event have been lost.
const RESYNC: Duration = Duration::from_secs(300);

struct Entry {
    wanted: Arc<watch::Sender<Wanted>>,
    wake: Arc<Notify>,
    /// The node did not take the pod: it counts for no other.
    rejected: bool,
}

/// Keeps a worker for each pod of the node.
pub(crate) struct Source {
    context: Arc<Context>,
    workers: Mutex<BTreeMap<String, Entry>>,
    /// Pods that are gone and whose workers still end them: nobody else is to, nor to remove their files.
    ending: Arc<Mutex<BTreeSet<String>>>,
}

impl Source {
    /// No worker yet.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, workers: Mutex::default(), ending: Arc::default() }
    }

    /// Follows the API and the runtime until cancelled.
    pub(crate) async fn run(&self, token: CancellationToken) -> Result<(), Error> {
        let mut events = self.context.runtime.events();
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let selector = format!("spec.nodeName={}", self.context.settings.node_name);
        let config = crate::client::watch_config().fields(&selector);
        let mut pods = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
        let mut listed = BTreeSet::new();
        let mut files = self.context.statics.subscribe();
        self.static_pods().await;
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                Ok(()) = files.changed() => self.static_pods().await,
                () = self.context.statics.ended() => self.static_pods().await,
                _ = resync.tick() => self.wake_all(),
                event = events.recv() => match event {
                    Ok(RuntimeEvent::Exited { sandbox, .. } | RuntimeEvent::SandboxLost { sandbox }) => self.wake(&sandbox),
                    Ok(RuntimeEvent::LogRotated { .. }) => {}
                    Err(RecvError::Lagged(_)) => self.wake_all(),
                    Err(RecvError::Closed) => return Err(Error::Other("the runtime tells no events any more".into())),
                },
                event = pods.next() => match event {
                    Some(Ok(event)) => self.pod_event(event, &mut listed).await,
                    Some(Err(error)) => tracing::warn!(%error, "the watch of this node's pods failed; it is tried again"),
                    None => return Err(Error::Other("the watch of this node's pods ended".into())),
                },
            }
        }
    }

    async fn pod_event(&self, event: Event<Pod>, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.insert(uid(&pod).to_owned());
                self.apply(pod).await;
            }
            Event::InitDone => self.remove_all_but(listed).await,
            Event::Apply(pod) => self.apply(pod).await,
            Event::Delete(pod) if is_mirror(&pod) => self.mirror_gone(&pod),
            Event::Delete(pod) => self.gone(Arc::new(pod)),
        }
    }

    /// A pod is there or changed.
    async fn apply(&self, pod: Pod) {
        if is_mirror(&pod) {
            return self.mirror(Arc::new(pod));
        }
        let pod = self.context.pods.set(pod);
        if let Some(entry) = self.workers.lock().get(uid(&pod)) {
            entry.wanted.send_replace(Wanted::Pod(pod));
            return;
        }
        let admission = self.admit(&pod).await;
        let key = uid(&pod).to_owned();
        let entry = self.start(Wanted::Pod(pod), admission);
        self.workers.lock().insert(key, entry);
    }

    /// A pod is not in the API any more.
    fn gone(&self, pod: Arc<Pod>) {
        let uid = uid(&pod).to_owned();
        self.context.pods.remove(&uid);
        self.context.evictions.forget(&uid);
        if let Some(entry) = self.workers.lock().remove(&uid) {
            let mut ending = self.ending.lock();
            // A worker that has ended takes nothing off the list any more.
            if !entry.wanted.is_closed() {
                ending.insert(uid);
            }
            drop(ending);
            entry.wanted.send_replace(Wanted::Gone(pod));
        }
    }

    fn start(&self, wanted: Wanted, admission: Admission) -> Entry {
        let (Wanted::Pod(pod) | Wanted::Gone(pod)) = &wanted;
        let task = format!("pod workers: {}/{} {}", namespace(pod), name(pod), uid(pod));
        let (uid, of_file) = (uid(pod).to_owned(), is_static(pod));
        let rejected = admission.rejected.is_some();
        let wanted = Arc::new(watch::Sender::new(wanted));
        let wake = Arc::new(Notify::new());
        self.context.evictions.know(&uid, Arc::clone(&wake));
        let context = Arc::clone(&self.context);
        let (sender, notify, ending) = (Arc::clone(&wanted), Arc::clone(&wake), Arc::clone(&self.ending));
        self.context.supervisor.spawn(task, Stage::Agent, OnFailure::Restart, move |token| {
            let (context, uid) = (Arc::clone(&context), uid.clone());
            let (wanted, wake) = (sender.subscribe(), Arc::clone(&notify));
            let Admission { rejected, after } = admission.clone();
            let ending = Arc::clone(&ending);
            async move {
                for other in &after {
                    tokio::select! {
                        () = token.cancelled() => return Ok(()),
                        () = context.evictions.ended(other) => {}
                    }
                }
                let sandboxes = labels::sandboxes_of(&context.runtime, &uid).await;
                let worker = Worker::new(Arc::clone(&context), wanted, wake, &sandboxes, rejected);
                let gone = worker.run(token).await;
                ending.lock().remove(&uid);
                if gone && of_file {
                    context.statics.gone(&uid);
                }
                Ok(())
            }
        });
        Entry { wanted, wake, rejected }
    }

    fn wake(&self, sandbox: &str) {
        let uid = sandbox.rsplit_once('-').map_or(sandbox, |(uid, _)| uid);
        if let Some(entry) = self.workers.lock().get(uid) {
            entry.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for entry in self.workers.lock().values() {
            entry.wake.notify_one();
        }
    }

    /// After a list: pods that vanished while nobody looked, sandboxes and directories without a pod.
    async fn remove_all_but(&self, listed: &BTreeSet<String>) {
        for pod in self.context.pods.all() {
            if !listed.contains(uid(&pod)) && !is_static(&pod) {
                self.gone(pod);
            }
        }
        for mirror in self.context.statics.mirrors() {
            if !listed.contains(uid(&mirror)) {
                self.mirror_gone(&mirror);
            }
        }
        let mut known: BTreeSet<String> = listed.clone();
        known.extend(self.context.pods.all().iter().map(|p| uid(p).to_owned()));
        known.extend(self.ending.lock().iter().cloned());
        for sandbox in self.context.runtime.sandboxes().await {
            let Some(orphan) = orphan(&sandbox) else { continue };
            let uid = uid(&orphan).to_owned();
            if known.insert(uid.clone()) && !self.workers.lock().contains_key(&uid) {
                tracing::info!(
                    pod = name(&orphan),
                    namespace = namespace(&orphan),
                    "its pod is gone: ending a sandbox"
                );
                self.ending.lock().insert(uid);
                self.start(Wanted::Gone(Arc::new(orphan)), Admission::default());
            }
        }
        let workers = self.workers.lock();
        let entries = std::fs::read_dir(self.context.paths.pods()).into_iter().flatten().flatten();
        let orphans = entries.filter(|entry| {
            let uid = entry.file_name().to_string_lossy().into_owned();
            !known.contains(&uid) && !workers.contains_key(&uid)
        });
        volumes::remove_orphans(&self.context.supervisor, orphans.map(|e| e.path()).collect());
    }
}

/// What a sandbox's labels tell of the pod it was made for.
fn orphan(sandbox: &SandboxStatus) -> Option<Pod> {
    let label = |key: &str| sandbox.labels.get(key).cloned();
    Some(Pod {
        metadata: ObjectMeta {
            uid: Some(label(labels::POD_UID)?),
            name: label(labels::POD_NAME),
            namespace: label(labels::POD_NAMESPACE),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            termination_grace_period_seconds: label(labels::GRACE).and_then(|g| g.parse().ok()),
            ..PodSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_known_by_its_labels() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"terminationGracePeriodSeconds": 7, "containers": []}}))
        .expect("a pod");
        let mut sandbox = SandboxStatus {
            id: "u-0".into(),
            labels: labels::of_pod(&pod),
            ready: true,
            created_at: 0,
            netns: None,
            containers: vec![],
        };
        let known = orphan(&sandbox).expect("an orphan");
        assert_eq!((uid(&known), name(&known), namespace(&known)), ("u", "p", "ns"));
        assert_eq!(known.spec.and_then(|s| s.termination_grace_period_seconds), Some(7));
        sandbox.labels.clear();
        assert!(orphan(&sandbox).is_none(), "not made by the agent");
    }
}
