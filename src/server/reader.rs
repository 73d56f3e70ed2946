//! How authorisation, admission and strategies read objects.

use std::sync::Arc;

use crate::api::Object;

/// Reads the newest committed objects. Never blocks and never touches the disk.
pub trait Reader: Send + Sync {
    /// One object. `resource` is the plural with its group: `pods`, `deployments.apps`.
    fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Object>>;
    /// All objects of a namespace, or of the cluster, in the order of their keys.
    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>>;
}
