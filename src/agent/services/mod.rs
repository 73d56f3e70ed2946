//! Services and cluster DNS on this node: reflectors of Services and EndpointSlices feed the service
//! proxy and the DNS server with tables of what is to be.

mod tables;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use crate::network::dns::table::DnsTable;
use crate::network::{Dns, DnsConfig, ServiceProxy, ServiceProxyConfig};
use tables::Cluster;

/// A store kept equal to the API's list of one kind.
pub(crate) struct Reflector<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Arc<tokio::sync::Mutex<Writer<K>>>,
    changed: Arc<Notify>,
}

impl<K> Reflector<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    /// A reflector and its store; `changed` is notified after each change.
    pub(crate) fn new(changed: Arc<Notify>) -> (Self, Store<K>) {
        let writer = Writer::default();
        let store = writer.as_reader();
        (Self { writer: Arc::new(tokio::sync::Mutex::new(writer)), changed }, store)
    }

    /// Follows the API until cancelled.
    pub(crate) async fn run(&self, client: Client, token: CancellationToken) -> Result<(), Error> {
        let mut writer = self.writer.lock().await;
        let stream = watcher::watcher(Api::<K>::all(client), crate::client::watch_config()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        loop {
            let event = tokio::select! {
                () = token.cancelled() => return Ok(()),
                event = stream.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    writer.apply_watcher_event(&event);
                    // While a list comes in there is nothing whole to show.
                    if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
                        self.changed.notify_one();
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, kind = %K::kind(&()), "a watch failed; it is tried again")
                }
                None => return Err(Error::Other(format!("the watch of {} ended", K::kind(&())))),
            }
        }
    }
}

/// Feeds service proxy and DNS.
pub(crate) struct Feed {
    /// The agent.
    pub context: Arc<Context>,
    /// All EndpointSlices.
    pub slices: Store<EndpointSlice>,
    /// Notified when Services or EndpointSlices changed.
    pub changed: Arc<Notify>,
    /// What DNS knows.
    pub dns: watch::Sender<Arc<DnsTable>>,
}

impl Feed {
    /// Keeps the kernel and the DNS table equal to the cluster until cancelled.
    pub(crate) async fn run(&self, token: CancellationToken) -> Result<(), Error> {
        let ready = async {
            let services = self.context.services.wait_until_ready().await;
            services.and(self.slices.wait_until_ready().await)
        };
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            ready = ready => ready.map_err(|e| Error::Other(e.to_string()))?,
        }
        let proxy = self.proxy().await?;
        let task = proxy.clone();
        let watching = token.clone();
        let mut guard = std::pin::pin!(async move { task.run(watching).await });
        loop {
            self.apply(&proxy).await?;
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                ended = &mut guard => {
                    ended.map_err(|e| Error::Other(format!("service proxy: {e}")))?;
                    return Ok(());
                }
                () = self.changed.notified() => {}
            }
        }
    }

    async fn apply(&self, proxy: &ServiceProxy) -> Result<(), Error> {
        let cluster = Cluster {
            services: self.context.services.state(),
            slices: self.slices.state(),
            node: &self.context.settings.node_name,
            local_dns: self.context.settings.cluster_dns,
        };
        let (services, dns) = cluster.tables();
        self.dns.send_if_modified(|old| {
            let differs = **old != dns;
            if differs {
                *old = Arc::new(dns);
            }
            differs
        });
        proxy.apply(&services).await.map_err(|e| Error::Other(format!("service proxy: {e}")))
    }

    async fn proxy(&self) -> Result<ServiceProxy, Error> {
        let settings = &self.context.settings;
        let config = ServiceProxyConfig {
            nft_table: settings.instance.name.clone(),
            cluster_cidr: super::node::network_cidr(settings.cluster_cidr)?,
            service_cidr: super::node::network_cidr(settings.service_cidr)?,
            bridge: settings.instance.bridge.clone(),
        };
        let mode = proxy_mode(settings.proxy_mode);
        let (proxy, why) =
            ServiceProxy::select(mode, config).await.map_err(|e| Error::Other(e.to_string()))?;
        tracing::info!("service proxy: {why}");
        Ok(proxy)
    }
}

fn proxy_mode(mode: crate::config::ProxyMode) -> crate::network::ProxyMode {
    match mode {
        crate::config::ProxyMode::Auto => crate::network::ProxyMode::Auto,
        crate::config::ProxyMode::Ipvs => crate::network::ProxyMode::Ipvs,
        crate::config::ProxyMode::Nftables => crate::network::ProxyMode::Nftables,
        crate::config::ProxyMode::Iptables => crate::network::ProxyMode::Iptables,
        crate::config::ProxyMode::Userspace => crate::network::ProxyMode::Userspace,
    }
}

/// Answers cluster DNS once the pod network is there, until cancelled.
pub(crate) async fn run_dns(
    context: &Context,
    table: watch::Receiver<Arc<DnsTable>>,
    token: CancellationToken,
) -> Result<(), Error> {
    let mut ready = context.network.clone();
    let network = tokio::select! {
        () = token.cancelled() => return Ok(()),
        network = ready.wait_for(Option::is_some) => match network {
            Ok(network) => network.clone(),
            Err(_) => return Ok(()),
        },
    };
    let failed = |e: crate::network::Error| match e {
        crate::network::Error::Listen { .. } => Error::Other(format!(
            "{e}; another kedge on this machine needs other networks: see --cluster-cidr and --service-cidr"
        )),
        e => Error::Other(format!("cluster DNS: {e}")),
    };
    if let (Some(network), IpAddr::V4(address)) = (network, context.settings.cluster_dns) {
        network.add_address(address).await.map_err(failed)?;
    }
    let config = DnsConfig {
        listen: vec![SocketAddr::new(context.settings.cluster_dns, 53)],
        cluster_domain: context.settings.cluster_domain.clone(),
        resolv_conf: context.settings.resolv_conf.clone(),
    };
    Dns::serve(config, table, token).await.map_err(failed)
}
