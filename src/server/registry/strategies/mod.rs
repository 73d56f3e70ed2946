//! What single kinds need: a file a kind or family, each with upstream's validation.

use std::sync::Arc;

use super::strategy::{Plain, Strategy};
use crate::config::Cidr;

/// What strategies depend on of the server's settings.
#[derive(Clone, Debug)]
pub struct StrategyConfig {
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// First and last node port.
    pub node_port_range: (u16, u16),
}

/// The strategy of a resource, by plural and group: `pods`, `deployments.apps`. Plain for those that
/// need nothing of their own. Call it once a resource: a strategy may hold allocators.
pub fn for_resource(resource: &str, config: &StrategyConfig) -> Arc<dyn Strategy> {
    let _ = config;
    match resource {
        _ => Arc::new(Plain),
    }
}
