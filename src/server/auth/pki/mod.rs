//! Certificates and keys of the cluster, as files under `DATA/server/tls`.
//!
//! | file | what |
//! |---|---|
//! | `server-ca` | signs what servers show: the API, node APIs |
//! | `client-ca` | signs what clients show: the admin, controllers, nodes |
//! | `serving-kube-apiserver` | the API's certificate |
//! | `client-admin`, `client-controller`, `client-scheduler`, `client-kube-apiserver` | clients outside and inside |
//! | `nodes/<node>.serving`, `nodes/<node>.client` | a node's API and its agent |
//! | `service.key` | signs service account tokens |
//!
//! All are made at the first start and kept. A leaf is made anew when less than 30 days of its year
//! are left or its names changed, at start and while running ([`Pki::keep_fresh`]).

mod authority;
mod error;
pub(in crate::server::auth) mod files;
mod inspect;
mod issue;
mod kubeconfig;
mod sign;
mod tls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;

use super::tokens::TokenSigner;
use super::user::MASTERS;
use crate::api::csr::CertificateRequest;
use crate::supervisor::ClockWatch;
use authority::Authority;
pub use error::Error;
pub use inspect::Certificate;
pub use issue::{Identity, Leaf, Usage};
pub use sign::Grant;

/// How often a running server looks for leaves that end soon.
const LOOK: Duration = Duration::from_secs(24 * 60 * 60);

/// What the API's certificate must name, and for which node.
#[derive(Clone, Debug)]
pub struct PkiParams {
    /// Further names and addresses (`--tls-san`).
    pub sans: Vec<String>,
    /// This machine's node name.
    pub node_name: String,
    /// This machine's addresses.
    pub node_ips: Vec<IpAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The first address of the service network: the Service `kubernetes`.
    pub service_ip: IpAddr,
}

/// What a node needs to join in: all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCredentials {
    /// The CA that signed the API's certificate.
    pub ca_pem: String,
    /// The CA that signs clients of the node API.
    pub client_ca_pem: String,
    /// The node API's certificate.
    pub serving: Identity,
    /// The agent's certificate.
    pub client: Identity,
}

struct Own {
    serving: Identity,
    admin: Identity,
    controller: Identity,
    scheduler: Identity,
    kubelet_client: Identity,
}

struct Inner {
    dir: PathBuf,
    params: PkiParams,
    server_ca: Authority,
    client_ca: Authority,
    own: ArcSwap<Own>,
    serving: Arc<tls::Serving>,
    verifier: Arc<dyn ClientCertVerifier>,
    signer: TokenSigner,
}

