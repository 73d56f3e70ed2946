//! DaemonSets: a pod on every node, or on those that a selector chooses.

mod nodes;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key, Subscription};
use super::kit::meta::{self, Matcher};
use super::kit::pod::Pod;
use super::kit::podcontrol::{self, Expectations};
use super::kit::revisions::{self, Found, Owner};
use super::kit::{Context, Error, Next, Queue, ignore_not_found, patch};
use crate::supervisor::TaskError;
use nodes::Verdict;

const WORKERS: usize = 2;
/// Pods created or deleted in one go.
const BURST: usize = 250;
/// The longest pause before a daemon that ends again and again is replaced.
const MAX_REPLACEMENT_DELAY: u64 = 900;

type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

struct DaemonSets {
    cx: Context,
    sets: Arc<Informer<DaemonSet>>,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    revisions: Arc<Informer<ControllerRevision>>,
    expectations: Expectations,
    /// How often, and when last, a node's daemon ended.
    ended: Mutex<BTreeMap<(Key, String), (u32, tokio::time::Instant)>>,
    queue: Queue<Key>,
}

/// Runs the DaemonSet controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(DaemonSets {
        sets: cx.informers.get(),
        nodes: cx.informers.get(),
        pods: cx.informers.get(),
        revisions: cx.informers.get(),
        expectations: Expectations::default(),
        ended: Mutex::default(),
        queue: Queue::new("daemonset"),
        cx,
    });
    let _subscriptions = this.subscribe();
    this.sets.synced().await;
    this.nodes.synced().await;
    this.pods.synced().await;
    this.revisions.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

fn matcher(ds: &DaemonSet) -> Matcher {
    Matcher::new(ds.spec.as_ref().map(|s| &s.selector))
}

impl DaemonSets {
    fn subscribe(self: &Arc<Self>) -> [Subscription; 3] {
        let (a, b, c) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        [
            self.sets.subscribe(move |change| {
                let key = Key::of(change.latest().as_ref());
                if change.deleted() {
                    a.expectations.forget(&key);
                    a.ended.lock().retain(|(k, _), _| *k != key);
                }
                a.queue.add(key);
            }),
            self.nodes.subscribe(move |change| b.node_changed(change)),
            self.pods.subscribe(move |change| c.pod_changed(change)),
        ]
    }

