//! Deployments: roll a pod template out through replica sets.

mod progress;
mod revision;
mod rollout;
mod scaling;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key, Subscription};
use super::kit::meta::{self, Matcher};
use super::kit::pod::Pod;
use super::kit::{Context, Error, Next, Queue, ignore_not_found, patch};
use crate::supervisor::TaskError;

const WORKERS: usize = 5;

struct Deployments {
    cx: Context,
    deployments: Arc<Informer<Deployment>>,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
    queue: Queue<Key>,
}

/// Runs the deployment controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Deployments {
        deployments: cx.informers.get(),
        sets: cx.informers.get(),
        pods: cx.informers.get(),
        queue: Queue::new("deployment"),
        cx,
    });
    let _subscriptions = this.subscribe();
    this.deployments.synced().await;
    this.sets.synced().await;
    this.pods.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Deployments {
    fn subscribe(self: &Arc<Self>) -> [Subscription; 3] {
        let (a, b, c) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        [
            self.deployments.subscribe(move |change| a.queue.add(Key::of(change.latest().as_ref()))),
            self.sets.subscribe(move |change| b.set_changed(change)),
            self.pods.subscribe(move |change| c.pod_changed(change)),
        ]
    }

    fn set_changed(&self, change: &Change<ReplicaSet>) {
        for rs in [&change.old, &change.new].into_iter().flatten() {
            if let Some(owner) = meta::controller_of(&rs.metadata) {
                if owner.kind == "Deployment" {
                    self.queue.add(Key::new(meta::namespace(&rs.metadata), &owner.name));
                }
                continue;
            }
            for d in self.deployments.in_namespace(meta::namespace(&rs.metadata)) {
                if matcher(&d).matches(meta::labels(&rs.metadata)) {
                    self.queue.add(Key::of(d.as_ref()));
                }
            }
        }
    }

    /// A deployment that recreates waits for its last old pod to be gone.
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        if !change.deleted() && !pod.is_finished() {
            return;
        }
        let Some(owner) = meta::controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet") else {
            return;
        };
        let namespace = meta::namespace(&pod.metadata);
        let Some(rs) = self.sets.get(&Key::new(namespace, &owner.name)) else { return };
        if let Some(above) = meta::controller_of(&rs.metadata).filter(|o| o.kind == "Deployment") {
            let key = Key::new(namespace, &above.name);
            if self.deployments.get(&key).is_some_and(|d| scaling::is_recreate(&d)) {
                self.queue.add(key);
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(d) = self.deployments.get(&key) else { return Ok(Next::Done) };
        if matcher(&d).is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.cx.recorder.warning(d.as_ref(), "SelectingAll", message);
            return Ok(Next::Done);
        }
        let sets = self.claim(&d).await?;
        if d.metadata.deletion_timestamp.is_some() {
            let new = revision::find_new(&d, &sets);
            let status = progress::calculate(&d, &sets, new.as_deref());
            return self.write_status(&d, status).await.map(|()| Next::Done);
        }
        if let Some(status) = progress::pause(&d) {
            // The write comes back as a change, and with it the rest.
            return self.write_status(&d, status).await.map(|()| Next::Done);
        }
        rollout::step(self, &d, &sets).await
    }

    /// The replica sets of a deployment; orphans that its selector matches are adopted, and those
    /// that no longer match are released.
    async fn claim(&self, d: &Arc<Deployment>) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let matcher = matcher(d);
        let uid = meta::uid(&d.metadata);
        let deleting = d.metadata.deletion_timestamp.is_some();
        let mut sets = Vec::new();
        for rs in self.sets.controlled_by(uid) {
            if matcher.matches(meta::labels(&rs.metadata)) {
                sets.push(rs);
            } else if !deleting {
                let mut owners = rs.metadata.owner_references.clone().unwrap_or_default();
                owners.retain(|o| o.uid != uid);
                ignore_not_found(self.set_owners(&rs, &owners).await)?;
            }
        }
        let orphans = self.sets.in_namespace(meta::namespace(&d.metadata)).into_iter().filter(|rs| {
            meta::controller_of(&rs.metadata).is_none()
                && rs.metadata.deletion_timestamp.is_none()
                && matcher.matches(meta::labels(&rs.metadata))
        });
        for rs in orphans.filter(|_| !deleting) {
            let api: Api<Deployment> = self.api(d);
            let now =
                api.get_opt(meta::name(&d.metadata)).await.map_err(Error::api("reading a deployment"))?;
            if now.is_none_or(|n| n.metadata.uid != d.metadata.uid || n.metadata.deletion_timestamp.is_some())
            {
                return Err(Error::Unfinished("the deployment is gone or being deleted".into()));
            }
            let mut owners = rs.metadata.owner_references.clone().unwrap_or_default();
            owners.push(meta::controller_ref(d.as_ref()));
            self.set_owners(&rs, &owners).await?;
            sets.push(rs);
        }
        Ok(sets)
    }

    async fn set_owners(
        &self,
        rs: &ReplicaSet,
        owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
    ) -> Result<(), Error> {
        let api: Api<ReplicaSet> = Api::namespaced(self.cx.client.clone(), meta::namespace(&rs.metadata));
        let body = json!({"metadata": {"uid": rs.metadata.uid, "ownerReferences": owners}});
        let params = PatchParams::default();
        let patched = api.patch(meta::name(&rs.metadata), &params, &Patch::Merge(&body)).await;
        patched.map(|_| ()).map_err(Error::api("changing the owner of a replica set"))
    }

    fn api<K>(&self, d: &Deployment) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.cx.client.clone(), meta::namespace(&d.metadata))
    }

    async fn write_status(&self, d: &Deployment, status: DeploymentStatus) -> Result<(), Error> {
        let mut wanted = d.clone();
        wanted.status = Some(status);
        patch::write(&self.api(d), d, &wanted, Some("status")).await.map(|_| ())
    }

    /// Whether a pod of one of these replica sets still runs.
    fn pods_left(&self, sets: &[Arc<ReplicaSet>]) -> bool {
        let pods = sets.iter().flat_map(|rs| self.pods.controlled_by(meta::uid(&rs.metadata)));
        pods.into_iter().any(|p| !p.is_finished())
    }
}

fn matcher(d: &Deployment) -> Matcher {
    Matcher::new(d.spec.as_ref().map(|s| &s.selector))
}
