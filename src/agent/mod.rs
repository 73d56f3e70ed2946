//! The node agent: what kubelet, kube-proxy's reflectors and the DNS feed are elsewhere.
//!
//! [`Agent::new`] takes the parts of a node and a client that speaks as `system:node:<name>`;
//! [`Agent::run`] spawns its tasks under the supervisor: node registration and lease, the watch of
//! this node's pods with one worker a pod, the node API, and the feeds of service proxy and DNS.
//! Everything is driven by events of the API, the runtime and the kernel; the lease is the only
//! regular timer.

mod admit;
mod api;
mod backoff;
mod clock;
mod container;
mod context;
mod counts;
mod disk;
mod error;
mod events;
mod eviction;
mod expand;
mod fields;
mod groups;
mod image_gc;
mod images;
mod labels;
mod logs;
mod mirrors;
mod node;
mod objects;
mod oom;
mod orders;
mod paths;
mod pod;
mod probes;
mod qos;
mod quantity;
mod services;
mod source;
mod spec;
mod statics;
mod stats;
mod steady;
mod volumes;

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::NodeSettings;
use crate::runtime::Runtime;
use crate::supervisor::{OnFailure, Stage, Supervisor, TaskError};
use api::{NodeApi, NodeTls};
use context::{Context, Pods};
use mirrors::Statics;
use node::{Machine, Registration};
use objects::Objects;
use paths::Paths;
use services::{Feed, Reflector};
use source::Source;
use statics::Directory;

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

/// A node, ready to run.
pub struct Agent {
    settings: NodeSettings,
    client: kube::Client,
    runtime: Runtime,
    images: Arc<dyn ImageService>,
    machine: Machine,
    tls: NodeTls,
}

impl Agent {
    /// Checks what can be checked before anything runs: credentials, directories, the machine.
    ///
    /// `client` must act as `system:node:<node name>`.
    ///
    /// # Errors
    /// Certificates that cannot be used, directories that cannot be made.
    pub fn new(
        settings: NodeSettings,
        client: kube::Client,
        credentials: NodeCredentials,
        runtime: Runtime,
        images: Arc<dyn ImageService>,
    ) -> Result<Self, Error> {
        let paths = Paths::new(&settings.data_dir);
        volumes::prepare(paths.pods())?;
        let machine = Machine::read(&settings.data_dir)?;
        let tls = NodeTls::new(&credentials)?;
        Ok(Self { settings, client, runtime, images, machine, tls })
    }

    /// Spawns the node's tasks and returns.
    pub fn run(self, supervisor: &Supervisor) {
        let Self { settings, client, runtime, images, machine, tls } = self;
        let (recorder, events) = events::channel();
        let (network, network_ready) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let (services, service_store) = Reflector::new(Arc::clone(&changed));
        let (slices, slice_store) = Reflector::new(Arc::clone(&changed));
        let images_changed = Arc::new(Notify::new());
        let (pressure, pressure_seen) = watch::channel(orders::Pressure::default());
        let (paths, kubelet) = (Paths::new(&settings.data_dir), settings.kubelet.clone());
        let access = images::Access::open(paths.image_access().to_owned(), &kubelet);
        let puller = Arc::new(images::Puller::new(Arc::clone(&images), access, &kubelet));
        let directory = Arc::new(Directory::new(&settings.kubelet.pod_manifest_path, &settings.node_name));
        let (node, node_seen) = watch::channel(Arc::new(machine.node(&settings)));
        let context = Arc::new(Context {
            objects: Objects::new(client.clone(), supervisor.clone()),
            paths: Paths::new(&settings.data_dir),
            settings,
            client: client.clone(),
            runtime: runtime.clone(),
            puller,
            images,
            images_changed: Arc::clone(&images_changed),
            events: recorder,
            supervisor: supervisor.clone(),
            network: network_ready,
            services: service_store,
            pods: Pods::default(),
            probe_counts: counts::ProbeCounts::default(),
            node: node_seen,
            statics: Statics::new(directory.read()),
            memory_capacity: machine.memory,
            allocatable: machine.allocatable(&kubelet),
            pressure: pressure_seen,
            evictions: orders::Orders::new(paths),
        });
        context.node_event("Normal", "Starting", "Starting kubelet.".into());
        let eviction = Arc::new(eviction::Manager::new(Arc::clone(&context), pressure));
        let (dns, _) = watch::channel(Arc::default());
        let registration = Arc::new(Registration::new(Arc::clone(&context), machine, network, node));
        let feed = Arc::new(Feed { context: Arc::clone(&context), slices: slice_store, changed, dns });
        let tasks = Tasks { context, registration, feed, directory, events: Arc::new(events), tls, eviction };
        tasks.spawn(Arc::new(services), Arc::new(slices));
    }
}

