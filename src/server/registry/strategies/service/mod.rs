//! Services: `pkg/registry/core/service`.

mod addresses;
mod allocator;
mod families;
mod ports;
mod update;
mod validate;
mod warnings;

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::StrategyConfig;
use super::check::{Errors, is_empty, items, text};
use crate::api::{FieldError, GroupKind, Meta, Path, Status};
use crate::config::Cidr;
use crate::server::reader::Reader;
use crate::server::registry::strategy::{Context, Strategy, defaults};
use allocator::Allocator;
pub use update::host_name;

/// The strategy of Services; it has the allocators of addresses and node ports.
pub struct ServiceStrategy {
    cidr: Cidr,
    addresses: Allocator,
    ports: Allocator,
}

impl ServiceStrategy {
    /// With nothing allocated.
    pub fn new(config: &StrategyConfig) -> Self {
        let (first, last) = usable(config.service_cidr);
        let size = last - first + 1;
        // As upstream: a 16th of the range, at least 16 and at most 256 addresses, is chosen last.
        let reserved = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        let (low, high) = (u32::from(config.node_port_range.0), u32::from(config.node_port_range.1));
        let count = high.saturating_sub(low) + 1;
        let reserved_ports = if count <= 16 { 0 } else { (count / 32).clamp(16, 128) };
        Self {
            cidr: config.service_cidr,
            addresses: Allocator::new(first, last, first + reserved.saturating_sub(1)),
            ports: Allocator::new(low, high, low + reserved_ports.saturating_sub(1)),
        }
    }
}

/// First and last address: neither the network's own nor the broadcast address.
fn usable(cidr: Cidr) -> (u32, u32) {
    let base = u32::from(cidr.base);
    let size = 1_u64 << (32 - u32::from(cidr.prefix));
    let last = base + u32::try_from(size.saturating_sub(2).max(1)).unwrap_or(u32::MAX - base);
    (base + 1, last.max(base + 1))
}

/// Who holds what a Service has.
fn holder(service: &Value) -> String {
    let meta = Meta::of(service);
    format!("{}/{}", meta.namespace(), meta.name())
}

fn stored(reader: &dyn Reader, holder: &str) -> Option<Value> {
    let (namespace, name) = holder.split_once('/')?;
    Some(reader.get("services", Some(namespace), name)?.value())
}

/// The type needs a cluster address.
fn needs_address(spec: &Value) -> bool {
    matches!(text(&spec["type"]), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// The type needs node ports.
fn needs_node_ports(spec: &Value) -> bool {
    match text(&spec["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn is_headless(spec: &Value) -> bool {
    text(&spec["clusterIP"]) == "None" || text(&spec["clusterIPs"][0]) == "None"
}

/// The address as a number of the range.
fn address(value: &Value) -> Option<u32> {
    text(value).parse::<Ipv4Addr>().ok().map(u32::from)
}

fn addresses_of(service: &Value) -> impl Iterator<Item = u32> {
    let single = address(&service["spec"]["clusterIP"]);
    let all: Vec<u32> = items(&service["spec"]["clusterIPs"]).iter().filter_map(address).collect();
    single
        .into_iter()
        .filter(move |one| !all.contains(one))
        .chain(items(&service["spec"]["clusterIPs"]).iter().filter_map(address).collect::<Vec<u32>>())
}

fn ports_of(service: &Value) -> impl Iterator<Item = u32> {
    let spec = &service["spec"];
    let health = spec["healthCheckNodePort"].as_u64();
    items(&spec["ports"])
        .iter()
        .filter_map(|p| p["nodePort"].as_u64())
        .chain(health)
        .filter(|p| *p != 0)
        .filter_map(|p| u32::try_from(p).ok())
}

impl Strategy for ServiceStrategy {
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({"loadBalancer": {}});
        addresses::normalize(&mut object["spec"]);
        check_families(object, None)?;
        if !validate::service(object, None).is_empty() {
            return Ok(());
        }
        self.allocate(cx, object, None)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate::service(object, None)
    }

    fn prepare_update(&self, cx: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        self.restore(old);
        defaults::keep(new, old, "status");
        addresses::carry_over(&mut new["spec"], &old["spec"]);
        ports::carry_over(&mut new["spec"], &old["spec"]);
        addresses::normalize(&mut new["spec"]);
        if text(&new["spec"]["type"]) != "LoadBalancer" && !is_empty(&new["status"]["loadBalancer"]) {
            new["status"]["loadBalancer"] = json!({});
        }
        check_families(new, Some(old))?;
        if !self.validate_update(cx, new, old).is_empty() {
            return Ok(());
        }
        self.allocate(cx, new, Some(old))
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = update::service(&new["spec"], &old["spec"]);
        errors.extend(validate::service(new, Some(old)));
        errors
    }

    fn validate_subresource(&self, _: &Context<'_>, sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        if sub == "status" { update::status(new, old) } else { Vec::new() }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of(object)
    }

    fn rollback(&self, object: &Value) {
        let holder = holder(object);
        addresses_of(object).for_each(|address| self.addresses.undo(address, &holder));
        ports_of(object).for_each(|port| self.ports.undo(port, &holder));
    }

    fn deleted(&self, object: &Value) {
        let holder = holder(object);
        addresses_of(object).for_each(|address| self.addresses.release(address, &holder));
        ports_of(object).for_each(|port| self.ports.release(port, &holder));
    }

    fn restore(&self, object: &Value) {
        let holder = holder(object);
        addresses_of(object)
            .filter(|a| self.addresses.contains(*a))
            .for_each(|a| self.addresses.settle(a, &holder));
        ports_of(object).filter(|p| self.ports.contains(*p)).for_each(|p| self.ports.settle(p, &holder));
    }
}

/// Families are settled before all else.
fn check_families(service: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    families::related(spec, old.map(|o| &o["spec"]), &path, &mut errors);
    if errors.0.is_empty() {
        families::available(spec, &path, &mut errors);
    }
    if errors.0.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind::new("", "Service"), Meta::of(service).name(), &errors.0))
}

impl ServiceStrategy {
    /// Takes what the Service needs and `old` does not have; all or nothing.
    fn allocate(&self, cx: &Context<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let mut taken = ports::Taken::default();
        let result = self
            .allocate_address(cx, object, old, &mut taken)
            .and_then(|()| self.allocate_ports(cx, object, old, &mut taken));
        if result.is_err() {
            let holder = holder(object);
            taken.addresses.iter().for_each(|address| self.addresses.undo(*address, &holder));
            taken.ports.iter().for_each(|port| self.ports.undo(*port, &holder));
        }
        result
    }
}

#[cfg(test)]
mod tests;
