//! Carrying out what the graph asks for. The cache may be behind, so nothing is deleted before the
//! API itself has said that an owner is gone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};

use super::Collector;
use super::graph::{FOREGROUND, Node, ORPHAN, Task, Uid};
use crate::server::controllers::kit::{Error, Next, ignore_not_found, meta};

/// What the owners of an object say about it.
#[derive(Debug, Default, PartialEq)]
struct Owners {
    /// They exist and stay.
    solid: Vec<OwnerReference>,
    /// They are gone.
    dangling: Vec<OwnerReference>,
    /// They wait for this object to go.
    waiting: Vec<OwnerReference>,
}

impl Collector {
    /// Does a task.
    pub async fn work(&self, task: Task) -> Result<Next, Error> {
        match task {
            Task::Examine(uid) => self.examine(uid).await?,
            Task::Orphan(uid) => self.orphan(uid).await?,
        }
        Ok(Next::Done)
    }

    fn api(&self, node: &Node) -> Result<Api<DynamicObject>, Error> {
        let (resource, namespaced) = self
            .kinds
            .lock()
            .resource(node.kind)
            .ok_or_else(|| Error::Invalid("an object is of a kind that is not served".into()))?;
        Ok(if namespaced {
            Api::namespaced_with(self.cx.client.clone(), &node.namespace, &resource)
        } else {
            Api::all_with(self.cx.client.clone(), &resource)
        })
    }

