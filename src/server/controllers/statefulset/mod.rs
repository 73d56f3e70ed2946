//! StatefulSets: pods with a lasting identity, and claims of their own.

mod identity;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as FullPod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key};
use super::kit::meta::{self, Matcher};
use super::kit::pod::Pod;
use super::kit::podcontrol;
use super::kit::revisions::{self, Found, Owner};
use super::kit::{Context, Error, Next, Queue, ignore_not_found, patch};
use crate::supervisor::TaskError;
use plan::Revisions;

const WORKERS: usize = 5;

struct StatefulSets {
    cx: Context,
    sets: Arc<Informer<StatefulSet>>,
    pods: Arc<Informer<Pod>>,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    revisions: Arc<Informer<ControllerRevision>>,
    queue: Queue<Key>,
}

/// Runs the StatefulSet controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(StatefulSets {
        sets: cx.informers.get(),
        pods: cx.informers.get(),
        claims: cx.informers.get(),
        revisions: cx.informers.get(),
        queue: Queue::new("statefulset"),
        cx,
    });
    let (a, b) = (Arc::clone(&this), Arc::clone(&this));
    let _sets = this.sets.subscribe(move |change| a.queue.add(Key::of(change.latest().as_ref())));
    let _pods = this.pods.subscribe(move |change| b.pod_changed(change));
    this.sets.synced().await;
    this.pods.synced().await;
    this.claims.synced().await;
    this.revisions.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

fn matcher(set: &StatefulSet) -> Matcher {
    Matcher::new(set.spec.as_ref().map(|s| &s.selector))
}

