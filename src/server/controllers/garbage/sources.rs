//! Where the graph's knowledge comes from: informers that other controllers need anyway, and
//! metadata-only watches of all other kinds.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, Node as ClusterNode, PersistentVolume, PersistentVolumeClaim,
    ReplicationController, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::graph::{Node, Uid};
use crate::client::watch_config;
use crate::server::controllers::kit::discovery::Kind;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Subscription, meta};

/// Something the graph has to know.
#[derive(Debug)]
pub enum Observed {
    /// An object exists like this.
    Set(Uid, Node),
    /// An object is gone.
    Gone(Uid),
    /// All objects of a kind that there are were told.
    Listed(u16),
    /// A kind is no longer served.
    KindGone(u16),
    /// Kinds were added.
    KindsChanged,
}

/// All sources of the graph.
#[derive(Default)]
pub struct Sources {
    /// Metadata-only watches.
    pub streams: SelectAll<BoxStream<'static, Observed>>,
    subscriptions: Vec<Subscription>,
    unlisted: HashSet<u16>,
}

/// Kinds that never own anything and come in floods.
fn is_ignored(kind: &Kind) -> bool {
    kind.resource.kind == "Event" && matches!(kind.resource.group.as_str(), "" | "events.k8s.io")
}

impl Sources {
    /// Follows more kinds.
    pub fn add(&mut self, cx: &Context, kinds: Vec<(u16, Kind)>, sender: &UnboundedSender<Observed>) {
        for (index, kind) in kinds {
            if is_ignored(&kind) {
                continue;
            }
            self.unlisted.insert(index);
            if !self.share(cx, index, &kind, sender) {
                self.streams.push(follow(cx, index, &kind));
            }
        }
    }

    /// Uses the shared informer of a kind that has one.
    fn share(&mut self, cx: &Context, index: u16, kind: &Kind, sender: &UnboundedSender<Observed>) -> bool {
        macro_rules! shared {
            ($($type:ty),*) => {$(
                if <$type as Resource>::kind(&()) == kind.resource.kind
                    && <$type as Resource>::group(&()) == kind.resource.group
                {
                    self.subscribe::<$type>(cx, index, sender);
                    return true;
                }
            )*};
        }
        shared!(
            Pod,
            ReplicaSet,
            ReplicationController,
            Deployment,
            ClusterNode,
            Namespace,
            Service,
            ServiceAccount,
            Endpoints,
            EndpointSlice,
            PersistentVolume,
            PersistentVolumeClaim
        );
        false
    }

    fn subscribe<K>(&mut self, cx: &Context, index: u16, sender: &UnboundedSender<Observed>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let informer = cx.informers.get::<K>();
        let events = sender.clone();
        // A closed channel means that the collector has ended.
        let send = move |event| drop(events.send(event));
        self.subscriptions.push(informer.subscribe(move |change| {
            let meta = change.latest().meta();
            let uid = Uid::parse(meta::uid(meta));
            if change.deleted() {
                send(Observed::Gone(uid));
            } else if change.old.as_ref().is_none_or(|old| matters(old.meta(), meta)) {
                send(Observed::Set(uid, Node::of(index, meta)));
            }
        }));
        let events = sender.clone();
        let synced = async move {
            informer.synced().await;
            // Behind the objects in the same channel, so that they are in the graph first.
            drop(events.send(Observed::Listed(index)));
        };
        self.streams.push(stream::once(synced).filter_map(|()| async { None }).boxed());
    }

    /// A kind is listed.
    pub fn listed(&mut self, kind: u16) {
        self.unlisted.remove(&kind);
    }

    /// Whether all kinds were listed once.
    pub fn all_listed(&self) -> bool {
        self.unlisted.is_empty()
    }
}

fn matters(
    old: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    new: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> bool {
    old.owner_references != new.owner_references
        || old.finalizers != new.finalizers
        || old.deletion_timestamp != new.deletion_timestamp
}

/// A metadata-only watch of a kind.
fn follow(cx: &Context, index: u16, kind: &Kind) -> BoxStream<'static, Observed> {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(cx.client.clone(), &kind.resource);
    let announces = kind.resource.kind == "CustomResourceDefinition";
    let events = watcher::watcher(api, watch_config()).default_backoff();
    let mut listing: HashSet<Uid> = HashSet::new();
    let mut alive: HashSet<Uid> = HashSet::new();
    let mut listed = false;
    let uid_of = |o: &PartialObjectMeta<DynamicObject>| Uid::parse(meta::uid(&o.metadata));
    events
        .take_while(|event| std::future::ready(!is_unserved(event)))
        .flat_map(move |event| {
            let mut out = Vec::new();
            match event {
                Ok(Event::Apply(o)) => {
                    alive.insert(uid_of(&o));
                    out.push(Observed::Set(uid_of(&o), Node::of(index, &o.metadata)));
                }
                Ok(Event::Delete(o)) => {
                    alive.remove(&uid_of(&o));
                    out.push(Observed::Gone(uid_of(&o)));
                }
                Ok(Event::Init) => listing.clear(),
                Ok(Event::InitApply(o)) => {
                    listing.insert(uid_of(&o));
                    out.push(Observed::Set(uid_of(&o), Node::of(index, &o.metadata)));
                }
                Ok(Event::InitDone) => {
                    let now = std::mem::take(&mut listing);
                    out.extend(alive.difference(&now).map(|uid| Observed::Gone(*uid)));
                    alive = now;
                    out.push(Observed::Listed(index));
                    listed = true;
                }
                Err(error) => tracing::debug!(%error, "a metadata watch failed; trying again"),
            }
            if announces && listed && !out.is_empty() {
                out.push(Observed::KindsChanged);
            }
            stream::iter(out)
        })
        .chain(stream::once(std::future::ready(Observed::KindGone(index))))
        .boxed()
}

fn is_unserved<T>(event: &Result<T, watcher::Error>) -> bool {
    matches!(event, Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404)
}
