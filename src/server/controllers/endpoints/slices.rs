//! From the endpoints that should be to the slices that are: which to create, change and delete.
//! Endpoints stay in the slice they are in, so that a change touches few objects.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::server::controllers::kit::meta::Labels;

/// Label with the name of the Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with the controller that manages a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Label of slices and Endpoints of headless Services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// Endpoints of one address type with the same ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `IPv4` or `IPv6`.
    pub address_type: String,
    /// Ports.
    pub ports: Vec<EndpointPort>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Slices that change: as they are, as they should be.
    pub update: Vec<(Arc<EndpointSlice>, EndpointSlice)>,
    /// Slices without endpoints.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// What all slices of a Service have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Namespace.
    pub namespace: String,
    /// Start of the names of slices.
    pub prefix: String,
    /// Labels.
    pub labels: Labels,
    /// Owner.
    pub owner: OwnerReference,
    /// Most endpoints in a slice.
    pub limit: usize,
}

impl Common {
    fn slice(&self, group: &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(self.prefix.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(self.labels.clone()),
                owner_references: Some(vec![self.owner.clone()]),
                ..Default::default()
            },
            address_type: group.address_type.clone(),
            ports: Some(group.ports.clone()),
            endpoints: Some(endpoints),
        }
    }
}

/// What tells one endpoint of a group from another.
fn identity(endpoint: &Endpoint) -> String {
    match endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()) {
        Some(uid) => uid.to_owned(),
        None => endpoint.addresses.join(","),
    }
}

fn ports(slice: &EndpointSlice) -> Vec<EndpointPort> {
    slice.ports.clone().unwrap_or_default()
}

/// Compares what there should be with what there is.
pub fn plan(common: &Common, groups: &[Group], existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut unused: Vec<Arc<EndpointSlice>> = existing.to_vec();
    for group in groups {
        let fits = |s: &Arc<EndpointSlice>| s.address_type == group.address_type && ports(s) == group.ports;
        let (own, rest): (Vec<_>, Vec<_>) = unused.into_iter().partition(fits);
        unused = rest;
        plan_group(common, group, own, &mut plan);
    }
    plan.delete.extend(unused);
    plan
}

fn plan_group(common: &Common, group: &Group, own: Vec<Arc<EndpointSlice>>, plan: &mut Plan) {
    let mut missing: HashMap<String, &Endpoint> = group.endpoints.iter().map(|e| (identity(e), e)).collect();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in own {
        let present = slice.endpoints.iter().flatten();
        let endpoints: Vec<Endpoint> =
            present.filter_map(|e| missing.remove(&identity(e))).cloned().collect();
        kept.push((slice, endpoints));
    }
    // Those without a place yet, in their given order.
    let mut left: Vec<Endpoint> =
        group.endpoints.iter().filter(|e| missing.contains_key(&identity(e))).cloned().collect();
    let changed = |(slice, endpoints): &(Arc<EndpointSlice>, Vec<Endpoint>)| {
        slice.endpoints.as_deref().unwrap_or_default() != endpoints.as_slice()
    };
    // Slices that are written anyway are filled first, then those with the least room left.
    let mut order: Vec<usize> = (0..kept.len()).filter(|i| !kept[*i].1.is_empty()).collect();
    order.sort_by_key(|i| (!changed(&kept[*i]), std::cmp::Reverse(kept[*i].1.len())));
    for i in order {
        let room = common.limit.saturating_sub(kept[i].1.len()).min(left.len());
        kept[i].1.extend(left.drain(..room));
    }
    for (slice, endpoints) in &mut kept {
        if endpoints.is_empty() && !left.is_empty() {
            endpoints.extend(left.drain(..common.limit.min(left.len())));
        }
        if endpoints.is_empty() {
            plan.delete.push(Arc::clone(slice));
            continue;
        }
        let mut wanted = EndpointSlice::clone(slice);
        wanted.endpoints = Some(std::mem::take(endpoints));
        wanted.metadata.labels = Some(common.labels.clone());
        wanted.metadata.owner_references = Some(vec![common.owner.clone()]);
        if wanted != **slice {
            plan.update.push((Arc::clone(slice), wanted));
        }
    }
    for chunk in left.chunks(common.limit) {
        plan.create.push(common.slice(group, chunk.to_vec()));
    }
}

