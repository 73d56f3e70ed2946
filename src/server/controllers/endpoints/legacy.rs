//! Endpoints, the older form of endpoint slices: one object a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use tokio_util::sync::CancellationToken;

use super::slices::HEADLESS;
use super::{WORKERS, backends, services_of};
use crate::server::controllers::kit::informer::{Informer, Key};
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Error, Next, Queue, ignore_not_found, meta, patch};
use crate::supervisor::TaskError;

/// Most addresses in the object.
const CAPACITY: usize = 1000;
/// Annotation that says that there were more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

struct Legacy {
    cx: Context,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    endpoints: Arc<Informer<Endpoints>>,
    queue: Queue<Key>,
}

/// Runs the Endpoints controller.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let this = Arc::new(Legacy {
        services: cx.informers.get(),
        pods: cx.informers.get(),
        endpoints: cx.informers.get(),
        queue: Queue::new("endpoint"),
        cx,
    });
    let (a, b, c) = (Arc::clone(&this), Arc::clone(&this), Arc::clone(&this));
    let _subscriptions = [
        this.services.subscribe(move |change| a.queue.add(Key::of(change.latest().as_ref()))),
        this.pods.subscribe(move |change| {
            services_of(&b.services, change).into_iter().for_each(|key| b.queue.add(key));
        }),
    ];
    let _endpoints = this.endpoints.subscribe(move |change| c.queue.add(Key::of(change.latest().as_ref())));
    this.services.synced().await;
    this.pods.synced().await;
    this.endpoints.synced().await;
    this.queue.run(WORKERS, stop, |key| this.reconcile(key)).await;
    Ok(())
}

impl Legacy {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let api: Api<Endpoints> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let known = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            // Only what this controller made goes with the Service.
            if known.is_some_and(|e| meta::labels(&e.metadata).get(MANAGED_BY).is_some_and(|m| m == MANAGER))
            {
                let deleted = api.delete(&key.name, &DeleteParams::default()).await;
                ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting endpoints")))?;
            }
            return Ok(Next::Done);
        };
        let Some(selector) = backends::selector(&service) else { return Ok(Next::Done) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|p| backends::selects(selector, meta::labels(&p.metadata)));
        let wanted = build(&service, &pods);
        match known {
            Some(old) => {
                let mut new = Endpoints::clone(&old);
                new.metadata.labels = wanted.metadata.labels;
                match wanted.metadata.annotations {
                    Some(over) => new.metadata.annotations.get_or_insert_default().extend(over),
                    None => {
                        if let Some(annotations) = &mut new.metadata.annotations {
                            annotations.remove(OVER_CAPACITY);
                        }
                    }
                }
                new.subsets = wanted.subsets;
                patch::write(&api, old.as_ref(), &new, None).await?;
            }
            None => match api
                .create(&PostParams::default(), &wanted)
                .await
                .map_err(Error::api("creating endpoints"))
            {
                Ok(_) => {}
                Err(e) if e.is_namespace_terminating() => {}
                Err(e) => return Err(e),
            },
        }
        Ok(Next::Done)
    }
}

fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let wanted = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let port = |p: &k8s_openapi::api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: p.name.clone().filter(|n| !n.is_empty()),
            port: backends::find_port(pod, p)?,
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: p.app_protocol.clone(),
        })
    };
    wanted.iter().filter_map(port).collect()
}

/// The Endpoints of a Service.
fn build(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let unready = backends::publishes_unready(service);
    let headless = backends::is_headless(service);
    let no_ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_none_or(Vec::is_empty);
    let family = backends::address_types(service).into_iter().next().unwrap_or_default();
    let mut subsets: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let mut room = CAPACITY;
    let mut over = false;
    // Ready pods first, so that they are those that have room.
    let mut sorted: Vec<&Arc<Pod>> = pods.iter().collect();
    sorted.sort_by_key(|p| (!p.is_ready(), backends::addresses(p).first().map(|a| (*a).to_owned())));
    for pod in sorted {
        if !backends::has_address(pod) || (pod.is_terminating() && !unready) {
            continue;
        }
        let ip =
            backends::addresses(pod).into_iter().find(|a| backends::address_type(a) == Some(family.as_str()));
        let Some(ip) = ip else { continue };
        let ports = ports(pod, service);
        if ports.is_empty() && !(headless && no_ports) {
            continue;
        }
        if room == 0 {
            over = true;
            continue;
        }
        room -= 1;
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: backends::hostname(pod, service),
            node_name: pod.node().map(str::to_owned),
            target_ref: Some(backends::target(pod)),
        };
        let key = serde_json::to_string(&ports).unwrap_or_default();
        let subset = subsets.entry(key).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..Default::default()
        });
        let list =
            if unready || pod.is_ready() { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: over.then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())])),
            ..Default::default()
        },
        subsets: (!subsets.is_empty()).then(|| subsets.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::backends::tests::{pod, service};
    use super::*;
    use serde_json::json;

    fn web() -> Service {
        service(
            json!({"clusterIP": "10.43.0.5", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
        )
    }

    #[test]
    fn ready_and_other_addresses_are_told_apart() {
        let pods = [pod("a", "10.0.0.2", true, json!({})), pod("b", "10.0.0.1", false, json!({}))];
        let endpoints = build(&web(), &pods);
        let subsets = endpoints.subsets.expect("subsets");
        assert_eq!(subsets.len(), 1);
        assert_eq!(subsets[0].addresses.as_ref().map(|a| a[0].ip.as_str()), Some("10.0.0.2"));
        assert_eq!(subsets[0].not_ready_addresses.as_ref().map(|a| a[0].ip.as_str()), Some("10.0.0.1"));
        assert_eq!(subsets[0].ports.as_ref().map(|p| p[0].port), Some(8080));
        assert_eq!(build(&web(), &[]).subsets, None);
    }

    #[test]
    fn a_headless_service_needs_no_ports() {
        let headless = service(json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let endpoints = build(&headless, &[pod("a", "10.0.0.2", true, json!({}))]);
        assert_eq!(endpoints.subsets.map(|s| s[0].ports.clone()), Some(None));
        assert!(endpoints.metadata.labels.is_some_and(|l| l.contains_key(HEADLESS)));
    }

    #[test]
    fn too_many_are_cut_off_and_said_so() {
        let pods: Vec<_> = (0..1001)
            .map(|i| {
                pod(&format!("p{i}"), &format!("10.0.{}.{}", i / 250, i % 250 + 1), i % 2 == 0, json!({}))
            })
            .collect();
        let endpoints = build(&web(), &pods);
        let subset = &endpoints.subsets.expect("subsets")[0];
        assert_eq!(subset.addresses.as_ref().map(Vec::len), Some(501));
        assert_eq!(subset.not_ready_addresses.as_ref().map(Vec::len), Some(499));
        assert!(endpoints.metadata.annotations.is_some_and(|a| a[OVER_CAPACITY] == "truncated"));
    }
}