    fn node_changed(&self, change: &Change<Node>) {
        for ds in self.sets.list() {
            let verdict = |n: &Option<Arc<Node>>| n.as_ref().map(|n| nodes::judge(&ds, n));
            if verdict(&change.old) != verdict(&change.new) {
                self.queue.add(Key::of(ds.as_ref()));
            }
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let namespace = meta::namespace(&pod.metadata);
        match meta::controller_of(&pod.metadata) {
            Some(owner) if owner.kind == "DaemonSet" => {
                let key = Key::new(namespace, &owner.name);
                if self.sets.get(&key).is_some_and(|s| meta::uid(&s.metadata) == owner.uid) {
                    self.expectations.observe(&key, change);
                    self.queue.add(key);
                }
            }
            Some(_) => {}
            None => {
                for ds in self.sets.in_namespace(namespace) {
                    if matcher(&ds).matches(meta::labels(&pod.metadata)) {
                        self.queue.add(Key::of(ds.as_ref()));
                    }
                }
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(ds) = self.sets.get(&key).filter(|d| d.metadata.deletion_timestamp.is_none()) else {
            return Ok(Next::Done);
        };
        if matcher(&ds).is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.cx.recorder.warning(ds.as_ref(), "SelectingAll", message);
            return Ok(Next::Done);
        }
        let pods = podcontrol::claim(&self.cx, ds.as_ref(), &matcher(&ds)).await?;
        let hash = self.revision(&ds, &pods).await?;
        let verdicts: BTreeMap<String, Verdict> = self
            .nodes
            .list()
            .iter()
            .map(|n| (meta::name(&n.metadata).to_owned(), nodes::judge(&ds, n)))
            .collect();
        let mut by_node = ByNode::new();
        for pod in &pods {
            if let Some(node) = nodes::node_of(pod) {
                by_node.entry(node.to_owned()).or_default().push(Arc::clone(pod));
            }
        }
        let mut next = Next::Done;
        let managed = if self.expectations.satisfied(&key) {
            self.manage(&key, &ds, &hash, &verdicts, &by_node, &mut next).await
        } else {
            Ok(())
        };
        let mut wanted = DaemonSet::clone(&ds);
        wanted.status = Some(status(&ds, &hash, &verdicts, &by_node));
        let api: Api<DaemonSet> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        patch::write(&api, ds.as_ref(), &wanted, Some("status")).await?;
        managed?;
        let min_ready = min_ready(&ds);
        if next == Next::Done
            && min_ready > 0
            && pods.iter().any(|p| p.is_ready() && !p.is_available(min_ready))
        {
            next = Next::After(std::time::Duration::from_secs(u64::try_from(min_ready).unwrap_or(1)));
        }
        Ok(next)
    }

    /// The hash of the present template's revision.
    async fn revision(&self, ds: &Arc<DaemonSet>, pods: &[Arc<Pod>]) -> Result<String, Error> {
        let Some(spec) = &ds.spec else { return Ok(String::new()) };
        let owner = Owner {
            meta: &ds.metadata,
            reference: meta::controller_ref(ds.as_ref()),
            template: &spec.template,
            collisions: ds.status.as_ref().and_then(|s| s.collision_count),
            limit: spec.revision_history_limit.unwrap_or(10),
        };
        match owner.present(&self.cx, &self.revisions).await? {
            Found::Present(present, others) => {
                let hash = revisions::hash(&present).to_owned();
                let has = |p: &Arc<Pod>, h: &str| {
                    meta::labels(&p.metadata).get(revisions::HASH).is_some_and(|x| x == h)
                };
                let used = |r: &ControllerRevision| pods.iter().any(|p| has(p, revisions::hash(r)));
                owner.clean_up(&self.cx, &others, used).await?;
                Ok(hash)
            }
            Found::Collision => {
                let mut next = DaemonSet::clone(ds);
                let status = next.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                let api: Api<DaemonSet> =
                    Api::namespaced(self.cx.client.clone(), meta::namespace(&ds.metadata));
                patch::write(&api, ds.as_ref(), &next, Some("status")).await?;
                Err(Error::Unfinished("the name of a revision is taken; trying another".into()))
            }
        }
    }

    async fn manage(
        &self,
        key: &Key,
        ds: &Arc<DaemonSet>,
        hash: &str,
        verdicts: &BTreeMap<String, Verdict>,
        by_node: &ByNode,
        next: &mut Next,
    ) -> Result<(), Error> {
        let is_new = |p: &Pod| meta::labels(&p.metadata).get(revisions::HASH).is_some_and(|h| h == hash);
        let wanted = verdicts.values().filter(|v| v.run).count();
        let limits = update::limits(ds, wanted);
        let rolling = !update::is_on_delete(ds);
        let mut plan = nodes::plan(verdicts, by_node, rolling && limits.surge > 0, is_new);
        for pod in std::mem::take(&mut plan.ended) {
            match self.replacement_delay(key, &pod) {
                Some(delay) => *next = Next::After(delay),
                None => {
                    self.report_ended(ds, &pod);
                    plan.delete.push(pod);
                }
            }
        }
        if rolling && plan.create.is_empty() && plan.delete.is_empty() {
            let (delete, create) = update::step(verdicts, by_node, limits, min_ready(ds), is_new);
            plan.delete = delete;
            plan.create = create;
        }
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
        let deleted = self.delete(key, ds, plan.delete).await;
        self.create(key, ds, hash, &plan.create).await.and(deleted)
    }

    /// How long a daemon that has ended is left alone: longer each time, so that one that always
    /// fails is not replaced all the time.
    fn replacement_delay(&self, key: &Key, pod: &Pod) -> Option<std::time::Duration> {
        let node = nodes::node_of(pod).unwrap_or_default().to_owned();
        let mut ended = self.ended.lock();
        let now = tokio::time::Instant::now();
        let (count, last) = ended.entry((key.clone(), node)).or_insert((0, now));
        let delay = std::time::Duration::from_secs((1u64 << (*count).min(10)).min(MAX_REPLACEMENT_DELAY));
        let waited = now.duration_since(*last);
        if *count > 0 && waited > delay * 2 {
            *count = 0;
        }
        if *count > 0 && waited < delay {
            return Some(delay.saturating_sub(waited));
        }
        *count += 1;
        *last = now;
        None
    }

    fn report_ended(&self, ds: &DaemonSet, pod: &Pod) {
        let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        let node = nodes::node_of(pod).unwrap_or_default();
        if pod.phase() == "Failed" {
            let message =
                format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
            self.cx.recorder.warning(ds, "FailedDaemonPod", message);
        } else {
            let message = format!(
                "Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it"
            );
            self.cx.recorder.normal(ds, "SucceededDaemonPod", message);
        }
    }

    async fn create(
        &self,
        key: &Key,
        ds: &Arc<DaemonSet>,
        hash: &str,
        nodes: &[String],
    ) -> Result<(), Error> {
        self.expectations.expect_creations(key, nodes.len());
        let template = ds.spec.as_ref().map(|s| &s.template);
        let prefix = format!("{}-", key.name);
        let mut pod =
            podcontrol::from_template(template, &key.namespace, &prefix, meta::controller_ref(ds.as_ref()));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(revisions::HASH.to_owned(), hash.to_owned());
        if let Some(generation) = meta::annotation(&ds.metadata, "deprecated.daemonset.template.generation") {
            labels.insert("pod-template-generation".to_owned(), generation.to_owned());
        }
        nodes::add_tolerations(pod.spec.get_or_insert_default());
        let (made, result) = podcontrol::slow_start(nodes.len(), |i| {
            let mut pod = pod.clone();
            nodes::tie(&mut pod, &nodes[i]);
            async move { podcontrol::create(&self.cx, ds.as_ref(), &pod).await.map(|_| ()) }
        })
        .await;
        self.expectations.created(key, nodes.len() - made);
        match result {
            Err(e) if e.is_namespace_terminating() => Ok(()),
            other => other,
        }
    }

    async fn delete(&self, key: &Key, ds: &Arc<DaemonSet>, pods: Vec<Arc<Pod>>) -> Result<(), Error> {
        self.expectations.expect_deletions(key, pods.iter().map(|p| meta::uid(&p.metadata).to_owned()));
        let mut deletions = Vec::with_capacity(pods.len());
        for pod in pods {
            deletions.push(async move {
                let result = podcontrol::delete(&self.cx, ds.as_ref(), &pod).await;
                if result.is_err() {
                    self.expectations.deleted(key, meta::uid(&pod.metadata));
                }
                ignore_not_found(result)
            });
        }
        join_all(deletions).await.into_iter().collect()
    }
}

fn min_ready(ds: &DaemonSet) -> i32 {
    ds.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
}

fn status(
    ds: &DaemonSet,
    hash: &str,
    verdicts: &BTreeMap<String, Verdict>,
    pods: &ByNode,
) -> DaemonSetStatus {
    let old = ds.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for (node, verdict) in verdicts {
        let here = pods.get(node).map(Vec::as_slice).unwrap_or_default();
        if !verdict.run {
            misplaced += i32::from(!here.is_empty());
            continue;
        }
        desired += 1;
        let mut sorted: Vec<_> = here.iter().filter(|p| !p.is_terminating()).collect();
        sorted.sort_by_key(|p| p.metadata.creation_timestamp.clone());
        current += i32::from(!here.is_empty());
        ready += i32::from(sorted.iter().any(|p| p.is_ready()));
        available += i32::from(sorted.iter().any(|p| p.is_available(min_ready(ds))));
        // A surging node counts by its newest pod.
        let newest = sorted.last();
        updated += i32::from(
            newest.is_some_and(|p| meta::labels(&p.metadata).get(revisions::HASH).is_some_and(|h| h == hash)),
        );
    }
    let positive = |n: i32| (n > 0).then_some(n);
    DaemonSetStatus {
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_misscheduled: misplaced,
        number_ready: ready,
        number_available: positive(available),
        number_unavailable: positive(desired - available),
        updated_number_scheduled: positive(updated),
        observed_generation: ds.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}