/// The plan for a Service with a selector: it always has one slice, if only an empty one.
pub fn plan_with_placeholder(
    common: &Common,
    types: &[String],
    groups: &[Group],
    existing: &[Arc<EndpointSlice>],
) -> Plan {
    let mut plan = plan(common, groups, existing);
    for kind in types {
        if groups.iter().any(|g| g.address_type == *kind) {
            continue;
        }
        let empty = |s: &Arc<EndpointSlice>| {
            s.address_type == *kind
                && s.endpoints.as_ref().is_none_or(Vec::is_empty)
                && s.ports.as_ref().is_none_or(Vec::is_empty)
                && s.metadata.labels.as_ref() == Some(&common.labels)
        };
        match plan.delete.iter().position(empty) {
            Some(i) => drop(plan.delete.remove(i)),
            None => {
                let group = Group { address_type: kind.clone(), ports: Vec::new(), endpoints: Vec::new() };
                plan.create.push(common.slice(&group, Vec::new()));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(limit: usize) -> Common {
        Common {
            namespace: "n".into(),
            prefix: "web-".into(),
            labels: Labels::from([(SERVICE_NAME.to_owned(), "web".to_owned())]),
            owner: OwnerReference { uid: "s".into(), ..Default::default() },
            limit,
        }
    }

    fn group(names: std::ops::Range<usize>) -> Group {
        let endpoints =
            names.map(|i| Endpoint { addresses: vec![format!("10.0.0.{i}")], ..Default::default() });
        Group { address_type: "IPv4".into(), ports: vec![], endpoints: endpoints.collect() }
    }

    /// Applies a plan as the API would.
    fn apply(plan: Plan, existing: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
        let mut now: Vec<_> = existing
            .iter()
            .filter(|s| !plan.delete.contains(s) && !plan.update.iter().any(|(old, _)| old == *s))
            .cloned()
            .collect();
        now.extend(plan.update.into_iter().map(|(_, new)| Arc::new(new)));
        for (i, mut s) in plan.create.into_iter().enumerate() {
            s.metadata.name = Some(format!("s{i}-{}", now.len()));
            now.push(Arc::new(s));
        }
        now
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
        let mut sizes: Vec<_> = slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn slices_hold_up_to_the_limit_and_are_filled_up() {
        let c = common(3);
        let slices = apply(plan(&c, &[group(0..7)], &[]), &[]);
        assert_eq!(sizes(&slices), [1, 3, 3]);
        assert_eq!(plan(&c, &[group(0..7)], &slices), Plan::default());
        let more = plan(&c, &[group(0..8)], &slices);
        assert_eq!((more.create.len(), more.update.len()), (0, 1));
        assert_eq!(sizes(&apply(more, &slices)), [2, 3, 3]);
    }

    #[test]
    fn a_vanished_endpoint_touches_only_its_slice_and_an_empty_slice_goes() {
        let c = common(3);
        let slices = apply(plan(&c, &[group(0..7)], &[]), &[]);
        let fewer = plan(&c, &[group(0..6)], &slices);
        assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 0, 1));
        let fewer = plan(&c, &[group(1..7)], &slices);
        assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 1, 0));
    }

    #[test]
    fn other_ports_mean_another_slice() {
        let c = common(3);
        let slices = apply(plan(&c, &[group(0..2)], &[]), &[]);
        let mut moved = group(0..2);
        moved.ports = vec![EndpointPort { port: Some(80), ..Default::default() }];
        let p = plan(&c, &[moved], &slices);
        assert_eq!((p.create.len(), p.delete.len()), (1, 1));
    }

    #[test]
    fn a_service_without_endpoints_has_one_empty_slice() {
        let c = common(3);
        let types = ["IPv4".to_owned()];
        let slices = apply(plan_with_placeholder(&c, &types, &[], &[]), &[]);
        assert_eq!(sizes(&slices), [0]);
        assert_eq!(plan_with_placeholder(&c, &types, &[], &slices), Plan::default());
        let full = apply(plan_with_placeholder(&c, &types, &[group(0..2)], &slices), &slices);
        assert_eq!(sizes(&full), [2]);
        let emptied = apply(plan_with_placeholder(&c, &types, &[], &full), &full);
        assert_eq!(sizes(&emptied), [0]);
    }
}
