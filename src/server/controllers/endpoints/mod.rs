//! EndpointSlices and Endpoints: where the traffic of a Service goes.
//!
//! Three controllers share this directory: slices from pods, the older Endpoints from pods, and
//! slices from Endpoints that somebody writes by hand.

mod backends;
mod legacy;
mod mirror;
mod slices;
mod writer;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key, Subscription};
use super::kit::pod::Pod;
use super::kit::{Context, Error, Next, Queue, meta};
use crate::supervisor::TaskError;
pub use legacy::run as run_endpoints;
pub use mirror::run as run_mirroring;
use slices::{Common, HEADLESS, MANAGED_BY, SERVICE_NAME};

const WORKERS: usize = 5;
/// Most endpoints in a slice.
const MAX_PER_SLICE: usize = 100;
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

struct Slices {
    cx: Context,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    slices: Arc<Informer<EndpointSlice>>,
    queue: Queue<Key>,
}

/// Runs the EndpointSlice controller.
pub async fn run_slices(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Slices {
        services: cx.informers.get(),
        pods: cx.informers.get(),
        nodes: cx.informers.get(),
        slices: cx.informers.get(),
        queue: Queue::new("endpointslice"),
        cx,
    });
    let _subscriptions = this.subscribe();
    this.services.synced().await;
    this.pods.synced().await;
    this.nodes.synced().await;
    this.slices.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Slices {
    fn subscribe(self: &Arc<Self>) -> [Subscription; 4] {
        let (a, b, c, d) = (Arc::clone(self), Arc::clone(self), Arc::clone(self), Arc::clone(self));
        [
            self.services.subscribe(move |change| a.queue.add(Key::of(change.latest().as_ref()))),
            self.pods.subscribe(move |change| {
                services_of(&b.services, change).into_iter().for_each(|key| b.queue.add(key));
            }),
            // Somebody else changed or removed a slice.
            self.slices.subscribe(move |change| {
                let slice = change.latest();
                let labels = meta::labels(&slice.metadata);
                if let Some(service) = labels.get(SERVICE_NAME)
                    && labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
                {
                    c.queue.add(Key::new(meta::namespace(&slice.metadata), service));
                }
            }),
            self.nodes.subscribe(move |change| d.node_changed(change)),
        ]
    }

    /// The zone of a node is part of its endpoints.
    fn node_changed(&self, change: &Change<Node>) {
        let zone =
            |n: &Option<Arc<Node>>| n.as_ref().and_then(|n| meta::labels(&n.metadata).get(ZONE).cloned());
        if zone(&change.old) != zone(&change.new) {
            self.services.list().iter().for_each(|s| self.queue.add(Key::of(s.as_ref())));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(&key) else { return Ok(Next::Done) };
        let Some(selector) = backends::selector(&service) else { return Ok(Next::Done) };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|p| backends::selects(selector, meta::labels(&p.metadata)));
        let zone = |node: &str| meta::labels(&self.nodes.named(node)?.metadata).get(ZONE).cloned();
        let groups = backends::groups(&service, &pods, zone);
        let existing = writer::managed(&self.slices, &key, SERVICE_NAME, MANAGER);
        let types = backends::address_types(&service);
        let plan = slices::plan_with_placeholder(&common(&service), &types, &groups, &existing);
        writer::carry_out(&self.cx, &self.slices, &key.namespace, plan).await?;
        Ok(Next::Done)
    }
}

fn common(service: &Service) -> Common {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Common {
        namespace: meta::namespace(&service.metadata).to_owned(),
        prefix: format!("{}-", meta::name(&service.metadata)),
        labels,
        owner: meta::controller_ref(service),
        limit: MAX_PER_SLICE,
    }
}

/// The Services whose endpoints a change of a pod touches.
fn services_of(services: &Informer<Service>, change: &Change<Pod>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        && old.spec == new.spec
        && old.status.pod_ips == new.status.pod_ips
        && old.status.phase == new.status.phase
        && old.is_ready() == new.is_ready()
    {
        return Vec::new();
    }
    let mut keys = Vec::new();
    let namespace = meta::namespace(&change.latest().metadata);
    for service in services.in_namespace(namespace) {
        let Some(selector) = backends::selector(&service) else { continue };
        let selected = [&change.old, &change.new].into_iter().flatten();
        if selected.into_iter().any(|p| backends::selects(selector, meta::labels(&p.metadata))) {
            keys.push(Key::of(service.as_ref()));
        }
    }
    keys
}
