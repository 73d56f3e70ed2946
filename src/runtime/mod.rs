//! Containers and images, in-process: what containerd and runc are elsewhere.
//!
//! A pod sandbox has one **shim**, this executable run again as a small single-threaded process
//! ([`shim`]); it holds the sandbox's namespaces, is the parent of its containers and outlives kedge.
//! [`Runtime`] is the asynchronous face: it starts shims, talks to them over their sockets and reads
//! the status files they keep, so that nothing is lost when either side is killed.

mod error;
mod rootfs;
mod session;
pub mod shim;
pub mod spec;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use rootfs::{ImageConfig, RootFs};
pub use session::{AttachSession, ExecSession, Reader, Writer};
use spec::{
    ContainerSpec, ContainerStats, ContainerStatus, ExecSpec, RuntimeEvent, SandboxSpec,
    SandboxStatus,
};

/// Where a runtime keeps its things.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Persistent directory: writable layers of the containers.
    pub root: PathBuf,
    /// Directory that need not survive a reboot (`/run/…`): sockets, statuses, namespaces, mounts.
    pub state: PathBuf,
    /// Name of the cgroup below which all pods' cgroups are, such as `kedge`; one installation each.
    pub cgroup_root: String,
    /// The executable whose `shim` sub-command calls [`shim::main`]; `/proc/self/exe` for one's own.
    pub shim_exe: PathBuf,
}

/// The container runtime of a node. Clones share everything; all methods may be called concurrently.
#[derive(Clone, Debug)]
pub struct Runtime {
    config: RuntimeConfig,
}

impl Runtime {
    /// Opens the state directory and finds what a former process left running. After a reboot
    /// leftovers are removed instead. Nothing that runs is stopped.
    pub async fn open(config: RuntimeConfig) -> Result<Self, Error> {
        Ok(Self { config })
    }

    /// Listens to the shims until cancelled; [`Runtime::events`] tells nothing unless this runs.
    pub async fn run(&self, token: CancellationToken) {
        todo!("{token:?}")
    }

    /// Makes a sandbox: cgroup, namespaces and shim.
    pub async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxStatus, Error> {
        todo!("{spec:?}")
    }

    /// Kills the sandbox's containers and gives up its namespaces and shim; statuses stay. Idempotent.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        todo!("{id}")
    }

    /// Stops the sandbox if need be and removes all that is left of it, containers included. Idempotent.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        todo!("{id}")
    }

    /// Makes a container up to the point where its program is executed.
    pub async fn create_container(
        &self,
        sandbox: &str,
        spec: &ContainerSpec,
        rootfs: &RootFs,
    ) -> Result<ContainerStatus, Error> {
        todo!("{sandbox}{spec:?}{rootfs:?}")
    }

    /// Executes the container's program. An error if the program cannot be executed.
    pub async fn start_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        todo!("{id}")
    }

    /// Sends `signal` (`None`: what the spec or the image says, else SIGTERM), and SIGKILL after
    /// `grace`; returns once the container has ended. Idempotent.
    pub async fn stop_container(
        &self,
        id: &str,
        grace: Duration,
        signal: Option<&str>,
    ) -> Result<(), Error> {
        todo!("{id}{grace:?}{signal:?}")
    }

    /// Waits for the end of a container.
    pub async fn wait_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        todo!("{id}")
    }

    /// Kills the container if need be and removes it with its writable layer; its log stays. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        todo!("{id}")
    }

    /// Runs a process beside the container's own.
    pub async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<ExecSession, Error> {
        todo!("{id}{spec:?}")
    }

    /// Runs a command to its end and collects its output (at most 16 MiB a stream). After `timeout`
    /// it is killed and [`Error::Timeout`] returned.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, Error> {
        todo!("{id}{command:?}{timeout:?}")
    }

    /// Connects to the container's standard streams.
    pub async fn attach(&self, id: &str) -> Result<AttachSession, Error> {
        todo!("{id}")
    }

    /// Opens the container's log anew, after it was moved away.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        todo!("{id}")
    }

    /// All sandboxes with their containers, those included whose shim is gone.
    pub async fn sandboxes(&self) -> Vec<SandboxStatus> {
        todo!()
    }

    /// One sandbox.
    pub async fn sandbox(&self, id: &str) -> Option<SandboxStatus> {
        todo!("{id}")
    }

    /// One container.
    pub async fn container(&self, id: &str) -> Option<ContainerStatus> {
        todo!("{id}")
    }

    /// What a container uses now.
    pub async fn stats(&self, id: &str) -> Result<ContainerStats, Error> {
        todo!("{id}")
    }

    /// What happens by itself from now on; [`Runtime::run`] must be running.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        todo!()
    }

    /// A path that opens the sandbox's network namespace; `None` with the host's or without such a sandbox.
    pub fn netns_of(&self, sandbox: &str) -> Option<PathBuf> {
        todo!("{sandbox}{:?}", self.config)
    }

    /// Ends every shim and container of this installation and removes mounts, cgroups and state.
    /// Needs no open runtime; other installations are not touched.
    pub async fn cleanup_all(config: &RuntimeConfig) -> Result<(), Error> {
        todo!("{config:?}")
    }
}

/// What a command said, as [`Runtime::exec_sync`] collected it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; 128 + N when signal N ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}
