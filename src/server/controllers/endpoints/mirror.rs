//! Slices for Endpoints that somebody writes for a Service without a selector, since proxies read
//! only slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use tokio_util::sync::CancellationToken;

use super::slices::{self, Common, Group, MANAGED_BY, SERVICE_NAME};
use super::{WORKERS, backends, writer};
use crate::server::controllers::kit::informer::{Informer, Key};
use crate::server::controllers::kit::{Context, Error, Next, Queue, meta};
use crate::supervisor::TaskError;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Most endpoints in a slice.
const MAX_PER_SLICE: usize = 1000;

struct Mirror {
    cx: Context,
    services: Arc<Informer<Service>>,
    endpoints: Arc<Informer<Endpoints>>,
    slices: Arc<Informer<EndpointSlice>>,
    queue: Queue<Key>,
}

/// Runs the controller that mirrors Endpoints into slices.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Mirror {
        services: cx.informers.get(),
        endpoints: cx.informers.get(),
        slices: cx.informers.get(),
        queue: Queue::new("endpointslicemirroring"),
        cx,
    });
    let (a, b, c) = (Arc::clone(&this), Arc::clone(&this), Arc::clone(&this));
    let _services = this.services.subscribe(move |change| a.queue.add(Key::of(change.latest().as_ref())));
    let _endpoints = this.endpoints.subscribe(move |change| b.queue.add(Key::of(change.latest().as_ref())));
    let _slices = this.slices.subscribe(move |change| {
        let labels = meta::labels(&change.latest().metadata);
        if let Some(service) = labels.get(SERVICE_NAME)
            && labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
        {
            c.queue.add(Key::new(meta::namespace(&change.latest().metadata), service));
        }
    });
    this.services.synced().await;
    this.endpoints.synced().await;
    this.slices.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Mirror {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let endpoints = self.endpoints.get(&key).filter(|e| is_mirrored(e));
        let service = self.services.get(&key).filter(|s| {
            let spec = s.spec.as_ref();
            spec.is_some_and(|s| s.selector.as_ref().is_none_or(BTreeMap::is_empty))
        });
        let existing = writer::managed(&self.slices, &key, SERVICE_NAME, MANAGER);
        let plan = match (endpoints, service) {
            (Some(endpoints), Some(_)) => {
                let groups = groups(endpoints.subsets.as_deref().unwrap_or_default());
                slices::plan(&common(&endpoints), &groups, &existing)
            }
            _ => slices::Plan { delete: existing, ..Default::default() },
        };
        writer::carry_out(&self.cx, &self.slices, &key.namespace, plan).await?;
        Ok(Next::Done)
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta::labels(meta).get(SKIP).is_none_or(|v| v != "true")
        && meta::annotation(meta, LEADER).is_none()
        && meta.deletion_timestamp.is_none()
}

fn common(endpoints: &Endpoints) -> Common {
    let name = meta::name(&endpoints.metadata);
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Common {
        namespace: meta::namespace(&endpoints.metadata).to_owned(),
        prefix: format!("{name}-"),
        labels,
        owner: meta::controller_ref(endpoints),
        limit: MAX_PER_SLICE,
    }
}

fn groups(subsets: &[EndpointSubset]) -> Vec<Group> {
    let mut groups: BTreeMap<(String, &str), Group> = BTreeMap::new();
    for subset in subsets {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|p| EndpointPort {
                name: Some(p.name.clone().unwrap_or_default()),
                port: Some(p.port),
                protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: p.app_protocol.clone(),
            })
            .collect();
        let key = serde_json::to_string(&ports).unwrap_or_default();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        for (address, ready) in ready.chain(unready) {
            let Some(kind) = backends::address_type(&address.ip) else { continue };
            let group = groups.entry((key.clone(), kind)).or_insert_with(|| Group {
                address_type: kind.to_owned(),
                ports: ports.clone(),
                endpoints: Vec::new(),
            });
            group.endpoints.push(Endpoint {
                addresses: vec![address.ip.clone()],
                conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
                hostname: address.hostname.clone(),
                node_name: address.node_name.clone(),
                target_ref: address.target_ref.clone(),
                ..Default::default()
            });
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(change: serde_json::Value) -> Endpoints {
        let mut value = json!({"metadata": {"name": "db", "namespace": "n"}, "subsets": [
            {"addresses": [{"ip": "192.0.2.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}],
             "ports": [{"port": 5432}]}]});
        json_patch::merge(&mut value, &change);
        serde_json::from_value(value).expect("endpoints")
    }

    #[test]
    fn subsets_become_groups_by_family() {
        let groups = groups(endpoints(json!({})).subsets.as_deref().unwrap_or_default());
        let shape: Vec<_> = groups.iter().map(|g| (g.address_type.as_str(), g.endpoints.len())).collect();
        assert_eq!(shape, [("IPv4", 2), ("IPv6", 1)]);
        let ready = |i: usize| groups[0].endpoints[i].conditions.as_ref().and_then(|c| c.ready);
        assert_eq!((ready(0), ready(1)), (Some(true), Some(false)));
        assert_eq!(groups[0].ports[0].port, Some(5432));
    }

    #[test]
    fn some_endpoints_are_not_mirrored() {
        assert!(is_mirrored(&endpoints(json!({}))));
        assert!(!is_mirrored(&endpoints(json!({"metadata": {"labels": {SKIP: "true"}}}))));
        assert!(!is_mirrored(&endpoints(json!({"metadata": {"annotations": {LEADER: "x"}}}))));
    }
}
