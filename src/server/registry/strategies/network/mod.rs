//! Endpoints and the kinds of networking.k8s.io and discovery.k8s.io, a file each.

mod cidr;
mod class;
mod endpoints;
mod ingress;
mod policy;
mod slice;

pub use cidr::{AddressStrategy, CidrStrategy};
pub use class::IngressClassStrategy;
pub use endpoints::EndpointsStrategy;
pub use ingress::IngressStrategy;
pub use policy::PolicyStrategy;
pub use slice::SliceStrategy;

#[cfg(test)]
mod tests;