    async fn examine(&self, uid: Uid) -> Result<(), Error> {
        let Some(node) = self.graph.lock().node(uid).cloned() else { return Ok(()) };
        if node.deleting && !node.foreground {
            return Ok(());
        }
        let api = self.api(&node)?;
        let found = api.get_metadata_opt(&node.name).await.map_err(Error::api("reading an object"))?;
        let Some(latest) = found.map(|o| o.metadata).filter(|m| Uid::parse(meta::uid(m)) == uid) else {
            // It is gone; the watch will say so, or has said so.
            return Ok(());
        };
        if node.foreground {
            return self.finish_foreground(uid, &node, &api, &latest).await;
        }
        let owners = latest.owner_references.clone().unwrap_or_default();
        if owners.is_empty() {
            return Ok(());
        }
        let owners = self.classify(&node, owners).await?;
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            return set_owners(&api, &latest, &owners.solid).await;
        }
        self.delete(uid, &api, &latest, &owners).await
    }

    async fn delete(
        &self,
        uid: Uid,
        api: &Api<DynamicObject>,
        latest: &ObjectMeta,
        owners: &Owners,
    ) -> Result<(), Error> {
        let has = |name: &str| latest.finalizers.iter().flatten().any(|f| f == name);
        let dependents = self.graph.lock().dependents(uid).to_vec();
        let policy = if !owners.waiting.is_empty() && !dependents.is_empty() {
            let circle = dependents.iter().any(|d| self.graph.lock().is_foreground(*d));
            if circle {
                // Objects that own each other would wait for one another for ever.
                let all = owners.waiting.iter().chain(&owners.dangling).cloned();
                let free: Vec<_> =
                    all.map(|o| OwnerReference { block_owner_deletion: Some(false), ..o }).collect();
                set_owners(api, latest, &free).await?;
                return Err(Error::Unfinished("owners in a circle no longer block each other".into()));
            }
            PropagationPolicy::Foreground
        } else if has(ORPHAN) {
            PropagationPolicy::Orphan
        } else if has(FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: latest.uid.clone(),
                resource_version: latest.resource_version.clone(),
            }),
            ..Default::default()
        };
        let deleted = api.delete(meta::name(latest), &params).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting an object without owners")))
    }

    /// An owner that waits for its dependents: let it go when none is left that blocks it.
    async fn finish_foreground(
        &self,
        uid: Uid,
        node: &Node,
        api: &Api<DynamicObject>,
        latest: &ObjectMeta,
    ) -> Result<(), Error> {
        let blocking = self.graph.lock().blocking(uid);
        if blocking.is_empty() {
            return remove_finalizer(api, latest, FOREGROUND).await;
        }
        let graph = self.graph.lock();
        for dependent in blocking.into_iter().filter(|d| graph.node(*d).is_some_and(|n| !n.foreground)) {
            self.queue.add(Task::Examine(dependent));
        }
        tracing::trace!(name = %node.name, "waiting for dependents to go");
        Ok(())
    }

    async fn classify(&self, node: &Node, owners: Vec<OwnerReference>) -> Result<Owners, Error> {
        let mut result = Owners::default();
        for owner in owners {
            let uid = Uid::parse(&owner.uid);
            let (alive, foreground) = {
                let graph = self.graph.lock();
                (graph.is_alive(uid), graph.is_foreground(uid))
            };
            if alive && !foreground {
                result.solid.push(owner);
                continue;
            }
            match self.look_up(node, &owner).await? {
                None => result.dangling.push(owner),
                Some(m) => {
                    let waits = m.deletion_timestamp.is_some()
                        && m.finalizers.iter().flatten().any(|f| f == FOREGROUND);
                    if waits { result.waiting.push(owner) } else { result.solid.push(owner) }
                }
            }
        }
        Ok(result)
    }

    /// The owner as the API knows it now.
    async fn look_up(&self, node: &Node, owner: &OwnerReference) -> Result<Option<ObjectMeta>, Error> {
        let kind = self.kinds.lock().find(&owner.api_version, &owner.kind).cloned();
        let Some(kind) = kind else {
            let what = format!("{}, kind {}", owner.api_version, owner.kind);
            return Err(Error::Unfinished(format!(
                "the owner of {} is of {what}, which is not served",
                node.name
            )));
        };
        let client = self.cx.client.clone();
        let api: Api<DynamicObject> = if !kind.namespaced {
            Api::all_with(client, &kind.resource)
        } else if node.namespace.is_empty() {
            // A cluster-wide object cannot be owned by one in a namespace: its owner does not exist.
            return Ok(None);
        } else {
            Api::namespaced_with(client, &node.namespace, &kind.resource)
        };
        let found = api.get_metadata_opt(&owner.name).await.map_err(Error::api("reading an owner"))?;
        Ok(found.map(|o| o.metadata).filter(|m| m.uid.as_deref() == Some(owner.uid.as_str())))
    }

    /// Takes an owner away from its dependents, then lets it go.
    async fn orphan(&self, uid: Uid) -> Result<(), Error> {
        let Some(node) = self.graph.lock().node(uid).cloned().filter(|n| n.orphaning) else { return Ok(()) };
        let dependents: Vec<Node> = {
            let graph = self.graph.lock();
            graph.dependents(uid).iter().filter_map(|d| graph.node(*d).cloned()).collect()
        };
        for dependent in dependents {
            let api = self.api(&dependent)?;
            let found =
                api.get_metadata_opt(&dependent.name).await.map_err(Error::api("reading a dependent"))?;
            let Some(latest) = found.map(|o| o.metadata) else { continue };
            let mut owners = latest.owner_references.clone().unwrap_or_default();
            owners.retain(|o| Uid::parse(&o.uid) != uid);
            set_owners(&api, &latest, &owners).await?;
        }
        let api = self.api(&node)?;
        match api.get_metadata_opt(&node.name).await.map_err(Error::api("reading an object"))? {
            Some(latest) => remove_finalizer(&api, &latest.metadata, ORPHAN).await,
            None => Ok(()),
        }
    }
}

async fn patch(
    api: &Api<DynamicObject>,
    latest: &ObjectMeta,
    mut body: Value,
    doing: &'static str,
) -> Result<(), Error> {
    body["metadata"]["uid"] = json!(latest.uid);
    body["metadata"]["resourceVersion"] = json!(latest.resource_version);
    let patched = api.patch_metadata(meta::name(latest), &PatchParams::default(), &Patch::Merge(&body)).await;
    ignore_not_found(patched.map(|_| ()).map_err(Error::api(doing)))
}

async fn set_owners(
    api: &Api<DynamicObject>,
    latest: &ObjectMeta,
    owners: &[OwnerReference],
) -> Result<(), Error> {
    patch(api, latest, json!({"metadata": {"ownerReferences": owners}}), "changing the owners of an object")
        .await
}

async fn remove_finalizer(
    api: &Api<DynamicObject>,
    latest: &ObjectMeta,
    finalizer: &str,
) -> Result<(), Error> {
    let mut finalizers = latest.finalizers.clone().unwrap_or_default();
    finalizers.retain(|f| f != finalizer);
    patch(api, latest, json!({"metadata": {"finalizers": finalizers}}), "removing a finalizer").await
}
