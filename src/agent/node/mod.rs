//! The Node object: registration, status, lease.
//!
//! The node registers, waits until it has a pod CIDR, opens the pod network and is Ready then. Its
//! status is written when it changes, and every five minutes at most; the lease is renewed every ten
//! seconds.

mod info;
mod lease;
mod resources;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use info::Machine;
pub(crate) use resources::reserved;

use super::context::Context;
use super::error::Error;
use crate::network::{Cidr, PodNetwork, PodNetworkConfig};
use crate::supervisor::{OnFailure, Stage};

/// A status that was just written is not looked at again for this long, unless something happens.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps the Node object; see [`Registration::run`].
pub(crate) struct Registration {
    context: Arc<Context>,
    machine: Machine,
    network: watch::Sender<Option<PodNetwork>>,
    /// The node as last seen, for the other parts.
    seen: watch::Sender<Arc<Node>>,
    /// That the network is open is yet to be told.
    announce_network: AtomicBool,
    /// What the pod network was opened with, and what ends its guard.
    opened: Mutex<Option<Cidr>>,
    guard: Mutex<CancellationToken>,
}

impl Registration {
    /// Registers `context`'s node; the network is announced through `network` once it is open, the node
    /// through `seen` whenever it changes.
    pub(crate) fn new(
        context: Arc<Context>,
        machine: Machine,
        network: watch::Sender<Option<PodNetwork>>,
        seen: watch::Sender<Arc<Node>>,
    ) -> Self {
        Self {
            context,
            machine,
            network,
            seen,
            announce_network: AtomicBool::new(false),
            opened: Mutex::default(),
            guard: Mutex::default(),
        }
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    /// Renews the lease until cancelled.
    pub(crate) async fn run_lease(&self, token: CancellationToken) {
        lease::run(&self.context.client, &self.context.settings.node_name, &self.api(), token).await;
    }

    /// Keeps the Node object right until cancelled.
    pub(crate) async fn run(&self, token: CancellationToken) -> Result<(), Error> {
        self.reopen_network().await;
        let mut node = self.register().await?;
        let name = self.context.settings.node_name.clone();
        let mut watched = std::pin::pin!(watch_object(self.api(), &name).default_backoff());
        let mut pressure = self.context.pressure.clone();
        loop {
            pressure.mark_unchanged();
            self.seen.send_replace(Arc::new(node.clone()));
            if let Some(cidr) = pod_cidr(&node).transpose()?
                && *self.opened.lock() != Some(cidr)
            {
                self.open_network(cidr).await?;
                self.remember(cidr);
                self.announce_network.store(true, Ordering::Relaxed);
            }
            if self.announce_network.swap(false, Ordering::Relaxed) {
                let text = format!("Node {name} status is now: NodeReady");
                self.context.node_event("Normal", "NodeReady", text);
            }
            self.write_status(&node).await?;
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(status::report_in(&node, Timestamp::now()).max(PAUSE)) => {}
                changed = pressure.changed() => if changed.is_err() { return Ok(()) },
                () = self.context.images_changed.notified() => {}
                next = watched.next() => match next {
                    Some(Ok(Some(newer))) => node = newer,
                    Some(Ok(None)) => node = self.register().await?,
                    Some(Err(error)) => tracing::debug!(%error, "the watch of the node failed"),
                    None => return Err(Error::Other("the watch of the node ended".into())),
                },
            }
        }
    }

