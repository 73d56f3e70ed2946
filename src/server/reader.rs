//! How authorisation, admission and strategies read objects.

use std::sync::Arc;

use crate::api::Object;

/// Reads the newest committed objects. Never blocks and never touches the disk.
pub trait Reader: Send + Sync {
    /// One object. `resource` is the plural with its group: `pods`, `deployments.apps`.
    fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Object>>;
    /// All objects of a namespace, or of the cluster, in the order of their keys.
    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>>;
    /// A number that is another whenever an object of the resource was made, changed or deleted;
    /// `None` if that is not counted. Caches of derived data are compared with it.
    fn revision(&self, resource: &str) -> Option<u64> {
        let _ = resource;
        None
    }
}
