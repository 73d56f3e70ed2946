//! Controllers: each keeps one part of the cluster the way its objects ask for. They see the API
//! only through a client of their own identity, share informers, and sleep while nothing changes.
//!
//! Adding one is one row in [`all`].

mod bootstrap_tokens;
mod certificates;
mod clusterrole;
pub mod config;
mod daemonset;
mod deployment;
mod endpoints;
mod garbage;
mod job;
pub mod kit;
mod namespace;
mod node;
mod protection;
mod replicaset;
mod resourcequota;
mod serviceaccount;
mod statefulset;
mod tokens;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use config::{CertificateOrder, ControllerConfig, LegacyToken};
use kit::recorder::Broadcaster;
use kit::{Context, Informers};

use crate::supervisor::{OnFailure, Stage, Supervisor, TaskError};

/// The identity under which the shared informers watch.
pub const INFORMERS_IDENTITY: &str = "system:kube-controller-manager";

/// What a controller's task is: it runs until the token is cancelled.
pub type Running = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// One controller.
#[derive(Clone, Copy)]
pub struct Controller {
    /// Its name: of its task and in its log lines.
    pub name: &'static str,
    /// The source of its events.
    pub component: &'static str,
    /// The user it acts as.
    pub identity: &'static str,
    /// Starts it.
    pub run: fn(Context, CancellationToken) -> Running,
}

/// Every controller there is.
pub fn all() -> &'static [Controller] {
    CONTROLLERS
}

macro_rules! controller {
    ($name:literal, $identity:literal, $run:expr) => {
        controller!($name, $identity, $identity, $run)
    };
    ($name:literal, $component:literal, $identity:literal, $run:expr) => {
        Controller {
            name: $name,
            component: $component,
            identity: concat!("system:serviceaccount:kube-system:", $identity),
            run: |cx, stop| Box::pin($run(cx, stop)),
        }
    };
}

static CONTROLLERS: &[Controller] = &[
    controller!("deployment-controller", "deployment-controller", deployment::run),
    controller!("replicaset-controller", "replicaset-controller", replicaset::run_replicasets),
    controller!("replication-controller", "replication-controller", replicaset::run_replication_controllers),
    controller!("daemonset-controller", "daemonset-controller", "daemon-set-controller", daemonset::run),
    controller!("statefulset-controller", "statefulset-controller", statefulset::run),
    controller!("job-controller", "job-controller", job::run),
    controller!("ttl-after-finished-controller", "ttl-after-finished-controller", job::run_ttl),
    controller!("clusterrole-aggregation-controller", "clusterrole-aggregation-controller", clusterrole::run),
    controller!(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
        certificates::run_approving
    ),
    controller!(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
        certificates::run_signing
    ),
    controller!(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
        certificates::run_cleaner
    ),
    controller!("garbage-collector-controller", "generic-garbage-collector", garbage::run),
    controller!("namespace-controller", "namespace-controller", namespace::run),
    controller!("endpointslice-controller", "endpointslice-controller", endpoints::run_slices),
    controller!("endpoint-controller", "endpoint-controller", endpoints::run_endpoints),
    controller!(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring-controller",
        endpoints::run_mirroring
    ),
    controller!("serviceaccount-controller", "service-account-controller", serviceaccount::run_accounts),
    controller!(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        serviceaccount::run_root_ca
    ),
    controller!("serviceaccount-token-controller", "tokens-controller", tokens::run),
    controller!("token-cleaner-controller", "token-cleaner", bootstrap_tokens::run_cleaner),
    controller!("bootstrap-signer-controller", "bootstrap-signer", bootstrap_tokens::run_signer),
    controller!("node-lifecycle-controller", "node-controller", node::run_health),
    controller!(
        "taint-eviction-controller",
        "taint-eviction-controller",
        "node-controller",
        node::run_eviction
    ),
    controller!("node-ipam-controller", "node-controller", node::run_ipam),
    controller!("pod-garbage-collector-controller", "pod-garbage-collector", node::run_podgc),
    controller!("resourcequota-controller", "resourcequota-controller", resourcequota::run),
    controller!(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection-controller",
        protection::run_claims
    ),
    controller!(
        "persistentvolume-protection-controller",
        "pv-protection-controller",
        protection::run_volumes
    ),
];

/// What controllers and scheduler share: informers and the event recorder.
#[derive(Clone)]
pub struct Shared {
    /// One watch a kind.
    pub informers: Arc<Informers>,
    /// Writes events.
    pub broadcaster: Broadcaster,
}

impl Shared {
    /// Shared informers that watch through `client` (of [`INFORMERS_IDENTITY`]).
    pub fn start(supervisor: &Supervisor, client: Client) -> Self {
        Self {
            informers: Informers::new(client, supervisor.clone()),
            broadcaster: Broadcaster::start(supervisor),
        }
    }
}

/// Spawns every controller under the supervisor. `clients` makes the client of a user name, such as
/// `system:serviceaccount:kube-system:deployment-controller`.
pub fn spawn_all(
    supervisor: &Supervisor,
    shared: &Shared,
    clients: impl Fn(&str) -> Client,
    config: ControllerConfig,
) {
    let config = Arc::new(config);
    for controller in all() {
        let client = clients(controller.identity);
        let cx = Context {
            recorder: shared.broadcaster.recorder(controller.component, client.clone()),
            client,
            informers: Arc::clone(&shared.informers),
            config: Arc::clone(&config),
        };
        let run = controller.run;
        supervisor.spawn(controller.name, Stage::Controller, OnFailure::Restart, move |stop| {
            let cx = cx.clone();
            async move {
                let informers = Arc::clone(&cx.informers);
                informers.run(&stop, run(cx, stop.clone())).await.unwrap_or(Ok(()))
            }
        });
    }
}
