//! The entries of the built-in resources: one file a family of groups, in the order of discovery.

mod access;
mod cluster;
mod core;
mod network;
mod storage;
mod workloads;

use super::Resource;

/// Group, version and kind of the scale subresource.
const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");

/// Every built-in resource.
pub(super) fn all() -> Vec<Resource> {
    let mut entries = core::entries();
    entries.extend(workloads::entries());
    entries.extend(network::entries());
    entries.extend(storage::entries());
    entries.extend(access::entries());
    entries.extend(cluster::entries());
    entries
}
