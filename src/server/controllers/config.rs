//! Settings of the controllers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Whom the token in a Secret of type `kubernetes.io/service-account-token` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyToken {
    /// Namespace of service account and Secret.
    pub namespace: String,
    /// Name of the service account.
    pub account: String,
    /// Uid of the service account.
    pub account_uid: String,
    /// Name of the Secret.
    pub secret: String,
}

/// Signs tokens that do not expire.
pub type LegacySigner = Arc<dyn Fn(&LegacyToken) -> Result<String, String> + Send + Sync>;

/// Settings of the controllers; [`Default`] holds upstream's values.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Signs the tokens in Secrets; without it such Secrets stay empty.
    pub legacy_tokens: Option<LegacySigner>,
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
            legacy_tokens: None,
            root_ca_pem: String::new(),
            cluster_cidr: None,
            node_cidr_mask: 24,
            node_monitor_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            terminated_pod_threshold: 12500,
        }
    }
}

impl fmt::Debug for ControllerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerConfig")
            .field("legacy_tokens", &self.legacy_tokens.is_some())
            .field("cluster_cidr", &self.cluster_cidr)
            .field("node_cidr_mask", &self.node_cidr_mask)
            .field("node_monitor_grace", &self.node_monitor_grace)
            .field("terminated_pod_threshold", &self.terminated_pod_threshold)
            .finish_non_exhaustive()
    }
}
