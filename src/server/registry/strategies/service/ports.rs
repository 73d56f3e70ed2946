//! Node ports: defaults and allocation.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::addresses::remove;
use super::{ServiceStrategy, holder, needs_node_ports, ports_of, stored};
use crate::api::{FieldError, GroupKind, Meta, Path, Status};
use crate::server::registry::strategies::check::{items, same, text};
use crate::server::registry::strategy::Context;

/// What one request took.
#[derive(Default)]
pub struct Taken {
    pub addresses: Vec<u32>,
    pub ports: Vec<u32>,
}

/// The type has node ports.
fn typed(spec: &Value) -> bool {
    matches!(text(&spec["type"]), "NodePort" | "LoadBalancer")
}

fn node_ports(spec: &Value) -> BTreeSet<i64> {
    items(&spec["ports"]).iter().filter_map(|p| p["nodePort"].as_i64()).filter(|p| *p != 0).collect()
}

/// An update that says nothing of a port's node port keeps it; one to a type without node ports lets them
/// go, unless they were changed by hand, which validation then refuses.
pub fn carry_over(spec: &mut Value, old: &Value) {
    match (typed(old), typed(spec)) {
        (true, true) => keep_node_ports(spec, old),
        (true, false) if node_ports(spec).is_subset(&node_ports(old)) => {
            for port in ports_mut(spec) {
                remove(port, "nodePort");
            }
        }
        _ => {}
    }
    let health = old["healthCheckNodePort"].as_i64().unwrap_or_default();
    let own = spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or_default();
    if needs_health_port(spec) && needs_health_port(old) && own == 0 {
        spec["healthCheckNodePort"] = json!(health);
    } else if !needs_health_port(spec) && needs_health_port(old) && own == health {
        remove(spec, "healthCheckNodePort");
    }
    let (typed_now, balanced_now) = (typed(spec), text(&spec["type"]) == "LoadBalancer");
    let mut drop = |field: &str| {
        if same(&spec[field], &old[field]) {
            remove(spec, field);
        }
    };
    if typed(old) && !typed_now {
        drop("externalTrafficPolicy");
    }
    if text(&old["type"]) == "LoadBalancer" && !balanced_now {
        drop("allocateLoadBalancerNodePorts");
        drop("loadBalancerClass");
    }
}

fn ports_mut(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Ports are the same by their names.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let mut used: BTreeSet<i64> = node_ports(spec).intersection(&node_ports(old)).copied().collect();
    let before: HashMap<&str, i64> = items(&old["ports"])
        .iter()
        .filter_map(|p| Some((text(&p["name"]), p["nodePort"].as_i64()?)))
        .collect();
    for port in ports_mut(spec) {
        let unset = port["nodePort"].as_i64().unwrap_or_default() == 0;
        let known = before.get(text(&port["name"])).copied().filter(|known| *known != 0);
        if let Some(known) = known.filter(|known| unset && used.insert(*known)) {
            port["nodePort"] = json!(known);
        }
    }
}

/// A load balancer asks this port whether the node has back ends.
pub fn needs_health_port(spec: &Value) -> bool {
    text(&spec["type"]) == "LoadBalancer" && text(&spec["externalTrafficPolicy"]) == "Local"
}

impl ServiceStrategy {
    /// Takes the node ports the Service asks for, and others where it asks for none.
    pub(super) fn allocate_ports(
        &self,
        cx: &Context<'_>,
        object: &mut Value,
        old: Option<&Value>,
        taken: &mut Taken,
    ) -> Result<(), Status> {
        let (holder, name) = (holder(object), Meta::of(object).name().to_owned());
        let kept: Vec<u32> = old.map(|old| ports_of(old).collect()).unwrap_or_default();
        let request = Request { cx, holder, name, kept };
        // Where none are to be made up, those asked for are taken all the same.
        if typed(&object["spec"]) {
            let made_up = needs_node_ports(&object["spec"]);
            let mut protocols: HashMap<u32, Vec<String>> = HashMap::new();
            let count = items(&object["spec"]["ports"]).len();
            // Those asked for by number first, so that none of them is handed out to another port.
            for asked in [true, false] {
                for index in 0..count {
                    let path = Path::new("spec").child("ports").index(index).child("nodePort");
                    let port = &mut object["spec"]["ports"][index];
                    let own = number(&port["nodePort"]);
                    let protocol = text(&port["protocol"]).to_owned();
                    match (asked, own) {
                        (true, Some(own)) => {
                            let used = protocols.entry(own).or_default();
                            // TCP and UDP may share a number within one Service.
                            if used.is_empty() {
                                self.take_port(&request, own, &path, taken)?;
                            }
                            used.push(protocol);
                        }
                        (false, None) if made_up => {
                            let twin = shared(items(&object["spec"]["ports"]), index, &protocols);
                            let value = match twin {
                                Some(value) => value,
                                None => self.any_port(&request, taken)?,
                            };
                            protocols.entry(value).or_default().push(protocol);
                            object["spec"]["ports"][index]["nodePort"] = json!(value);
                        }
                        _ => {}
                    }
                }
            }
        }
        if needs_health_port(&object["spec"]) {
            let path = Path::new("spec").child("healthCheckNodePort");
            match number(&object["spec"]["healthCheckNodePort"]) {
                Some(own) => self.take_port(&request, own, &path, taken)?,
                None => object["spec"]["healthCheckNodePort"] = json!(self.any_port(&request, taken)?),
            }
        }
        Ok(())
    }

    fn take_port(
        &self,
        request: &Request<'_>,
        value: u32,
        path: &Path,
        taken: &mut Taken,
    ) -> Result<(), Status> {
        if request.kept.contains(&value) {
            return Ok(());
        }
        let (low, high) = self.ports.range();
        let detail = if !self.ports.contains(value) {
            format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
        } else if self.ports.take(value, &request.holder, request.uses(), request.cx.dry_run).is_err() {
            "provided port is already allocated".to_owned()
        } else {
            taken.ports.push(value);
            return Ok(());
        };
        let error = FieldError::invalid(path, value, detail);
        Err(Status::invalid(&GroupKind::new("", "Service"), &request.name, &[error]))
    }

    fn any_port(&self, request: &Request<'_>, taken: &mut Taken) -> Result<u32, Status> {
        let value = self
            .ports
            .take_any(&request.holder, request.uses(), request.cx.dry_run)
            .map_err(|_| Status::internal("failed to allocate a nodePort: range is full"))?;
        taken.ports.push(value);
        Ok(value)
    }
}

struct Request<'a> {
    cx: &'a Context<'a>,
    holder: String,
    name: String,
    kept: Vec<u32>,
}

impl Request<'_> {
    fn uses(&self) -> impl Fn(&str, u32) -> bool {
        |holder, value| {
            stored(self.cx.reader, holder).is_some_and(|service| ports_of(&service).any(|p| p == value))
        }
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().filter(|n| *n != 0).and_then(|n| u32::try_from(n).ok())
}

/// The node port of a port with the same number and another protocol, as DNS has.
fn shared(ports: &[Value], index: usize, protocols: &HashMap<u32, Vec<String>>) -> Option<u32> {
    let own = &ports[index];
    ports.iter().filter(|p| p["port"] == own["port"] && p["protocol"] != own["protocol"]).find_map(|twin| {
        let value = number(&twin["nodePort"])?;
        let used = protocols.get(&value)?;
        (!used.iter().any(|p| p == text(&own["protocol"]))).then_some(value)
    })
}
