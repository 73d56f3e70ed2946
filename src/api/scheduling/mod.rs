//! Which nodes a pod may run on: rules that the scheduler, controllers and the node itself share.

pub mod node_selectors;
pub mod tolerations;
