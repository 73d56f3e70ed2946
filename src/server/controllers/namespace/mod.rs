//! Namespaces on their way out: everything in them is deleted, then the namespace itself.

mod conditions;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use tokio_util::sync::CancellationToken;

use super::kit::discovery::{self, Kind};
use super::kit::informer::{Informer, Key};
use super::kit::pod::Pod;
use super::kit::{Context, Error, Next, Queue, ignore_not_found, meta, patch};
use crate::supervisor::TaskError;
use conditions::Content;

const WORKERS: usize = 5;
/// The finalizer this controller is responsible for.
const FINALIZER: &str = "kubernetes";

struct Namespaces {
    cx: Context,
    namespaces: Arc<Informer<Namespace>>,
    queue: Queue<Key>,
}

/// Runs the namespace controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Namespaces { namespaces: cx.informers.get(), queue: Queue::new("namespace"), cx });
    let (on_namespace, on_pod) = (Arc::clone(&this), Arc::clone(&this));
    let pods = this.cx.informers.get::<Pod>();
    let _subscriptions = [
        this.namespaces.subscribe(move |change| {
            if change.new.as_ref().is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
                on_namespace.queue.add(Key::of(change.latest().as_ref()));
            }
        }),
        // The last pods take their time to stop; their end is what a namespace waits for most.
        pods.subscribe(move |change| {
            let name = meta::namespace(&change.latest().metadata);
            let ends =
                || on_pod.namespaces.named(name).is_some_and(|n| n.metadata.deletion_timestamp.is_some());
            if change.deleted() && ends() {
                on_pod.queue.add(Key::new("", name));
            }
        }),
    ];
    this.namespaces.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Namespaces {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let api: Api<Namespace> = Api::all(self.cx.client.clone());
        let found = api.get_opt(&key.name).await.map_err(Error::api("reading a namespace"))?;
        let Some(namespace) = found.filter(|n| n.metadata.deletion_timestamp.is_some()) else {
            return Ok(Next::Done);
        };
        let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(Next::Done);
        }
        let content = self.empty(&key.name).await;
        let mut wanted = namespace.clone();
        let status = wanted.status.get_or_insert_default();
        status.phase = Some("Terminating".into());
        conditions::set(status, &content);
        let written = patch::write(&api, &namespace, &wanted, Some("status")).await?;
        if !content.is_empty() {
            return Err(Error::Unfinished(content.to_string()));
        }
        let mut last = written.unwrap_or(namespace);
        if let Some(spec) = &mut last.spec {
            spec.finalizers = Some(finalizers.into_iter().filter(|f| f != FINALIZER).collect());
        }
        let finalized = api.replace_subresource("finalize", &key.name, &PostParams::default(), &last).await;
        ignore_not_found(finalized.map(|_| ()).map_err(Error::api("finalizing a namespace")))?;
        Ok(Next::Done)
    }

    /// Deletes what is in a namespace, pods first, and tells what is left.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let kinds = match discovery::kinds(&self.cx.client).await {
            Ok(kinds) => kinds,
            Err(error) => {
                content.discovery_failure = Some(error.message());
                return content;
            }
        };
        let relevant = |k: &&Kind| k.namespaced && k.deletable && k.resource.kind != "Event";
        let is_pod = |k: &Kind| k.resource.kind == "Pod" && k.resource.group.is_empty();
        let (pods, others): (Vec<_>, Vec<_>) = kinds.iter().filter(relevant).partition(|k| is_pod(k));
        let events = kinds.iter().filter(|k| k.resource.kind == "Event" && k.resource.group.is_empty());
        for kind in pods {
            self.empty_kind(namespace, kind, &mut content).await;
        }
        if content.is_empty() {
            for kind in others.into_iter().chain(events) {
                self.empty_kind(namespace, kind, &mut content).await;
            }
        }
        content
    }

    async fn empty_kind(&self, namespace: &str, kind: &Kind, content: &mut Content) {
        if let Err(error) = self.try_empty_kind(namespace, kind, content).await {
            content.failures.push(error.message());
        }
    }

    async fn try_empty_kind(&self, namespace: &str, kind: &Kind, content: &mut Content) -> Result<(), Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.cx.client.clone(), namespace, &kind.resource);
        let list = async || {
            api.list_metadata(&ListParams::default()).await.map_err(Error::api("listing a namespace"))
        };
        let present = match list().await {
            Ok(list) => list.items,
            // Kinds that cannot be listed hold nothing.
            Err(e) if matches!(e.code(), 404 | 405) => return Ok(()),
            Err(e) => return Err(e),
        };
        if present.is_empty() {
            return Ok(());
        }
        let params = DeleteParams::background();
        if kind.collection {
            let deleted = api.delete_collection(&params, &ListParams::default()).await;
            deleted.map(|_| ()).map_err(Error::api("deleting the content of a namespace"))?;
        } else {
            for object in present.iter().filter(|o| o.metadata.deletion_timestamp.is_none()) {
                let deleted = api.delete(meta::name(&object.metadata), &params).await;
                ignore_not_found(
                    deleted.map(|_| ()).map_err(Error::api("deleting the content of a namespace")),
                )?;
            }
        }
        let left = list().await?.items;
        content.add(&kind.resource, left.iter().map(|o| &o.metadata));
        Ok(())
    }
}
