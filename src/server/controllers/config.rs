//! Settings of the controllers.

use std::net::IpAddr;
use std::time::Duration;

/// Settings of the controllers; [`Default`] holds upstream's values.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// The CA certificate (PEM) that pods verify the API server with: `ca.crt` of the ConfigMap
    /// `kube-root-ca.crt` and of service account tokens.
    pub root_ca_pem: String,
    /// Network that nodes get their pod networks from, as base address and prefix length.
    pub cluster_cidr: Option<(IpAddr, u8)>,
    /// Prefix length of a node's pod network.
    pub node_cidr_mask: u8,
    /// A node without a sign of life for this long becomes `Ready=Unknown`.
    pub node_monitor_grace: Duration,
    /// The same for a node that never reported since it was registered.
    pub node_startup_grace: Duration,
    /// Finished pods kept before the oldest are removed; 0 keeps all.
    pub terminated_pod_threshold: usize,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            root_ca_pem: String::new(),
            cluster_cidr: None,
            node_cidr_mask: 24,
            node_monitor_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            terminated_pod_threshold: 12500,
        }
    }
}
