//! Cluster addresses as objects: an IPAddress for each address a Service has, and the ServiceCIDR they are from.
//!
//! As upstream's IP allocator keeps them. Which addresses are taken is decided where a Service is written: the
//! objects tell of it. An IPAddress that a user makes reserves its address; those made here follow the Services.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::auth::User;
use super::cache::{Event, EventType, Expired, Scope};
use super::objects::{Call, Change, DeleteOptions, Objects, WriteOptions};
use super::registry::Resource;
use crate::api::meta::now;
use crate::api::{Meta, Object, Status};
use crate::config::Cidr;

/// The name of the ServiceCIDR of the server's own settings.
const DEFAULT: &str = "kubernetes";
/// Keeps that one while Services have addresses of it.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// The task fell behind, or the store failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Expired(#[from] Expired),
    #[error("addresses of Services: {0}")]
    Status(#[from] Status),
}

/// The ServiceCIDR of the settings, to be made at the first start.
pub(super) fn default_network(cidr: Cidr) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr.to_string()]}})
}

/// Keeps the objects equal to the Services, until `stop`.
pub(super) async fn run(objects: &Objects, cidr: Cidr, stop: CancellationToken) -> Result<(), Error> {
    let keeper = Keeper::new(objects, cidr)?;
    let (services, mut service_events) = objects.kind(&keeper.services)?.list_and_watch(Scope::All);
    let (addresses, mut address_events) = objects.kind(&keeper.addresses)?.list_and_watch(Scope::All);
    let (networks, mut network_events) = objects.kind(&keeper.networks)?.list_and_watch(Scope::All);
    for (_, address) in &addresses.objects {
        keeper.check_address(address).await?;
    }
    for (_, service) in &services.objects {
        keeper.hold(service).await?;
    }
    for (_, network) in &networks.objects {
        keeper.check_network(network).await?;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            events = service_events.next() => for event in events? {
                keeper.follow(&event).await?;
            },
            events = address_events.next() => for event in events? {
                if event.kind == EventType::Deleted {
                    keeper.restore(event.object.name()).await?;
                }
            },
            events = network_events.next() => for event in events? {
                if event.kind != EventType::Deleted {
                    keeper.check_network(&event.object).await?;
                }
            },
        }
    }
}

struct Keeper<'a> {
    objects: &'a Objects,
    cidr: Cidr,
    services: Arc<Resource>,
    addresses: Arc<Resource>,
    networks: Arc<Resource>,
    user: User,
    options: WriteOptions,
}

/// The cluster addresses of a Service.
fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let list = service["spec"]["clusterIPs"].as_array();
    list.into_iter().flatten().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn parent(service: &Object) -> Value {
    json!({"group": "", "resource": "services", "namespace": service.namespace(), "name": service.name()})
}

/// It was made here, and not by a user.
fn is_managed(address: &Value) -> bool {
    address["metadata"]["labels"][MANAGED_BY] == MANAGER
}

impl<'a> Keeper<'a> {
    fn new(objects: &'a Objects, cidr: Cidr) -> Result<Self, Status> {
        let entry = |name: &str| objects.registry.stored(name).ok_or_else(Status::no_such_path);
        Ok(Self {
            objects,
            cidr,
            services: entry("services")?,
            addresses: entry("ipaddresses.networking.k8s.io")?,
            networks: entry("servicecidrs.networking.k8s.io")?,
            user: User::loopback(),
            options: WriteOptions { field_manager: "kedge".to_owned(), ..WriteOptions::default() },
        })
    }

    fn call<'b>(&'b self, resource: &'b Arc<Resource>) -> Call<'b> {
        Call::own(resource, None, &self.user, &self.options)
    }

    /// A Service came, changed or went.
    async fn follow(&self, event: &Event) -> Result<(), Status> {
        let before = match event.kind {
            EventType::Deleted => Some(&event.object),
            _ => event.previous.as_ref(),
        };
        let now = (event.kind != EventType::Deleted).then(|| addresses_of(&event.object.value()));
        let now = now.unwrap_or_default();
        for gone in before.map(|b| addresses_of(&b.value())).unwrap_or_default() {
            if !now.contains(&gone)
                && let Ok(address) = self.objects.get(&self.addresses, None, &gone.to_string())
            {
                self.check_address(&address).await?;
            }
        }
        if now.is_empty() { Ok(()) } else { self.hold(&event.object).await }
    }

