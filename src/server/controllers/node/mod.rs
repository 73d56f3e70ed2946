//! Nodes: whether they are alive, which pods must leave them, and which addresses theirs get.

mod eviction;
mod health;
mod ipam;
mod podgc;
mod taints;

pub use eviction::run as run_eviction;
pub use health::run as run_health;
pub use ipam::run as run_ipam;
pub use podgc::run as run_podgc;
