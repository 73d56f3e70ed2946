//! Values of the downward API: `fieldRef` and `resourceFieldRef`, for environment and volumes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::quantity::{milli, milli_of};
use super::spec::all_containers;
use crate::api::field::quote;

/// What the values are taken from.
pub(crate) struct Fields<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// The node's.
    pub node_addresses: &'a [IpAddr],
    /// What a container without a limit may use at most: thousandths of a CPU, bytes of memory.
    pub allocatable: Allocatable,
}

/// What the node has for pods.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allocatable {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of disk.
    pub storage: i64,
}

/// A reference that leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// There is no such field.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// There is no such container.
    #[error("container {0} not found")]
    Container(String),
    /// There is no such resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// The divisor is no positive quantity.
    #[error("invalid divisor {0:?}")]
    Divisor(String),
}

impl Fields<'_> {
    /// The value of a `fieldRef`.
    pub(crate) fn field(&self, selector: &ObjectFieldSelector) -> Result<String, FieldError> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let path = selector.field_path.as_str();
        if let Some((map, key)) = subscript(path) {
            let map = if map == "metadata.labels" { &meta.labels } else { &meta.annotations };
            return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "metadata.labels" => format_map(meta.labels.as_ref()),
            "metadata.annotations" => format_map(meta.annotations.as_ref()),
            "spec.nodeName" => text(&spec.and_then(|s| s.node_name.clone())),
            "spec.serviceAccountName" => text(&spec.and_then(|s| s.service_account_name.clone())),
            "status.hostIP" => first(self.node_addresses),
            "status.hostIPs" => join(self.node_addresses),
            "status.podIP" => first(self.addresses),
            "status.podIPs" => join(self.addresses),
            other => return Err(FieldError::Field(other.to_owned())),
        })
    }

    /// The value of a `resourceFieldRef`, for the container `own` if it names none.
    pub(crate) fn resource(&self, selector: &ResourceFieldSelector, own: &str) -> Result<String, FieldError> {
        let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
        let containers = self.pod.spec.as_ref().map(all_containers).unwrap_or_default();
        let found = containers.iter().find(|c| c.name == name);
        let container = found.ok_or_else(|| FieldError::Container(name.to_owned()))?;
        let (kind, resource) = selector.resource.split_once('.').unwrap_or((selector.resource.as_str(), ""));
        let resources = container.resources.as_ref();
        let list = match kind {
            "limits" => resources.and_then(|r| r.limits.as_ref()),
            "requests" => resources.and_then(|r| r.requests.as_ref()),
            _ => return Err(FieldError::Resource(selector.resource.clone())),
        };
        let mut value = milli_of(list, resource);
        if value == 0 && kind == "limits" {
            value = match resource {
                "cpu" => self.allocatable.cpu_milli,
                "memory" => self.allocatable.memory.saturating_mul(1000),
                "ephemeral-storage" => self.allocatable.storage.saturating_mul(1000),
                _ => 0,
            };
        }
        let divisor = selector.divisor.as_ref().map_or("1", |q| q.0.as_str());
        let wrong = || FieldError::Divisor(divisor.to_owned());
        let divisor = match milli(divisor).ok_or_else(wrong)? {
            0 => 1000,
            d if d > 0 => d,
            _ => return Err(wrong()),
        };
        Ok(((i128::from(value) + divisor - 1) / divisor).to_string())
    }
}

/// `metadata.labels['key']`: which map, which key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?.trim_matches('\'');
    matches!(map, "metadata.labels" | "metadata.annotations").then_some((map, key))
}

fn first(addresses: &[IpAddr]) -> String {
    addresses.first().map(ToString::to_string).unwrap_or_default()
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `key="value"` lines, values quoted as Go quotes strings.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quote(v))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"nodeName": "n", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]}
        }))
        .expect("a pod")
    }

    #[test]
    fn fields_and_resources() {
        let pod = pod();
        let addresses = ["10.42.0.5".parse().expect("an address"), "fd00::5".parse().expect("an address")];
        let fields = Fields {
            pod: &pod,
            addresses: &addresses,
            node_addresses: &addresses[..1],
            allocatable: Allocatable { cpu_milli: 1500, memory: 1 << 30, storage: 1 << 40 },
        };
        let field =
            |path: &str| fields.field(&ObjectFieldSelector { field_path: path.into(), api_version: None });
        assert_eq!(field("metadata.labels['b']").as_deref(), Ok("2"));
        assert_eq!(field("metadata.labels").as_deref(), Ok("a=\"x\\\"y\"\nb=\"2\""));
        assert_eq!(field("status.podIPs").as_deref(), Ok("10.42.0.5,fd00::5"));
        assert_eq!(field("spec.nodeName").as_deref(), Ok("n"));
        assert_eq!(field("spec.nope"), Err(FieldError::Field("spec.nope".into())));
        let resource = |what: &str, divisor: &str| {
            let divisor = Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.into()));
            fields.resource(
                &ResourceFieldSelector { container_name: None, resource: what.into(), divisor },
                "c",
            )
        };
        assert_eq!(resource("limits.memory", "1Mi").as_deref(), Ok("64"));
        assert_eq!(resource("requests.cpu", "1").as_deref(), Ok("1"));
        assert_eq!(resource("requests.cpu", "1m").as_deref(), Ok("250"));
        assert_eq!(resource("limits.cpu", "0").as_deref(), Ok("2"), "the node's, rounded up");
        assert_eq!(resource("requests.memory", "1").as_deref(), Ok("0"));
        assert_eq!(resource("limits.ephemeral-storage", "1Gi").as_deref(), Ok("1024"), "the node's");
    }
}