    /// Creates the Node object, or brings the labels of the one there is up to date.
    async fn register(&self) -> Result<Node, Error> {
        let wanted = self.machine.node(&self.context.settings);
        match self.api().create(&PostParams::default(), &wanted).await {
            Ok(node) => {
                tracing::info!(node = %self.context.settings.node_name, "node registered");
                Ok(node)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let patch = Patch::Strategic(json!({"metadata": {"labels": wanted.metadata.labels}}));
                Ok(self
                    .api()
                    .patch(&self.context.settings.node_name, &PatchParams::default(), &patch)
                    .await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Pods have their network again before the API server answers: with the addresses of last time.
    async fn reopen_network(&self) {
        let known = std::fs::read_to_string(self.cidr_file()).ok().and_then(|text| text.trim().parse().ok());
        let Some(cidr) = known.filter(|_| self.network.borrow().is_none()) else { return };
        match self.open_network(cidr).await {
            Ok(()) => self.announce_network.store(true, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the pod network waits for the node's registration"),
        }
    }

    fn cidr_file(&self) -> PathBuf {
        self.context.settings.data_dir.join("agent/pod-cidr")
    }

    fn remember(&self, cidr: Cidr) {
        let file = self.cidr_file();
        if let Err(error) = std::fs::write(&file, cidr.to_string()) {
            tracing::warn!(file = %file.display(), %error, "the node's pod addresses are not remembered over a restart");
        }
    }

    async fn open_network(&self, pod_cidr: Cidr) -> Result<(), Error> {
        let settings = &self.context.settings;
        let config = PodNetworkConfig {
            bridge: settings.instance.bridge.clone(),
            pod_cidr,
            cluster_cidr: network_cidr(settings.cluster_cidr)?,
            service_cidr: network_cidr(settings.service_cidr)?,
            mtu: None,
            state_dir: settings.data_dir.join("agent/network"),
            nft_table: settings.instance.name.clone(),
        };
        let network =
            PodNetwork::open(config).await.map_err(|e| Error::Other(format!("pod network: {e}")))?;
        // Attachments of sandboxes that did not survive a reboot.
        let live = self.context.runtime.sandboxes().await.into_iter().map(|s| s.id).collect();
        network.release_stale(&live).await.map_err(|e| Error::Other(format!("pod network: {e}")))?;
        let guard = network.clone();
        let current = CancellationToken::new();
        std::mem::replace(&mut *self.guard.lock(), current.clone()).cancel();
        self.context.supervisor.spawn("pod network", Stage::Agent, OnFailure::Restart, move |token| {
            let (guard, current) = (guard.clone(), current.clone());
            async move {
                tokio::select! {
                    result = guard.run(token) => Ok(result?),
                    () = current.cancelled() => Ok(()),
                }
            }
        });
        *self.opened.lock() = Some(pod_cidr);
        tracing::info!(%pod_cidr, "the pod network is ready");
        self.network.send_replace(Some(network));
        Ok(())
    }

    /// Writes the status if it differs from what the API has.
    async fn write_status(&self, node: &Node) -> Result<(), Error> {
        let images = self.context.images.list().await;
        let ready = self.network.borrow().is_some();
        let pressure = *self.context.pressure.borrow();
        let observation =
            status::Observation { machine: &self.machine, images: &images, network_ready: ready, pressure };
        let wanted = observation.status(node, &self.context.settings);
        if let Some(patch) = status::patch(node, &wanted) {
            let name = &self.context.settings.node_name;
            match self.api().patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                // Somebody else wrote the node meanwhile, or it is gone: the watch tells, and this comes again.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    self.context.images_changed.notify_one();
                }
                result => {
                    result?;
                    self.tell_reboot(node);
                }
            }
        }
        Ok(())
    }

    /// Tells that the machine is another boot's than the node's status had it.
    fn tell_reboot(&self, node: &Node) {
        let known = node.status.as_ref().and_then(|s| s.node_info.as_ref()).map_or("", |i| &i.boot_id);
        let (name, boot) = (&self.context.settings.node_name, &self.machine.info.boot_id);
        if !known.is_empty() && known != boot {
            let text = format!("Node {name} has been rebooted, boot id: {boot}");
            self.context.node_event("Warning", "Rebooted", text);
        }
    }
}

/// The configured network as the network room has it.
pub(crate) fn network_cidr(cidr: crate::config::Cidr) -> Result<Cidr, Error> {
    Cidr::new(cidr.base, cidr.prefix).map_err(|e| Error::Other(e.to_string()))
}

fn pod_cidr(node: &Node) -> Option<Result<Cidr, Error>> {
    let text = node.spec.as_ref()?.pod_cidr.as_deref()?;
    Some(text.parse::<Cidr>().map_err(|e| Error::Other(format!("spec.podCIDR of the node: {e}"))))
}
