//! The scheduler: finds a node for every pod that has none.
//!
//! One task owns a picture of the cluster and a queue of waiting pods. It takes in what the watches
//! report, decides pod after pod, counts each decision as done at once ("assumed"), and leaves the
//! binding to tasks that run beside it. Behaviour and texts are those of upstream's default profile.

mod binding;
mod decide;
mod events;
mod filters;
mod interpod;
mod podinfo;
mod queue;
mod resources;
mod scores;
mod selectors;
mod snapshot;
mod spread;
mod volumes;

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use events::Event;
pub use events::SCHEDULER_NAME;
use podinfo::PodInfo;

use crate::server::controllers::Shared;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Error, Informers, Recorder, meta};
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// The identity the scheduler acts as.
pub const IDENTITY: &str = "system:kube-scheduler";

/// Decisions made before the watches are heard again.
const BATCH: usize = 256;
/// Bindings under way at once.
const MAX_BINDINGS: usize = 512;
/// Changes taken in at once.
const MAX_EVENTS: usize = 1024;

/// Spawns the scheduler under the supervisor; `client` is of [`IDENTITY`].
pub fn spawn(supervisor: &Supervisor, shared: &Shared, client: Client) {
    let informers = Arc::clone(&shared.informers);
    let recorder = shared.broadcaster.recorder(SCHEDULER_NAME, client.clone());
    supervisor.spawn("scheduler", Stage::Controller, OnFailure::Restart, move |stop| {
        let (informers, recorder, client) = (Arc::clone(&informers), recorder.clone(), client.clone());
        async move {
            if let Some(scheduler) =
                informers.run(&stop, Scheduler::start(&informers, recorder, client)).await
            {
                scheduler.run(stop).await;
            }
            Ok(())
        }
    });
}

/// How a task beside the scheduler ended.
enum Outcome {
    /// A pod was bound, or not.
    Bound(Arc<PodInfo>, Arc<str>, Result<(), Error>),
    /// A failure was reported on the pod.
    Reported,
}

struct Scheduler {
    client: Client,
    recorder: Recorder,
    events: UnboundedReceiver<Event>,
    storage: volumes::Storage,
    _subscriptions: Vec<crate::server::controllers::kit::Subscription>,
    cluster: snapshot::Cluster,
    queue: queue::Queue,
    decider: decide::Decider,
    tasks: JoinSet<Outcome>,
}

impl Scheduler {
    /// Subscribes to the watches and waits for their first lists.
    async fn start(informers: &Informers, recorder: Recorder, client: Client) -> Self {
        let (events, storage, subscriptions) = events::subscribe(informers);
        storage.claims.synced().await;
        storage.volumes.synced().await;
        storage.classes.synced().await;
        informers.get::<k8s_openapi::api::core::v1::Namespace>().synced().await;
        informers.get::<k8s_openapi::api::core::v1::Node>().synced().await;
        informers.get::<Pod>().synced().await;
        Self {
            client,
            recorder,
            events,
            storage,
            _subscriptions: subscriptions,
            cluster: snapshot::Cluster::default(),
            queue: queue::Queue::default(),
            decider: decide::Decider::default(),
            tasks: JoinSet::new(),
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_EVENTS);
        loop {
            let wake = self.queue.flush(Instant::now());
            let ready = self.queue.has_active() && self.tasks.len() < MAX_BINDINGS;
            let timer = async {
                match wake {
                    _ if ready => tokio::task::yield_now().await,
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = self.events.recv_many(&mut batch, MAX_EVENTS) => {}
                Some(outcome) = self.tasks.join_next() => self.finish(outcome),
                () = timer => {}
            }
            while let Some(outcome) = self.tasks.try_join_next() {
                self.finish(outcome);
            }
            let mut helped = 0;
            for event in batch.drain(..) {
                helped |= events::apply(event, &mut self.cluster, &mut self.queue);
            }
            self.queue.happened(helped, Instant::now());
            self.decide_batch();
        }
    }

    fn decide_batch(&mut self) {
        for _ in 0..BATCH {
            if self.tasks.len() >= MAX_BINDINGS {
                return;
            }
            let Some(pod) = self.queue.pop() else { return };
            self.decide(pod);
        }
    }

    fn decide(&mut self, pod: Arc<PodInfo>) {
        let volumes = self.storage.demands(&pod);
        let waiting = volumes.as_ref().map(|v| v.waiting.clone()).unwrap_or_default();
        match self.decider.decide(&self.cluster, &pod, volumes) {
            Ok(slot) => {
                let node = Arc::clone(&self.cluster.nodes[slot].name);
                self.cluster.place(Arc::clone(&pod), &node);
                let (client, storage) = (self.client.clone(), self.storage.clone());
                self.tasks.spawn(async move {
                    let result =
                        binding::bind(client, storage, Arc::clone(&pod), Arc::clone(&node), waiting).await;
                    Outcome::Bound(pod, node, result)
                });
            }
            Err(unfit) => {
                self.queue.unschedulable(pod.uid(), unfit.hints, Instant::now());
                self.report(pod, "Unschedulable", unfit.message);
            }
        }
    }

    /// Says on the pod why it has no node: as an event and as a condition.
    fn report(&mut self, pod: Arc<PodInfo>, reason: &'static str, message: String) {
        self.recorder.warning(pod.pod.as_ref(), "FailedScheduling", message.clone());
        let client = self.client.clone();
        self.tasks.spawn(async move {
            if let Err(error) = binding::report(client, pod, reason, message).await {
                tracing::debug!(%error, "a pod's condition could not be set");
            }
            Outcome::Reported
        });
    }

    fn finish(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        let (pod, node, result) = match outcome {
            Ok(Outcome::Bound(pod, node, result)) => (pod, node, result),
            Ok(Outcome::Reported) => return,
            // Only a bug makes a binding panic: start anew with a fresh picture.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let (namespace, name) = (meta::namespace(&pod.pod.metadata), meta::name(&pod.pod.metadata));
        match result {
            Ok(()) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder.normal(pod.pod.as_ref(), "Scheduled", message);
            }
            Err(error) => {
                // A pod that left the queue was seen bound or deleted meanwhile.
                if self.queue.get(pod.uid()).is_none() {
                    return;
                }
                self.cluster.unplace(pod.uid());
                self.queue.happened(filters::POD_REMOVED, Instant::now());
                if error.is_not_found() {
                    self.queue.remove(pod.uid());
                } else {
                    self.queue.retry(pod.uid(), Instant::now());
                    let message = format!("binding rejected: {}", error.message());
                    self.report(pod, "SchedulerError", message);
                }
            }
        }
    }
}
