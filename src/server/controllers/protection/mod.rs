//! Storage objects in use are kept: claims while a pod on a node uses them, volumes while they are bound.
//!
//! Admission gives new ones a finalizer; these controllers remove it from those that are being deleted,
//! once nothing uses them. <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

mod usage;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::ListParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::kit::informer::Key;
use super::kit::pod::Pod;
use super::kit::{Context, Error, Next, Queue, meta, patch};
use crate::supervisor::TaskError;

const WORKERS: usize = 2;
const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// What is to be done about an object's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// It was made before admission added it.
    Add,
    /// It is removed when nothing uses the object.
    Remove,
    /// Nothing.
    Nothing,
}

fn wanted<K: Resource>(object: &K, finalizer: &str) -> Wanted {
    let meta = object.meta();
    let has = meta.finalizers.as_deref().unwrap_or_default().iter().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Wanted::Add,
        (true, true) => Wanted::Remove,
        _ => Wanted::Nothing,
    }
}

/// Writes the object with or without the finalizer.
async fn write<K>(api: &Api<K>, object: &K, finalizer: &str, add: bool) -> Result<Next, Error>
where
    K: Resource + PartialEq + Serialize + Clone + DeserializeOwned + Debug,
{
    let mut new = object.clone();
    let finalizers = new.meta_mut().finalizers.get_or_insert_default();
    finalizers.retain(|f| f != finalizer);
    if add {
        finalizers.push(finalizer.to_owned());
    }
    patch::write(api, object, &new, None).await.map(|_| Next::Done)
}

/// Runs the protection of claims.
pub async fn run_claims(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let claims = cx.informers.get::<PersistentVolumeClaim>();
    let pods = cx.informers.get::<Pod>();
    let queue: Queue<Key> = Queue::new("pvc-protection");
    let (of_claims, of_pods) = (queue.clone(), queue.clone());
    let _claims = claims.subscribe(move |change| {
        if let Some(claim) = change.new.as_ref().filter(|c| wanted(c.as_ref(), CLAIM) != Wanted::Nothing) {
            of_claims.add(Key::of(claim.as_ref()));
        }
    });
    claims.synced().await;
    let known = Arc::clone(&claims);
    let _pods = pods.subscribe(move |change| {
        let pod = change.latest();
        let namespace = meta::namespace(&pod.metadata);
        for name in usage::claims_of(pod) {
            let key = Key::new(namespace, &name);
            if known.get(&key).is_some_and(|c| wanted(c.as_ref(), CLAIM) == Wanted::Remove) {
                of_pods.add(key);
            }
        }
    });
    pods.synced().await;
    let sync = |key: Key| {
        let (cx, claims, pods) = (cx.clone(), Arc::clone(&claims), Arc::clone(&pods));
        async move {
            let Some(claim) = claims.get(&key) else { return Ok(Next::Done) };
            let api: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &key.namespace);
            match wanted(claim.as_ref(), CLAIM) {
                Wanted::Add => write(&api, claim.as_ref(), CLAIM, true).await,
                Wanted::Nothing => Ok(Next::Done),
                Wanted::Remove => {
                    let uses = |pod: &Pod| usage::uses(pod, &claim);
                    if pods.in_namespace(&key.namespace).iter().any(|p| uses(p))
                        || listed(&cx, &key.namespace).await?.iter().any(uses)
                    {
                        return Ok(Next::Done);
                    }
                    write(&api, claim.as_ref(), CLAIM, false).await
                }
            }
        }
    };
    queue.run(WORKERS, stop, sync).await;
    Ok(())
}

/// The pods of a namespace as the API knows them now: the informer may not have seen the newest yet.
async fn listed(cx: &Context, namespace: &str) -> Result<Vec<Pod>, Error>
where
    Pod: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), namespace);
    let list =
        api.list(&ListParams::default()).await.map_err(Error::api("listing the pods that use a claim"))?;
    Ok(list.items)
}

/// Runs the protection of volumes.
pub async fn run_volumes(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let volumes = cx.informers.get::<PersistentVolume>();
    let queue: Queue<Key> = Queue::new("pv-protection");
    let changed = queue.clone();
    let _volumes = volumes.subscribe(move |change| {
        if let Some(volume) = change.new.as_ref().filter(|v| wanted(v.as_ref(), VOLUME) != Wanted::Nothing) {
            changed.add(Key::of(volume.as_ref()));
        }
    });
    volumes.synced().await;
    let sync = |key: Key| {
        let (cx, volumes) = (cx.clone(), Arc::clone(&volumes));
        async move {
            let Some(volume) = volumes.get(&key) else { return Ok(Next::Done) };
            let api: Api<PersistentVolume> = Api::all(cx.client.clone());
            let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
            match wanted(volume.as_ref(), VOLUME) {
                Wanted::Add => write(&api, volume.as_ref(), VOLUME, true).await,
                Wanted::Remove if !bound => write(&api, volume.as_ref(), VOLUME, false).await,
                Wanted::Remove | Wanted::Nothing => Ok(Next::Done),
            }
        }
    };
    queue.run(WORKERS, stop, sync).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_finalizer_is_added_to_the_living_and_removed_from_the_dying() {
        for (metadata, expected) in [
            (json!({}), Wanted::Add),
            (json!({"finalizers": [VOLUME]}), Wanted::Nothing),
            (json!({"finalizers": [VOLUME], "deletionTimestamp": "2026-01-01T00:00:00Z"}), Wanted::Remove),
            (json!({"finalizers": ["a/b"], "deletionTimestamp": "2026-01-01T00:00:00Z"}), Wanted::Nothing),
        ] {
            let volume: PersistentVolume =
                serde_json::from_value(json!({"metadata": metadata})).expect("a volume");
            assert_eq!(wanted(&volume, VOLUME), expected, "{metadata}");
        }
    }
}