/// The cluster's certificates and keys. Clones share them.
#[derive(Clone)]
pub struct Pki(Arc<Inner>);

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the certificates and keys of `dir`, and makes those that are missing or end soon.
    ///
    /// # Errors
    /// A file cannot be read or written, a CA or the token key is damaged, or a name in `params`
    /// cannot be put into a certificate.
    pub fn ensure(dir: &Path, params: &PkiParams) -> Result<Self, Error> {
        Self::ensure_at(dir, params, SystemTime::now())
    }

    fn ensure_at(dir: &Path, params: &PkiParams, now: SystemTime) -> Result<Self, Error> {
        files::private_dir(dir).map_err(Error::io("make", dir))?;
        let server_ca = Authority::ensure(dir, "server-ca", "kedge-server-ca", now)?;
        let client_ca = Authority::ensure(dir, "client-ca", "kedge-client-ca", now)?;
        let own = own(dir, params, &server_ca, &client_ca, now)?;
        let serving = Arc::new(tls::Serving::new(&own.serving)?);
        let verifier = tls::verifier(&client_ca.cert.der)?;
        let signer = TokenSigner::ensure(&dir.join("service.key"), &issuer(&params.cluster_domain))?;
        let own = ArcSwap::from_pointee(own);
        let params = params.clone();
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            params,
            server_ca,
            client_ca,
            own,
            serving,
            verifier,
            signer,
        })))
    }

    /// Renews leaves that end soon, and shows the new one to new connections, until `stop`.
    ///
    /// # Errors
    /// A new certificate could not be made or written; the old one stays in use.
    pub async fn keep_fresh(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut clock = ClockWatch::new(None).map_err(Error::io("watch the clock for", &self.0.dir))?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
                set = clock.changed() => set.map_err(Error::io("watch the clock for", &self.0.dir))?,
            }
            self.renew(SystemTime::now())?;
        }
    }

    fn renew(&self, now: SystemTime) -> Result<(), Error> {
        let inner = &self.0;
        let own = own(&inner.dir, &inner.params, &inner.server_ca, &inner.client_ca, now)?;
        inner.serving.replace(&own.serving)?;
        inner.own.store(Arc::new(own));
        Ok(())
    }

    /// The configuration of the API's listener. Client certificates are asked for; whether one is
    /// good is [`super::Authenticator`]'s to say.
    ///
    /// # Errors
    /// The TLS library refuses.
    pub fn rustls_server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        tls::server_config(Arc::clone(&self.0.serving), Arc::clone(&self.0.verifier))
    }

    /// A kubeconfig with which its holder is a master.
    pub fn admin_kubeconfig(&self, server_url: &str) -> String {
        kubeconfig::render(server_url, &self.0.server_ca.cert_pem, &self.0.own.load().admin)
    }

    /// A kubeconfig of the controllers' user `system:kube-controller-manager`.
    pub fn controller_kubeconfig(&self, server_url: &str) -> String {
        kubeconfig::render(server_url, &self.0.server_ca.cert_pem, &self.0.own.load().controller)
    }

    /// A kubeconfig of the scheduler's user `system:kube-scheduler`.
    pub fn scheduler_kubeconfig(&self, server_url: &str) -> String {
        kubeconfig::render(server_url, &self.0.server_ca.cert_pem, &self.0.own.load().scheduler)
    }

    /// Certificates of a node, kept under `nodes/`; those of one node are always the same until they end.
    ///
    /// # Errors
    /// The name cannot be a node's, or a file cannot be read or written.
    pub fn node_credentials(&self, node: &str, ips: &[IpAddr]) -> Result<NodeCredentials, Error> {
        self.node_credentials_at(node, ips, SystemTime::now())
    }

    fn node_credentials_at(
        &self,
        node: &str,
        ips: &[IpAddr],
        now: SystemTime,
    ) -> Result<NodeCredentials, Error> {
        let byte_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if node.is_empty() || node.len() > 253 || node.starts_with('.') || !node.bytes().all(byte_ok) {
            let what = "a node's name is made of lower case letters, digits, '-' and '.'".to_owned();
            return Err(Error::Name { name: node.to_owned(), what });
        }
        let inner = &self.0;
        let dir = inner.dir.join("nodes");
        files::private_dir(&dir).map_err(Error::io("make", &dir))?;
        let mut names = vec![node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(ips.iter().map(IpAddr::to_string));
        let user = format!("system:node:{node}");
        let serving = Leaf::server(user.as_str(), names);
        let client = Leaf::client(user.as_str(), Some("system:nodes"));
        Ok(NodeCredentials {
            ca_pem: inner.server_ca.cert_pem.clone(),
            client_ca_pem: inner.client_ca.cert_pem.clone(),
            serving: inner.server_ca.ensure_leaf(&dir, &format!("{node}.serving"), &serving, now)?,
            client: inner.client_ca.ensure_leaf(&dir, &format!("{node}.client"), &client, now)?,
        })
    }

    /// A certificate (PEM) for somebody who asked for one, signed by the CA of clients or, for `usage`
    /// [`Usage::Server`], that of servers.
    ///
    /// # Errors
    /// A usage nobody knows, or a CA whose key cannot sign.
    pub fn sign_request(
        &self,
        usage: Usage,
        request: &CertificateRequest,
        grant: &Grant<'_>,
    ) -> Result<String, Error> {
        let authority = match usage {
            Usage::Client => &self.0.client_ca,
            Usage::Server => &self.0.server_ca,
        };
        sign::sign(authority, request, grant, SystemTime::now())
    }

    /// What the API server shows to node APIs.
    pub fn kubelet_client_identity(&self) -> Identity {
        self.0.own.load().kubelet_client.clone()
    }

    /// The CA of the API's certificate, PEM: also `kube-root-ca.crt` in every namespace.
    pub fn server_ca_pem(&self) -> &str {
        &self.0.server_ca.cert_pem
    }

    /// The CA of client certificates, PEM.
    pub fn client_ca_pem(&self) -> &str {
        &self.0.client_ca.cert_pem
    }

    /// Signs and verifies service account tokens.
    pub fn token_signer(&self) -> &TokenSigner {
        &self.0.signer
    }

    /// Verifies client certificates.
    pub fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.verifier)
    }
}

/// The issuer of service account tokens.
fn issuer(cluster_domain: &str) -> String {
    format!("https://kubernetes.default.svc.{cluster_domain}")
}

/// Reads or makes the certificates of this process.
fn own(
    dir: &Path,
    params: &PkiParams,
    server_ca: &Authority,
    client_ca: &Authority,
    now: SystemTime,
) -> Result<Own, Error> {
    let client = |file: &str, user: &str, group: Option<&str>| {
        client_ca.ensure_leaf(dir, file, &Leaf::client(user, group), now)
    };
    let serving = Leaf::server("kube-apiserver", serving_names(params));
    Ok(Own {
        serving: server_ca.ensure_leaf(dir, "serving-kube-apiserver", &serving, now)?,
        admin: client("client-admin", "system:admin", Some(MASTERS))?,
        controller: client("client-controller", "system:kube-controller-manager", None)?,
        scheduler: client("client-scheduler", "system:kube-scheduler", None)?,
        kubelet_client: client("client-kube-apiserver", "system:kube-apiserver", Some(MASTERS))?,
    })
}

fn serving_names(params: &PkiParams) -> Vec<String> {
    let mut names: BTreeSet<String> =
        ["localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(str::to_owned)
            .into();
    names.insert(format!("kubernetes.default.svc.{}", params.cluster_domain));
    names.insert(params.service_ip.to_string());
    names.extend(params.node_ips.iter().map(IpAddr::to_string));
    if !params.node_name.is_empty() {
        names.insert(params.node_name.clone());
    }
    names.extend(params.sans.iter().filter(|s| !s.is_empty()).cloned());
    names.into_iter().collect()
}

#[cfg(test)]
mod tests;
