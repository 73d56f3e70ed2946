//! Settings of the controllers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::api::csr::CertificateRequest;

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

/// A certificate that an approved request asks for.
#[derive(Clone, Debug)]
pub struct CertificateOrder {
    /// The CA of what servers show signs it, and not that of what clients show.
    pub serving: bool,
    /// The request itself.
    pub request: CertificateRequest,
    /// What it may be used for, in the API's names.
    pub usages: Vec<String>,
    /// How long it is to live, if the request says so.
    pub life: Option<Duration>,
}

/// Signs certificates: PEM, or why not.
pub type CertificateSigner = Arc<dyn Fn(&CertificateOrder) -> Result<String, String> + Send + Sync>;

/// Settings of the controllers; [`Default`] holds upstream's values.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Signs the tokens in Secrets; without it such Secrets stay empty.
    pub legacy_tokens: Option<LegacySigner>,
    /// Signs approved certificate requests; without it they stay unsigned.
    pub certificates: Option<CertificateSigner>,
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
            certificates: None,
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
            .field("certificates", &self.certificates.is_some())
            .field("cluster_cidr", &self.cluster_cidr)
            .field("node_cidr_mask", &self.node_cidr_mask)
            .field("node_monitor_grace", &self.node_monitor_grace)
            .field("terminated_pod_threshold", &self.terminated_pod_threshold)
            .finish_non_exhaustive()
    }
}