/// What the agent's tasks are made of.
struct Tasks {
    context: Arc<Context>,
    registration: Arc<Registration>,
    feed: Arc<Feed>,
    directory: Arc<Directory>,
    events: Arc<events::Writer>,
    tls: NodeTls,
    eviction: Arc<eviction::Manager>,
}

impl Tasks {
    fn spawn(self, services: Arc<Reflector<Service>>, slices: Arc<Reflector<EndpointSlice>>) {
        let Self { context, registration, feed, directory, events, tls, eviction } = self;
        let spawn = |name: &'static str, stage: Stage, task: Task| {
            context.supervisor.spawn(name, stage, OnFailure::Restart, task);
        };
        let agent = |name: &'static str, task: Task| spawn(name, Stage::Agent, task);
        let client = context.client.clone();
        let listen = |runtime: Runtime, token| async move {
            runtime.run(token).await;
            Ok(())
        };
        agent("runtime", task(context.runtime.clone(), listen));
        let compress = |runtime: Runtime, token| async move {
            logs::compress_rotated(runtime, token).await;
            Ok(())
        };
        agent("logs", task(context.runtime.clone(), compress));
        let writer = (events, client.clone(), context.settings.node_name.clone());
        let write = |(events, client, node): (Arc<events::Writer>, kube::Client, String), token| async move {
            events.run(client, &node, token).await;
            Ok(())
        };
        agent("events", task(writer, write));
        let renew = |registration: Arc<Registration>, token| async move {
            registration.run_lease(token).await;
            Ok(())
        };
        agent("node lease", task(Arc::clone(&registration), renew));
        agent("eviction", task(eviction, |m, token| async move { m.run(token).await }));
        agent(
            "pod groups",
            task(Arc::clone(&context), |c, token| async move { groups::run(&c, token).await }),
        );
        agent("clock", task(Arc::clone(&context), |c, token| async move { clock::run(&c, token).await }));
        agent("kernel log", task(Arc::clone(&context), |c, token| async move { oom::run(&c, token).await }));
        agent("node", task(registration, |r, token| async move { r.run(token).await }));
        agent(
            "services",
            task((services, client.clone()), |(r, c), token| async move { r.run(c, token).await }),
        );
        agent(
            "endpoint slices",
            task((slices, client), |(r, c), token| async move { r.run(c, token).await }),
        );
        agent("service proxy", task(Arc::clone(&feed), |f, token| async move { f.run(token).await }));
        let answer = |(feed, context): (Arc<Feed>, Arc<Context>), token| async move {
            services::run_dns(&context, feed.dns.subscribe(), token).await
        };
        agent("cluster DNS", task((feed, Arc::clone(&context)), answer));
        let collector = Arc::new(image_gc::ImageGc::new(Arc::clone(&context)));
        let collect = |collector: Arc<image_gc::ImageGc>, token| async move {
            collector.run(token).await;
            Ok(())
        };
        agent("image collection", task(collector, collect));
        let source = Arc::new(Source::new(Arc::clone(&context)));
        agent("pods", task(source, |s, token| async move { s.run(token).await }));
        let read = |(d, c): (Arc<Directory>, Arc<Context>), token| async move { d.run(&c, token).await };
        agent("static pods", task((directory, Arc::clone(&context)), read));
        let mirror = |c: Arc<Context>, token| async move {
            statics::keep_mirrors(&c, token).await;
            Ok(())
        };
        agent("mirror pods", task(Arc::clone(&context), mirror));
        let api = Arc::new(NodeApi::new(Arc::clone(&context), tls));
        let serve = |api: Arc<NodeApi>, token| async move {
            let listener = api.bind().await?;
            api.run(listener, token).await
        };
        spawn("node API", Stage::Listener, task(api, serve));
    }
}

type Task = Box<dyn FnMut(CancellationToken) -> BoxFuture<'static, Result<(), TaskError>> + Send>;

/// A task that may be started again, each time with a clone of `state`.
fn task<S, F, Fut>(state: S, run: F) -> Task
where
    S: Clone + Send + 'static,
    F: Fn(S, CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    Box::new(move |token| {
        let run = run(state.clone(), token);
        Box::pin(async move { Ok(run.await?) })
    })
}

/// Unmounts the volumes and removes the logs of all pods of the installation at `data_dir`, for `kedge killall`.
///
/// # Errors
/// What could not be unmounted.
pub fn cleanup(data_dir: &std::path::Path) -> Result<(), Error> {
    let paths = Paths::new(data_dir);
    let pods = std::fs::read_dir(paths.pods()).into_iter().flatten().flatten();
    let uids: Vec<String> = pods.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    logs::remove_pods(&uids);
    volumes::unmount_all(paths.pods())
}
