//! The server as a whole: opened, running, stopped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;

use super::auth::authn::token_file::{self, TokenFile};
use super::auth::pki::{Grant, Usage};
use super::auth::tokens::Reference;
use super::auth::user::AUTHENTICATED;
use super::auth::{NodeCredentials, Pki, PkiParams, User, authn, join_token};
use super::cache::{Cache, LoadError};
use super::controllers::{self, CertificateOrder, ControllerConfig, LegacyToken};
use super::http::{Api, ApiService, listener};
use super::objects::Objects;
use super::reader::Reader;
use super::registry::strategies::{self, StrategyConfig};
use super::registry::{Live, Registry};
use super::{addons, admission, bootstrap, crd, expiry, scheduler, service_addresses};
use crate::client;
use crate::config::ServerSettings;
use crate::store::{self, Engine, Options, Store};
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("the datastore cannot be opened: {0}")]
    Store(#[from] store::Error),
    /// What is in the store cannot be read.
    #[error("the datastore cannot be read: {0}")]
    Load(#[from] LoadError),
    /// Certificates and keys cannot be read or made.
    #[error("certificates: {0}")]
    Pki(#[from] super::auth::pki::Error),
    /// The certificates cannot be used.
    #[error("certificates cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Another process listens on the port.
    #[error(
        "port {port} of {address} is taken by another process: stop it, or choose another with --https-listen-port"
    )]
    PortTaken {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// The port cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}; see --bind-address and --https-listen-port")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; see --data-dir and --write-kubeconfig", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The data directory cannot be made or written to.
    #[error("the data directory {} cannot be used: {source}; mend that, or choose another with --data-dir", path.display())]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file of static tokens cannot be used.
    #[error(transparent)]
    TokenFile(#[from] token_file::Error),
    /// What every cluster has could not be made.
    #[error("the cluster's default objects could not be made: {0}")]
    Bootstrap(String),
}

/// A server that has its data and its port. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    api: Arc<Api>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    settings: Arc<ServerSettings>,
    supervisor: Supervisor,
    store: Store,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the store, loads the cache, makes or reads certificates, listens on the port, and writes
    /// the admin kubeconfig. Nothing is served before [`Server::run`].
    ///
    /// # Errors
    /// See [`Error`]; each says what to do.
    pub async fn bind(settings: ServerSettings, supervisor: Supervisor) -> Result<Self, Error> {
        let dir = settings.data_dir.join("server");
        private_dir(&dir).map_err(|source| Error::DataDir { path: settings.data_dir.clone(), source })?;
        supervisor.step(format!("reading the datastore in {}", dir.join("db").display()));
        let (objects, store) = open_objects(&settings, &dir)?;
        supervisor.step(format!("certificates and keys in {}", dir.join("tls").display()));
        let pki = Pki::ensure(&dir.join("tls"), &pki_params(&settings))?;
        join_token::ensure(&dir.join("token"), pki.server_ca_pem(), settings.token.as_deref())?;
        let listener = listen(settings.bind_address, settings.https_listen_port).await?;
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: (settings.bind_address, settings.https_listen_port).into(),
            source,
        })?;
        let url = local_url(address);
        let kubeconfig = pki.admin_kubeconfig(&url);
        write_file(&settings.write_kubeconfig, &kubeconfig, settings.write_kubeconfig_mode)?;
        // The one kedge's own commands use, wherever the user's went.
        write_file(&dir.join("cred/admin.kubeconfig"), &kubeconfig, 0o600)?;
        let advertised = format!("https://{}", SocketAddr::new(settings.node.node_ip, address.port()));
        let chosen = &settings.authentication;
        let token_file = chosen.token_file.as_deref().map(TokenFile::read).transpose()?.unwrap_or_default();
        let authentication = authn::Options { token_file, anonymous: chosen.anonymous };
        let api = Api::new(objects, pki, authentication, supervisor.clone(), advertised)?;
        api.objects.restore();
        supervisor.step("writing the cluster's default objects to the datastore");
        bootstrap::ensure(&api.objects, &settings, address.port()).await.map_err(Error::Bootstrap)?;
        Ok(Self {
            api: Arc::new(api),
            listener: Arc::new(listener),
            address,
            settings: Arc::new(settings),
            supervisor,
            store,
        })
    }

    /// Spawns everything under the supervisor: the API, its housekeeping, scheduler, controllers, add-ons.
    pub fn run(&self) {
        self.run_api();
        let client = |name: &str| self.client_as(name);
        let shared = controllers::Shared::start(&self.supervisor, client(controllers::INFORMERS_IDENTITY));
        let cidr = self.settings.cluster_cidr;
        let (pki, signer) = (self.api.pki.clone(), self.api.pki.clone());
        let config = ControllerConfig {
            root_ca_pem: self.api.pki.server_ca_pem().to_owned(),
            cluster_cidr: Some((IpAddr::V4(cidr.base), cidr.prefix)),
            legacy_tokens: Some(Arc::new(move |token| secret_token(&pki, token))),
            certificates: Some(Arc::new(move |order| certificate(&signer, order))),
            ..ControllerConfig::default()
        };
        controllers::spawn_all(&self.supervisor, &shared, client, config);
        scheduler::spawn(&self.supervisor, &shared, client(scheduler::IDENTITY));
        let addons = addons::AddonConfig {
            manifests: self.settings.data_dir.join("server/manifests"),
            cluster_dns: self.settings.cluster_dns,
            node: (!self.settings.disable_agent).then(|| self.settings.node.node_name.clone()),
        };
        addons::spawn(&self.supervisor, &client::in_process(self.service_as(User::loopback())), &addons);
    }

    /// Spawns the API and its housekeeping alone: no scheduler and no controllers.
    pub fn run_api(&self) {
        let server = self.clone();
        self.supervisor.spawn("api", Stage::Listener, OnFailure::StopProcess, move |stop| {
            let server = server.clone();
            async move {
                let tls = server.api.pki.rustls_server_config()?;
                tracing::info!(address = %server.address, "serving the API");
                listener::run(server.api, server.listener, tls, stop).await;
                Ok(())
            }
        });
        let pki = self.api.pki.clone();
        self.supervisor.spawn("certificates", Stage::Listener, OnFailure::Restart, move |stop| {
            let pki = pki.clone();
            async move { Ok(pki.keep_fresh(stop).await?) }
        });
        let api = Arc::clone(&self.api);
        self.supervisor.spawn("event-expiry", Stage::Controller, OnFailure::Restart, move |stop| {
            let api = Arc::clone(&api);
            async move { Ok(expiry::run(&api.objects, stop).await?) }
        });
        let (api, cidr) = (Arc::clone(&self.api), self.settings.service_cidr);
        self.supervisor.spawn("service-addresses", Stage::Controller, OnFailure::Restart, move |stop| {
            let api = Arc::clone(&api);
            async move { Ok(service_addresses::run(&api.objects, cidr, stop).await?) }
        });
        let server = self.clone();
        self.supervisor.spawn("kubernetes-service", Stage::Controller, OnFailure::Restart, move |stop| {
            let Self { api, settings, address, .. } = server.clone();
            async move {
                Ok(bootstrap::keep_own_service(&api.objects, &settings, address.port(), stop).await?)
            }
        });
        let api = Arc::clone(&self.api);
        self.supervisor.spawn("custom-resources", Stage::Controller, OnFailure::Restart, move |stop| {
            let api = Arc::clone(&api);
            async move { Ok(crd::run(&api.objects, stop).await?) }
        });
        let store = self.store.clone();
        self.supervisor.spawn("store", Stage::Store, OnFailure::StopProcess, move |stop| {
            let store = store.clone();
            async move {
                stop.cancelled().await;
                tokio::task::spawn_blocking(move || store.close()).await??;
                Ok(())
            }
        });
    }

    /// The API as a service in this process, for this user: the same filters, without TLS and
    /// authentication.
    pub fn service_as(&self, user: User) -> ApiService {
        ApiService::new(Arc::clone(&self.api), user)
    }

    /// A client of the API in this process, as the user of this name.
    pub fn client_as(&self, name: &str) -> Client {
        client::in_process(self.service_as(user_named(name)))
    }

    /// What a node needs to join in.
    ///
    /// # Errors
    /// Its certificates cannot be made or written.
    pub fn node_credentials(&self, node: &str, ips: &[IpAddr]) -> Result<NodeCredentials, Error> {
        Ok(self.api.pki.node_credentials(node, ips)?)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL the API is reached under from this machine.
    pub fn url(&self) -> String {
        local_url(self.address)
    }
}

