//! Limits of ephemeral storage: of an emptyDir, of a container, of a pod
//! (<https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#local-ephemeral-storage>).

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};

use crate::agent::disk::{PodDisk, Usage};
use crate::agent::qos::{Ask, total};
use crate::agent::quantity::units;
use crate::agent::volumes::is_local;
use crate::api::Quantity;

const STORAGE: &str = "ephemeral-storage";

/// The pod has a limit that its files must be counted for.
pub(super) fn has_limits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    containers(spec).any(|c| limit_of(c).is_some()) || volumes(spec).any(|v| size_limit(v).is_some())
}

/// The limit that a pod exceeds, in upstream's words; the first, in upstream's order.
pub(super) fn exceeded(pod: &Pod, disk: &PodDisk) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    empty_dir(spec, disk).or_else(|| whole(spec, disk)).or_else(|| container(spec, disk))
}

fn volumes(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    spec.volumes.iter().flatten()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

fn limit_of(container: &Container) -> Option<&str> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(STORAGE).map(|q| q.0.as_str())
}

fn size_limit(volume: &Volume) -> Option<&str> {
    volume
        .empty_dir
        .as_ref()?
        .size_limit
        .as_ref()
        .map(|q| q.0.as_str())
        .filter(|q| units(q).is_some_and(|u| u > 0))
}

fn is_over(used: Usage, limit: &str) -> bool {
    units(limit).is_some_and(|limit| i64::try_from(used.bytes).unwrap_or(i64::MAX) > limit)
}

fn empty_dir(spec: &PodSpec, disk: &PodDisk) -> Option<String> {
    let over = |v: &&Volume| {
        let used = disk.volumes.get(&v.name).copied().unwrap_or_default();
        size_limit(v).is_some_and(|limit| is_over(used, limit))
    };
    let volume = volumes(spec).find(over)?;
    let limit = canonical(size_limit(volume)?);
    Some(format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ", volume.name))
}

fn whole(spec: &PodSpec, disk: &PodDisk) -> Option<String> {
    // Written in the form of the first: that of a sum.
    let format = containers(spec).find_map(limit_of)?.parse::<Quantity>().ok()?.format();
    let limit = Quantity::from_units(total(spec, Ask::Limits, STORAGE), format);
    let containers: Usage = disk.containers.values().map(|c| c.total()).sum();
    let local = volumes(spec).filter(|v| is_local(v));
    let volumes: Usage = local.filter_map(|v| disk.volumes.get(&v.name).copied()).sum();
    let used: Usage = [containers, volumes, disk.managed].into_iter().sum();
    let over = i64::try_from(used.bytes).unwrap_or(i64::MAX) > limit.to_units();
    over.then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

fn container(spec: &PodSpec, disk: &PodDisk) -> Option<String> {
    let over = |c: &&Container| {
        let used = disk.containers.get(&c.name).map(|d| d.total()).unwrap_or_default();
        limit_of(c).is_some_and(|limit| units(limit) != Some(0) && is_over(used, limit))
    };
    let container = spec.containers.iter().find(over)?;
    let limit = canonical(limit_of(container)?);
    Some(format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", container.name))
}

/// As upstream writes a quantity it has parsed.
fn canonical(quantity: &str) -> String {
    quantity.parse::<Quantity>().map_or_else(|_| quantity.to_owned(), |q| q.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::disk::ContainerDisk;
    use serde_json::{Value, json};

    const MIB: u64 = 1 << 20;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    fn disk(layers: u64, logs: u64, volume: u64) -> PodDisk {
        let usage = |bytes| Usage { bytes, inodes: 1 };
        PodDisk {
            containers: [("c".to_owned(), ContainerDisk { rootfs: usage(layers), logs: usage(logs) })].into(),
            volumes: [("v".to_owned(), usage(volume)), ("s".to_owned(), usage(1 << 40))].into(),
            managed: usage(0),
        }
    }

    #[test]
    fn limits_in_upstreams_words_and_order() {
        let limited = json!({"containers": [{"name": "c", "resources": {"limits": {STORAGE: "2Mi"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {}}]});
        let sized = json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]});
        let two = json!({"containers": [{"name": "c", "resources": {"limits": {STORAGE: "1Mi"}}},
            {"name": "d", "resources": {"limits": {STORAGE: "9Mi"}}}]});
        for (spec, used, expected) in [
            (&limited, disk(MIB, MIB, 0), None),
            (
                &limited,
                disk(MIB, MIB, 1),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
            ),
            (&two, disk(MIB, 1, 0), Some("Container c exceeded its local ephemeral storage limit \"1Mi\". ")),
            (&two, disk(MIB - 1, 1, 0), None),
            (&sized, disk(100 * MIB, 0, MIB), None),
            (&sized, disk(0, 0, MIB + 1), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ")),
        ] {
            assert_eq!(exceeded(&pod(spec.clone()), &used).as_deref(), expected, "{spec} {used:?}");
        }
    }

    #[test]
    fn only_pods_with_limits_are_measured() {
        for (spec, expected) in [
            (json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}), false),
            (json!({"containers": [{"name": "c", "resources": {"requests": {STORAGE: "1Mi"}}}]}), false),
            (json!({"containers": [{"name": "c", "resources": {"limits": {"memory": "1Mi"}}}]}), false),
            (json!({"containers": [{"name": "c", "resources": {"limits": {STORAGE: "1Mi"}}}]}), true),
            (json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]}), true),
            (json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "0"}}]}), false),
        ] {
            assert_eq!(has_limits(&pod(spec.clone())), expected, "{spec}");
        }
    }
}