    /// Makes the objects of a Service's addresses, where there are none.
    async fn hold(&self, service: &Object) -> Result<(), Status> {
        for address in addresses_of(&service.value()) {
            let name = address.to_string();
            if self.objects.get(&self.addresses, None, &name).is_ok() {
                continue;
            }
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER, FAMILY: family}},
                "spec": {"parentRef": parent(service)}});
            settled(self.objects.create(&self.call(&self.addresses), object).await.map(drop))?;
        }
        Ok(())
    }

    /// Removes an address that was made here and whose Service has it no longer.
    async fn check_address(&self, address: &Object) -> Result<(), Status> {
        let value = address.value();
        let text = |field: &str| value["spec"]["parentRef"][field].as_str().unwrap_or_default();
        let service = self.objects.get(&self.services, Some(text("namespace")), text("name"));
        let held = service
            .is_ok_and(|s| addresses_of(&s.value()).iter().any(|a| a.to_string() == Meta::of(&value).name()));
        if held || !is_managed(&value) {
            return Ok(());
        }
        let only_this = DeleteOptions { uid: Some(address.uid().to_owned()), ..DeleteOptions::default() };
        let deleted = self.objects.delete(&self.call(&self.addresses), address.name(), &only_this).await;
        settled(deleted.map(drop))
    }

    /// An address was deleted: a Service may have it still, or be told of it now.
    async fn restore(&self, name: &str) -> Result<(), Status> {
        let services = self.objects.kind(&self.services)?.all(&Scope::All);
        let has = |s: &&Arc<Object>| addresses_of(&s.value()).iter().any(|a| a.to_string() == name);
        match services.iter().find(has) {
            Some(service) => self.hold(service).await,
            None => Ok(()),
        }
    }

    /// Says of a network whether Services get addresses of it.
    async fn check_network(&self, network: &Object) -> Result<(), Status> {
        let wanted = self.condition(&network.value());
        if told(&network.value(), &wanted) {
            return Ok(());
        }
        let change = Change { name: network.name(), subresource: Some("status"), ..Change::default() };
        let mut apply = |live: Option<&Value>| Ok(with_condition(live.cloned().unwrap_or_default(), &wanted));
        settled(self.objects.update(&self.call(&self.networks), change, &mut apply).await.map(drop))
    }

    fn condition(&self, network: &Value) -> Value {
        let own = network["spec"]["cidrs"] == json!([self.cidr.to_string()]);
        let going = Meta::of(network).deletion_timestamp().is_some();
        let (status, reason, message) = match (own, going) {
            (true, false) => ("True", "", "Kubernetes default Service CIDR is ready".to_owned()),
            (true, true) => (
                "False",
                "Terminating",
                "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
                    .to_owned(),
            ),
            (false, _) => (
                "False",
                "NotServed",
                format!("Services have addresses of {} alone: the server's --service-cidr", self.cidr),
            ),
        };
        json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now()})
    }
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

/// The condition is there already.
fn told(network: &Value, wanted: &Value) -> bool {
    let fields = ["type", "status", "reason", "message"];
    conditions(network).iter().any(|c| fields.iter().all(|field| c[*field] == wanted[*field]))
}

/// The object with this condition in the place of another of its type.
fn with_condition(mut object: Value, wanted: &Value) -> Value {
    let mut list: Vec<Value> =
        conditions(&object).iter().filter(|c| c["type"] != wanted["type"]).cloned().collect();
    list.push(wanted.clone());
    object["status"]["conditions"] = json!(list);
    object
}

/// Somebody else was faster, or made an object that is in the way: that is as it is.
fn settled(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if matches!(status.code, 404 | 409 | 422) => {
            tracing::debug!(%status, "the object of an address is left as it is");
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        let service = json!({"spec": {"clusterIPs": ["10.43.0.1", "2001:db8::1"]}});
        assert_eq!(addresses_of(&service).len(), 2);
        assert!(addresses_of(&json!({"spec": {"clusterIPs": ["None"]}})).is_empty());
        assert!(addresses_of(&json!({"spec": {}})).is_empty());
        assert!(is_managed(&json!({"metadata": {"labels": {MANAGED_BY: MANAGER}}})));
        assert!(!is_managed(&json!({"metadata": {"labels": {}}})));
    }

    #[test]
    fn a_condition_takes_the_place_of_the_one_of_its_type() {
        let ready = |status: &str| json!({"type": "Ready", "status": status, "reason": "", "message": "m"});
        let other = json!({"type": "Other", "status": "True"});
        let network = json!({"status": {"conditions": [ready("False"), other]}});
        assert!(told(&network, &ready("False")) && !told(&network, &ready("True")));
        let changed = with_condition(network, &ready("True"));
        assert_eq!(changed["status"]["conditions"], json!([other, ready("True")]));
        assert!(told(&with_condition(json!({}), &ready("True")), &ready("True")));
    }
}
