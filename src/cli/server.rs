//! `kedge server`: the control plane and a node in one process, put together here.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::installation::server_pid_file;
use super::pidfile::PidFile;
use super::{Error, clock, init_logging, node, notify, require_root};
use crate::config::{Instance, Layers, ServerSettings};
use crate::server::Server;
use crate::supervisor::Supervisor;

/// How long each stage may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Runs until told to stop, or until a task fails that the process does not survive.
///
/// # Errors
/// Settings, rights, ports or data that cannot be used; or the failure that ended the process.
pub fn run(layers: Layers) -> Result<(), Error> {
    init_logging();
    let settings = ServerSettings::resolve(&layers)?;
    require_root("kedge server")?;
    let _lock = PidFile::take(&server_pid_file(&settings.node.instance), "kedge server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(settings));
    // Threads still blocked in a system call must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(settings: ServerSettings) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = clock::plausible(&settings.node.data_dir) => result?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let supervisor = Supervisor::new();
    let result = tokio::select! {
        result = work(settings, &supervisor) => result?,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("stopping; containers go on running");
    notify::stopping();
    for late in supervisor.shutdown(STOP_PATIENCE).await {
        tracing::warn!(task = %late, "a task did not stop in time");
    }
    result
}

/// Starts everything and waits for a failure; the outer error is one of the start.
async fn work(settings: ServerSettings, supervisor: &Supervisor) -> Result<Result<(), Error>, Error> {
    supervisor.start(start(settings, supervisor.clone())).await??;
    notify::ready();
    Ok(Err(supervisor.failed().await.into()))
}

async fn start(settings: ServerSettings, supervisor: Supervisor) -> Result<(), Error> {
    let server = Server::bind(settings.clone(), supervisor.clone()).await?;
    server.run();
    if !settings.disable_agent {
        node::start(&settings, &server, &supervisor).await?;
    }
    Ok(())
}

/// Removes every process, mount, interface, rule and cgroup of an installation.
///
/// # Errors
/// What could not be removed.
pub fn cleanup(data_dir: &Path, instance: &Instance) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(node::cleanup(data_dir, instance))
}