/// Signs the token that lies in a Secret. Who asks does not know the Secret's uid: its name binds the token.
fn secret_token(pki: &Pki, token: &LegacyToken) -> Result<String, String> {
    let account = Reference { name: token.account.clone(), uid: token.account_uid.clone() };
    let secret = Reference { name: token.secret.clone(), uid: String::new() };
    pki.token_signer().secret_token(&token.namespace, account, secret).map_err(|e| e.to_string())
}

/// Signs what an approved request asks for.
fn certificate(pki: &Pki, order: &CertificateOrder) -> Result<String, String> {
    let usage = if order.serving { Usage::Server } else { Usage::Client };
    let grant = Grant { usages: &order.usages, life: order.life };
    pki.sign_request(usage, &order.request, &grant).map_err(|e| e.to_string())
}

/// The user of a component's name, in the groups that go with it.
fn user_named(name: &str) -> User {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        ["system", "serviceaccount", namespace, account] => User::service_account(namespace, account),
        ["system", "kube-scheduler"] => User::scheduler(),
        _ => User::new(name, &[AUTHENTICATED]),
    }
}

fn open_objects(settings: &ServerSettings, dir: &Path) -> Result<(Objects, Store), Error> {
    let config = StrategyConfig {
        service_cidr: settings.service_cidr,
        node_port_range: settings.service_node_port_range,
    };
    let registry = Registry::builtin(|resource| match resource {
        crd::DEFINITIONS => Arc::new(crd::DefinitionStrategy),
        other => strategies::for_resource(other, &config),
    });
    let cache = Arc::new(Cache::new(registry.stored_kinds()));
    let registry = Arc::new(Live::new(registry));
    let served = Arc::new(crd::Served::new(Arc::clone(&registry), Arc::clone(&cache)));
    let feed = Box::new(crd::DefinitionFeed::new(Arc::clone(&served)));
    let engine = if settings.checkpoint_process { Engine::this_executable() } else { Engine::default() };
    let opened = Store::open(&dir.join("db"), Options { engine, ..Options::default() }, feed)?;
    if let Some(reason) = &opened.recovery.fallback {
        tracing::warn!(%reason, "the newest checkpoint could not be used; nothing was lost");
    }
    cache.load(opened.entries, opened.revision)?;
    served.load();
    let store = opened.store.clone();
    let reader = Arc::clone(&cache) as Arc<dyn Reader>;
    let admission = admission::Chain::standard().extended(&reader);
    Ok((Objects { registry, cache, store: opened.store, admission }, store))
}

