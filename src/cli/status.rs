//! `kedge status`: whether API, nodes and workloads are ready; with `--wait`, until they are.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Service};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use super::options::DataDir;
use super::{Error, clock};

/// Pause between two looks while waiting: what is waited for may not have an API to watch yet.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// One look may take this long.
const LOOK: Duration = Duration::from_secs(5);

/// Flags of `kedge status`.
#[derive(Args, Debug)]
pub struct StatusOptions {
    #[command(flatten)]
    data_dir: DataDir,
    /// Wait up to this many seconds until everything is ready
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Also look at this Deployment, may be repeated
    #[arg(long, value_name = "NAMESPACE/NAME")]
    deployment: Vec<String>,
}

/// What one look saw: lines for the user, and what is not ready yet.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    missing: Option<String>,
}

impl Report {
    fn lacks(&mut self, what: String) {
        self.missing.get_or_insert(what);
    }
}

/// Prints the state, after waiting for it if asked to.
///
/// # Errors
/// Something is not ready, at once or after the time given; the message names it.
pub fn run(options: StatusOptions) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kubeconfig = kubeconfig(&options.data_dir.path());
    let report = runtime.block_on(watch(&options, &kubeconfig));
    for line in &report.lines {
        println!("{line}");
    }
    match report.missing {
        None => Ok(()),
        Some(missing) => Err(missing.into()),
    }
}

/// The kubeconfig the server of this data directory always writes for the machine's root.
fn kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("server/cred/admin.kubeconfig")
}

async fn watch(options: &StatusOptions, kubeconfig: &Path) -> Report {
    let patience = Duration::from_secs(options.wait.unwrap_or(0).min(u64::from(u32::MAX)));
    let deadline = Instant::now() + patience;
    let progress = Progress::new(options.wait.is_some());
    loop {
        let look = tokio::time::timeout(LOOK, look(options, kubeconfig)).await;
        let report = match look {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => {
                let waiting = std::fs::read_to_string(clock::waiting_file(&options.data_dir.path()));
                let missing = waiting.unwrap_or_else(|_| error.to_string());
                Report { missing: Some(missing), ..Report::default() }
            }
            Err(_) => Report {
                missing: Some(format!("the API did not answer within {LOOK:?}")),
                ..Report::default()
            },
        };
        match &report.missing {
            Some(missing) if Instant::now() < deadline => progress.waiting_for(missing),
            _ => {
                progress.finish();
                return report;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(options: &StatusOptions, kubeconfig: &Path) -> Result<Report, Error> {
    if let Err(error) = std::fs::File::open(kubeconfig) {
        let file = kubeconfig.display();
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("there is no {file}: is the server running, and with this --data-dir?").into()
            }
            _ => format!("{file}: {error}: run this as root, who alone may read it").into(),
        });
    }
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config)?;
    if let Err(error) = client.apiserver_version().await {
        return Err(match error {
            kube::Error::Service(_) | kube::Error::HyperError(_) => {
                format!("nothing answers at {url}: is the server running?").into()
            }
            error => format!("{url}: {error}").into(),
        });
    }
    let mut report = Report::default();
    report.lines.push(format!("api          {url} ready"));
    let address = nodes(&client, &mut report).await?;
    for name in &options.deployment {
        deployment(&client, name, &mut report).await?;
    }
    if let Some(address) = address {
        node_ports(&client, &address, &mut report).await?;
    }
    Ok(report)
}

/// Adds the nodes' lines; gives an address at which node ports answer.
async fn nodes(client: &Client, report: &mut Report) -> Result<Option<String>, Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await?.items;
    if nodes.is_empty() {
        report.lacks("no node has registered yet".into());
    }
    let mut address = None;
    for node in nodes {
        let name = node.name_any();
        let status = node.status.unwrap_or_default();
        let ready = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "Ready");
        let (state, why) = match &ready {
            Some(c) if c.status == "True" => ("Ready", String::new()),
            Some(c) => ("NotReady", c.message.clone().unwrap_or_default()),
            None => ("NotReady", "it has not reported yet".into()),
        };
        report.lines.push(format!("node         {name} {state} {why}").trim_end().to_owned());
        if state != "Ready" {
            report.lacks(format!("node {name} is not Ready: {why}"));
        }
        let internal = status.addresses.unwrap_or_default().into_iter().find(|a| a.type_ == "InternalIP");
        address = address.or(internal.map(|a| a.address));
    }
    Ok(address)
}

async fn deployment(client: &Client, name: &str, report: &mut Report) -> Result<(), Error> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let api = Api::<Deployment>::namespaced(client.clone(), namespace);
    let Some(found) = api.get_opt(name).await? else {
        report.lacks(format!("deployment {namespace}/{name} does not exist yet"));
        return Ok(());
    };
    let wanted = found.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = found.status.unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    report.lines.push(format!("deployment   {namespace}/{name} {available}/{wanted} available"));
    let current = status.observed_generation == found.metadata.generation;
    if !current || available < wanted {
        let selector = found.spec.and_then(|s| s.selector.match_labels).unwrap_or_default();
        let why = holding_up(client, namespace, &selector).await?;
        report.lacks(format!(
            "deployment {namespace}/{name}: {available} of {wanted} replicas are available{why}"
        ));
    }
    Ok(())
}

/// What the first of these pods that says so waits for, beyond the ordinary.
async fn holding_up(
    client: &Client,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<String, Error> {
    let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    for pod in pods.list(&ListParams::default().labels(&selector.join(","))).await? {
        let name = pod.name_any();
        if let Some((reason, message)) = pod.status.as_ref().and_then(complaint) {
            return Ok(format!("; pod {name}: {reason}: {message}"));
        }
    }
    Ok(String::new())
}

/// Reason and message of a container that cannot start, or of a pod that no node takes.
fn complaint(status: &PodStatus) -> Option<(&str, &str)> {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut waiting = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref());
    // ContainerCreating and PodInitializing have no message: they are on their way.
    let stuck = waiting.find_map(|w| Some((w.reason.as_deref()?, w.message.as_deref()?)));
    let unscheduled = || {
        let conditions = status.conditions.iter().flatten();
        let mut failed = conditions.filter(|c| c.type_ == "PodScheduled" && c.status == "False");
        failed.find_map(|c| Some((c.reason.as_deref()?, c.message.as_deref()?)))
    };
    stuck.or_else(unscheduled)
}

async fn node_ports(client: &Client, address: &str, report: &mut Report) -> Result<(), Error> {
    for service in Api::<Service>::all(client.clone()).list(&Default::default()).await?.items {
        let name = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
        for port in service.spec.and_then(|s| s.ports).unwrap_or_default() {
            if let Some(node_port) = port.node_port {
                report.lines.push(format!("service      {name} http://{address}:{node_port}/"));
            }
        }
    }
    Ok(())
}

/// A spinner on a terminal, a line per change elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    last: std::cell::RefCell<String>,
}

impl Progress {
    fn new(wanted: bool) -> Self {
        let bar = (wanted && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last: std::cell::RefCell::default() }
    }

    fn waiting_for(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if *self.last.borrow() != what => {
                eprintln!("waiting: {what}");
                what.clone_into(&mut self.last.borrow_mut());
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
