//! ReplicaSets and ReplicationControllers: keep as many pods of a template as asked for.

mod kinds;
mod rank;
mod status;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Api;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key, Subscription};
use super::kit::pod::Pod;
use super::kit::podcontrol::{self, Expectations};
use super::kit::{Context, Error, Next, Queue, meta};
use crate::supervisor::TaskError;
use kinds::Replicated;

/// Pods created or deleted in one go.
const BURST: usize = 500;
const WORKERS: usize = 5;

/// Runs the ReplicaSet controller.
pub async fn run_replicasets(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    run::<ReplicaSet>("replicaset", cx, stop).await
}

/// Runs the ReplicationController controller.
pub async fn run_replication_controllers(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    run::<ReplicationController>("replicationcontroller", cx, stop).await
}

struct Replication<K> {
    cx: Context,
    owners: Arc<Informer<K>>,
    pods: Arc<Informer<Pod>>,
    expectations: Expectations,
    queue: Queue<Key>,
}

async fn run<K: Replicated>(
    name: &'static str,
    cx: Context,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let this = Arc::new(Replication::<K> {
        owners: cx.informers.get(),
        pods: cx.informers.get(),
        expectations: Expectations::default(),
        queue: Queue::new(name),
        cx,
    });
    let _subscriptions = this.subscribe();
    this.owners.synced().await;
    this.pods.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl<K: Replicated> Replication<K> {
    fn subscribe(self: &Arc<Self>) -> [Subscription; 2] {
        let (on_owner, on_pod) = (Arc::clone(self), Arc::clone(self));
        [
            self.owners.subscribe(move |change| {
                let key = Key::of(change.latest().as_ref());
                if change.deleted() {
                    on_owner.expectations.forget(&key);
                }
                on_owner.queue.add(key);
            }),
            self.pods.subscribe(move |change| on_pod.pod_changed(change)),
        ]
    }

    fn owner_key(&self, pod: &Pod) -> Option<Key> {
        let owner = meta::controller_of(&pod.metadata).filter(|o| o.kind == K::kind(&()))?;
        let key = Key::new(meta::namespace(&pod.metadata), &owner.name);
        let known = self.owners.get(&key)?;
        (meta::uid(known.meta()) == owner.uid).then_some(key)
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let key = self.owner_key(pod);
        if let Some(old) = &change.old
            && let Some(before) = self.owner_key(old)
            && Some(&before) != key.as_ref()
        {
            self.queue.add(before);
        }
        if let Some(key) = key {
            self.expectations.observe(&key, change);
            self.queue.add(key);
        } else if meta::controller_of(&pod.metadata).is_none() && !change.deleted() {
            let relevant = change.old.as_ref().is_none_or(|old| {
                old.metadata.labels != pod.metadata.labels
                    || old.metadata.owner_references != pod.metadata.owner_references
            });
            for owner in
                relevant.then(|| self.owners.in_namespace(meta::namespace(&pod.metadata))).iter().flatten()
            {
                if owner.matcher().matches(meta::labels(&pod.metadata)) {
                    self.queue.add(Key::of(owner.as_ref()));
                }
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(owner) = self.owners.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Done);
        };
        let settled = self.expectations.satisfied(&key);
        let matcher = owner.matcher();
        let api: Api<K> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let claimed = podcontrol::claim(&self.cx, owner.as_ref(), &matcher).await?;
        let terminating = claimed.iter().filter(|p| p.is_terminating() && !p.is_finished()).count();
        let active: Vec<Arc<Pod>> = claimed.into_iter().filter(|p| p.is_active()).collect();
        let managed = if settled && owner.meta().deletion_timestamp.is_none() {
            self.manage(&key, &owner, &active).await
        } else {
            Ok(())
        };
        let new = status::calculate(owner.as_ref(), &active, terminating, managed.as_ref().err());
        self.write_status(&api, &owner, &new).await?;
        managed?;
        let unavailable = new.ready > new.available;
        if unavailable && owner.min_ready_seconds() > 0 {
            let wait = status::next_available(&active, owner.min_ready_seconds());
            return Ok(wait.map_or(Next::Done, Next::After));
        }
        Ok(Next::Done)
    }

    async fn write_status(&self, api: &Api<K>, owner: &Arc<K>, new: &status::Counts) -> Result<(), Error> {
        let mut wanted = K::clone(owner);
        wanted.set_counts(new);
        super::kit::patch::write(api, owner.as_ref(), &wanted, Some("status")).await.map(|_| ())
    }

    /// Creates what is missing, deletes what is too many.
    async fn manage(&self, key: &Key, owner: &Arc<K>, active: &[Arc<Pod>]) -> Result<(), Error> {
        let wanted = usize::try_from(owner.replicas()).unwrap_or_default();
        if active.len() < wanted {
            self.create(key, owner, (wanted - active.len()).min(BURST)).await
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST);
            let related = self.related(owner);
            self.delete(key, owner, rank::choose(active, &related, surplus)).await
        } else {
            Ok(())
        }
    }

    async fn create(&self, key: &Key, owner: &Arc<K>, count: usize) -> Result<(), Error> {
        self.expectations.expect_creations(key, count);
        let prefix = format!("{}-", key.name);
        let pod = podcontrol::from_template(
            owner.template(),
            &key.namespace,
            &prefix,
            meta::controller_ref(owner.as_ref()),
        );
        let (made, result) = podcontrol::slow_start(count, |_| async {
            match podcontrol::create(&self.cx, owner.as_ref(), &pod).await {
                Ok(_) => Ok(()),
                // Nothing can be created in a namespace that goes away: that is no failure.
                Err(e) if e.is_namespace_terminating() => {
                    self.expectations.created(key, 1);
                    Ok(())
                }
                Err(e) => Err(e),
            }
        })
        .await;
        self.expectations.created(key, count - made);
        result
    }

    async fn delete(&self, key: &Key, owner: &Arc<K>, victims: Vec<Arc<Pod>>) -> Result<(), Error> {
        self.expectations.expect_deletions(key, victims.iter().map(|p| meta::uid(&p.metadata).to_owned()));
        let mut deletions = Vec::with_capacity(victims.len());
        for pod in victims {
            deletions.push(async move {
                let result = podcontrol::delete(&self.cx, owner.as_ref(), &pod).await;
                if result.is_err() {
                    self.expectations.deleted(key, meta::uid(&pod.metadata));
                }
                super::kit::ignore_not_found(result)
            });
        }
        join_all(deletions).await.into_iter().collect()
    }

    /// Active pods of all replica sets that belong to the same owner, such as a deployment: of pods
    /// on one node some are rather given up than the last one elsewhere.
    fn related(&self, owner: &Arc<K>) -> Vec<Arc<Pod>> {
        let Some(above) = meta::controller_of(owner.meta()) else {
            return self.pods.controlled_by(meta::uid(owner.meta()));
        };
        let siblings = self.owners.controlled_by(&above.uid);
        siblings
            .iter()
            .flat_map(|s| self.pods.controlled_by(meta::uid(s.meta())))
            .filter(|p| p.is_active())
            .collect()
    }
}

/// How long until a time `min_ready_seconds` after `since`.
fn remaining(since: Duration, min_ready_seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or_default()).saturating_sub(since)
}