fn pki_params(settings: &ServerSettings) -> PkiParams {
    let service_ip = settings.service_cidr.nth(1).unwrap_or(Ipv4Addr::LOCALHOST);
    let mut node_ips = vec![settings.node.node_ip];
    if !settings.bind_address.is_unspecified() {
        node_ips.push(settings.bind_address);
    }
    PkiParams {
        sans: settings.tls_san.clone(),
        node_name: settings.node.node_name.clone(),
        node_ips,
        cluster_domain: settings.cluster_domain.clone(),
        service_ip: IpAddr::V4(service_ip),
    }
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((address, port)).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { address, port },
        _ => Error::Listen { address: (address, port).into(), source },
    })
}

/// The URL of an address that may stand for all addresses.
fn local_url(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    format!("https://{}", SocketAddr::new(host, address.port()))
}

fn private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file whole or not at all, with this mode from its first byte on.
fn write_file(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let same = std::fs::read_to_string(path).is_ok_and(|old| old == content);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    if same {
        let permissions = std::fs::Permissions::from_mode(mode);
        return std::fs::set_permissions(path, permissions).map_err(failed);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = std::fs::remove_file(&temporary);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| io::Write::write_all(&mut file, content.as_bytes()))
        .and_then(|()| std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode)))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_mode_and_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/kubeconfig");
        for (content, mode) in [("one", 0o600), ("one", 0o644), ("two", 0o600)] {
            write_file(&path, content, mode).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn components_are_who_their_names_say() {
        let account = user_named("system:serviceaccount:kube-system:x");
        assert!(account.groups.iter().any(|g| g == "system:serviceaccounts:kube-system"));
        assert_eq!(user_named("system:kube-scheduler"), User::scheduler());
        assert_eq!(user_named("system:kube-controller-manager").groups, [AUTHENTICATED]);
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = listen(Ipv4Addr::LOCALHOST.into(), 0).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen(Ipv4Addr::LOCALHOST.into(), port).await.unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--https-listen-port"), "{error}");
    }
}