impl StatefulSets {
    fn pod_changed(&self, change: &Change<Pod>) {
        let meta = &change.latest().metadata;
        match meta::controller_of(meta) {
            Some(owner) if owner.kind == "StatefulSet" => {
                self.queue.add(Key::new(meta::namespace(meta), &owner.name));
            }
            Some(_) => {}
            None => {
                for set in self.sets.in_namespace(meta::namespace(meta)) {
                    if matcher(&set).matches(meta::labels(meta)) {
                        self.queue.add(Key::of(set.as_ref()));
                    }
                }
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(&key).filter(|s| s.metadata.deletion_timestamp.is_none()) else {
            return Ok(Next::Done);
        };
        let claimed = podcontrol::claim(&self.cx, set.as_ref(), &matcher(&set)).await?;
        let pods: BTreeMap<i32, Arc<Pod>> = claimed
            .into_iter()
            .filter_map(|p| Some((identity::ordinal(&set, meta::name(&p.metadata))?, p)))
            .collect();
        let Some((current, update)) = self.revisions(&set, &pods).await? else { return Ok(Next::Done) };
        let names =
            Revisions { current: meta::name(&current.metadata), update: meta::name(&update.metadata) };
        let step = plan::step(&set, &pods, names);
        let acted = self.act(&key, &set, &current, &update, step).await;
        let mut wanted = StatefulSet::clone(&set);
        wanted.status = Some(plan::status(&set, &pods, names));
        let api: Api<StatefulSet> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        patch::write(&api, set.as_ref(), &wanted, Some("status")).await?;
        acted?;
        let min_ready = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default();
        let waiting = pods.values().any(|p| p.is_ready() && !p.is_available(min_ready));
        let seconds = Duration::from_secs(u64::try_from(min_ready).unwrap_or_default());
        Ok(if waiting { Next::After(seconds) } else { Next::Done })
    }

    /// The revision pods have had and the one they shall have.
    async fn revisions(
        &self,
        set: &Arc<StatefulSet>,
        pods: &BTreeMap<i32, Arc<Pod>>,
    ) -> Result<Option<(Arc<ControllerRevision>, Arc<ControllerRevision>)>, Error> {
        let Some(spec) = &set.spec else { return Ok(None) };
        let owner = Owner {
            meta: &set.metadata,
            reference: meta::controller_ref(set.as_ref()),
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|s| s.collision_count),
            limit: spec.revision_history_limit.unwrap_or(10),
        };
        let (update, others) = match owner.present(&self.cx, &self.revisions).await? {
            Found::Present(update, others) => (update, others),
            Found::Collision => {
                let mut next = StatefulSet::clone(set);
                let status = next.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                let api = Api::namespaced(self.cx.client.clone(), meta::namespace(&set.metadata));
                patch::write(&api, set.as_ref(), &next, Some("status")).await?;
                return Err(Error::Unfinished("the name of a revision is taken; trying another".into()));
            }
        };
        let noted = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = others.iter().find(|r| Some(meta::name(&r.metadata)) == noted).cloned();
        let current = current.unwrap_or_else(|| Arc::clone(&update));
        let used = |r: &ControllerRevision| {
            let name = meta::name(&r.metadata);
            name == meta::name(&current.metadata)
                || pods
                    .values()
                    .any(|p| meta::labels(&p.metadata).get(revisions::HASH).is_some_and(|h| h == name))
        };
        owner.clean_up(&self.cx, &others, used).await?;
        Ok(Some((current, update)))
    }

    async fn act(
        &self,
        key: &Key,
        set: &Arc<StatefulSet>,
        current: &ControllerRevision,
        update: &ControllerRevision,
        step: plan::Step,
    ) -> Result<(), Error> {
        for (ordinal, new) in step.create {
            let revision = if new { update } else { current };
            let Some(template) = revisions::template(revision) else {
                return Err(Error::Invalid(format!(
                    "revision {} holds no template",
                    meta::name(&revision.metadata)
                )));
            };
            self.ensure_claims(key, set, ordinal).await?;
            let pod = identity::pod(set, &template, meta::name(&revision.metadata), ordinal);
            self.create(key, set, &pod).await?;
        }
        for (pod, shrinks) in step.delete {
            if shrinks && identity::retention(set).1 {
                self.give_claims_to(key, set, &pod).await?;
            }
            self.delete(key, set, &pod).await?;
        }
        Ok(())
    }

    async fn create(&self, key: &Key, set: &Arc<StatefulSet>, pod: &FullPod) -> Result<(), Error> {
        let api: Api<FullPod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let name = meta::name(&pod.metadata);
        match api.create(&PostParams::default(), pod).await.map_err(Error::api("creating a pod")) {
            Ok(_) => {
                let message = format!("create Pod {name} in StatefulSet {} successful", key.name);
                self.cx.recorder.normal(set.as_ref(), "SuccessfulCreate", message);
            }
            // The cache is behind; the pod's own change comes.
            Err(e) if e.reason() == "AlreadyExists" || e.is_namespace_terminating() => {}
            Err(e) => {
                let message =
                    format!("create Pod {name} in StatefulSet {} failed error: {}", key.name, e.message());
                self.cx.recorder.warning(set.as_ref(), "FailedCreate", message);
                return Err(e);
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &Arc<StatefulSet>, pod: &Pod) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let name = meta::name(&pod.metadata);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..Default::default()
        };
        let deleted = api.delete(name, &params).await.map(|_| ()).map_err(Error::api("deleting a pod"));
        if deleted.is_ok() {
            let message = format!("delete Pod {name} in StatefulSet {} successful", key.name);
            self.cx.recorder.normal(set.as_ref(), "SuccessfulDelete", message);
        }
        ignore_not_found(deleted)
    }

    async fn ensure_claims(&self, key: &Key, set: &Arc<StatefulSet>, ordinal: i32) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        for claim in identity::claims(set, ordinal) {
            if self.claims.get(&Key::of(&claim)).is_some() {
                continue;
            }
            let name = meta::name(&claim.metadata);
            let pod = format!("Pod {}-{ordinal} in StatefulSet {}", key.name, key.name);
            match api.create(&PostParams::default(), &claim).await.map_err(Error::api("creating a claim")) {
                Ok(_) => {
                    let message = format!("create Claim {name} {pod} success");
                    self.cx.recorder.normal(set.as_ref(), "SuccessfulCreate", message);
                }
                Err(e) if e.reason() == "AlreadyExists" => {}
                Err(e) => {
                    let message = format!("create Claim {name} for {pod} failed error: {}", e.message());
                    self.cx.recorder.warning(set.as_ref(), "FailedCreate", message);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// The claims of a pod that is too many go with it.
    async fn give_claims_to(&self, key: &Key, set: &Arc<StatefulSet>, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = identity::ordinal(set, meta::name(&pod.metadata)) else { return Ok(()) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        for claim in identity::claims(set, ordinal) {
            let Some(known) = self.claims.get(&Key::of(&claim)) else { continue };
            let mut wanted = PersistentVolumeClaim::clone(&known);
            wanted.metadata.owner_references = Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: meta::name(&pod.metadata).to_owned(),
                uid: meta::uid(&pod.metadata).to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]);
            patch::write(&api, known.as_ref(), &wanted, None).await?;
        }
        Ok(())
    }
}
