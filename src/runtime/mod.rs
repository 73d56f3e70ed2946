//! Containers and images, in-process: what containerd and runc are elsewhere.
//!
//! A pod sandbox has one **shim**, this executable run again as a small single-threaded process
//! ([`shim`]); it holds the sandbox's namespaces, is the parent of its containers and outlives kedge.
//! [`Runtime`] is the asynchronous face: it starts shims, talks to them over their sockets and reads
//! the status files they keep, so that nothing is lost when either side is killed.
//!
//! Invariants: whatever exists on the machine is named after the installation's directories, its
//! cgroup and the identifiers of its sandboxes and containers, so that it can be found and removed
//! without any memory of it; a status file is whole, old or new; a shim that lives holds its lock.

pub mod apparmor;
mod cgroup;
mod client;
mod error;
mod groups;
pub mod images;
mod kmsg;
mod launch;
mod leftovers;
mod paths;
mod protocol;
mod rootfs;
pub(crate) mod rotated;
mod session;
pub mod shim;
mod signals;
pub mod spec;
mod stall;
#[allow(unsafe_code, reason = "the one place for it, see there")]
mod sys;
mod usage;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use kmsg::{KernelLog, Victim};
pub use rootfs::{ImageConfig, RootFs};
pub use session::{AttachSession, ExecSession, Reader, Writer};
pub use stall::Stall;

use cgroup::Cgroups;
use client::{Connection, unexpected};
use launch::SealedExe;
use paths::SandboxDir;
use protocol::{Reply, Request, SandboxRecord};
use spec::{
    ContainerSpec, ContainerState, ContainerStatus, ExecSpec, RuntimeEvent, SandboxSpec, SandboxStatus,
};
use watch::Watched;

/// So many events may wait for a slow receiver.
const EVENT_BUFFER: usize = 1024;
/// [`Runtime::exec_sync`] keeps at most this much of a stream, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;

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
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: RuntimeConfig,
    exe: SealedExe,
    cgroups: Cgroups,
    /// The sandbox of each container.
    containers: Mutex<BTreeMap<String, String>>,
    /// Groups above the sandboxes' that somebody set limits of, from the root of the hierarchy.
    groups: Mutex<BTreeSet<String>>,
    /// Sandboxes that are wholly made, or were when kedge started: those to listen to.
    made: Mutex<BTreeSet<String>>,
    events: broadcast::Sender<RuntimeEvent>,
    watch: mpsc::UnboundedSender<Watched>,
    watched: tokio::sync::Mutex<mpsc::UnboundedReceiver<Watched>>,
}

impl Runtime {
    /// Opens the state directory and finds what a former process left running. After a reboot
    /// leftovers are removed instead. Nothing that runs is stopped.
    pub async fn open(config: RuntimeConfig) -> Result<Self, Error> {
        blocking(move || Self::open_blocking(config)).await
    }

    fn open_blocking(config: RuntimeConfig) -> Result<Self, Error> {
        check_config(&config)?;
        let sandboxes = paths::sandboxes(&config.state);
        for dir in [&config.state, &config.root] {
            fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        }
        // Mount points are compared with the kernel's, which knows no symbolic links.
        let real = |dir: &PathBuf| fs::canonicalize(dir).map_err(Error::io("find", dir));
        let config = RuntimeConfig { root: real(&config.root)?, state: real(&config.state)?, ..config };
        leftovers::forget_former_boot(&config)?;
        for dir in [&sandboxes, &paths::layers(&config.root)] {
            paths::make_private(dir).map_err(Error::io("make", dir))?;
        }
        let (mut containers, mut made) = (BTreeMap::new(), BTreeSet::new());
        for sandbox in paths::names(&sandboxes) {
            let dir = SandboxDir(sandboxes.join(&sandbox));
            if leftovers::read_record(&dir).is_none() {
                // kedge was killed while it began to make it.
                paths::remove_tree(&dir.0).map_err(Error::io("remove", &dir.0))?;
                continue;
            }
            made.insert(sandbox.clone());
            containers.extend(paths::names(&dir.containers()).into_iter().map(|c| (c, sandbox.clone())));
        }
        leftovers::remove_orphan_layers(&config, |id| containers.contains_key(id))?;
        let exe = SealedExe::new(&config.shim_exe, &config.state)?;
        let (watch, watched) = mpsc::unbounded_channel();
        Ok(Self(Arc::new(Inner {
            config,
            exe,
            cgroups: Cgroups::detect(),
            groups: Mutex::default(),
            containers: Mutex::new(containers),
            made: Mutex::new(made),
            events: broadcast::Sender::new(EVENT_BUFFER),
            watch,
            watched: tokio::sync::Mutex::new(watched),
        })))
    }

    /// Listens to the shims until cancelled; [`Runtime::events`] tells nothing unless this runs.
    pub async fn run(&self, token: CancellationToken) {
        let mut new = self.0.watched.lock().await;
        let made = self.0.made.lock().clone();
        for id in made {
            let dir = self.dir(&id);
            // The receiver is held above, so that this cannot fail.
            let _ = self.0.watch.send((id, dir));
        }
        watch::watch(&mut new, &self.0.events, token).await;
    }

    fn dir(&self, sandbox: &str) -> SandboxDir {
        SandboxDir(paths::sandboxes(&self.0.config.state).join(sandbox))
    }

    fn record(&self, sandbox: &str) -> Result<(SandboxDir, SandboxRecord), Error> {
        paths::check_id(sandbox)?;
        let dir = self.dir(sandbox);
        let record = leftovers::read_record(&dir);
        record.map(|r| (dir, r)).ok_or_else(|| Error::SandboxNotFound(sandbox.to_string()))
    }

    /// The sandbox of a container and its directory.
    fn place(&self, container: &str) -> Result<(String, SandboxDir), Error> {
        let sandbox = self.0.containers.lock().get(container).cloned();
        let sandbox = sandbox.ok_or_else(|| Error::ContainerNotFound(container.to_string()))?;
        let dir = self.dir(&sandbox);
        Ok((sandbox, dir))
    }

    async fn ask(&self, container: &str, request: Request) -> Result<Reply, Error> {
        let (sandbox, dir) = self.place(container)?;
        Connection::ask(&sandbox, &dir, &request).await
    }

    /// Makes a sandbox: cgroup, namespaces and shim.
    pub async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxStatus, Error> {
        paths::check_id(&spec.id)?;
        paths::check_cgroup(&spec.cgroup)?;
        let (id, dir) = (spec.id.clone(), self.dir(&spec.id));
        let record = SandboxRecord {
            spec: spec.clone(),
            created_at: protocol::now_ms(),
            root: self.0.config.root.clone(),
            cgroup_root: self.0.config.cgroup_root.clone(),
        };
        let inner = Arc::clone(&self.0);
        let sandbox = dir.clone();
        blocking(move || {
            fs::create_dir(&sandbox.0).map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => Error::AlreadyExists(format!("sandbox {id:?}")),
                _ => Error::io("make", &sandbox.0)(e),
            })?;
            let json = serde_json::to_vec(&record).map_err(|e| Error::Other(e.to_string()))?;
            paths::write_atomically(&sandbox.record(), &json)
                .map_err(Error::io("write", sandbox.record()))?;
            inner.exe.start_shim(&id, &sandbox).inspect_err(|_| {
                let keep = |group: &str| inner.groups.lock().contains(group);
                let removed = leftovers::end_sandbox(&sandbox, &record)
                    .and_then(|()| leftovers::remove_ended(&inner.config.root, &sandbox, &record, keep));
                if let Err(e) = removed {
                    tracing::warn!("sandbox {id}: {e}");
                }
            })
        })
        .await?;
        self.0.made.lock().insert(spec.id.clone());
        // Without `run` nobody listens, which is the caller's choice.
        let _ = self.0.watch.send((spec.id.clone(), dir));
        self.sandbox(&spec.id).await.ok_or_else(|| Error::SandboxNotFound(spec.id.clone()))
    }

    /// Kills the sandbox's containers and gives up its namespaces and shim; statuses stay. Idempotent.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok((dir, record)) = self.record(id) else {
            return Ok(());
        };
        match Connection::ask(id, &dir, &Request::Stop).await {
            Ok(_) | Err(Error::SandboxLost(_) | Error::SandboxNotFound(_)) => {}
            // A shim that does not end by itself is killed.
            Err(e) => tracing::warn!("sandbox {id}: {e}"),
        }
        blocking(move || leftovers::end_sandbox(&dir, &record)).await
    }

    /// Stops the sandbox if need be and removes all that is left of it, containers included. Idempotent.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok((dir, record)) = self.record(id) else {
            return Ok(());
        };
        self.stop_sandbox(id).await?;
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let keep = |group: &str| inner.groups.lock().contains(group);
            leftovers::remove_ended(&inner.config.root, &dir, &record, keep)
        })
        .await?;
        self.0.containers.lock().retain(|_, sandbox| sandbox != id);
        self.0.made.lock().remove(id);
        Ok(())
    }

    /// Makes a container up to the point where its program is executed.
    pub async fn create_container(
        &self,
        sandbox: &str,
        spec: &ContainerSpec,
        rootfs: &RootFs,
    ) -> Result<ContainerStatus, Error> {
        paths::check_id(&spec.id)?;
        let (dir, record) = self.record(sandbox)?;
        if let Some(profile) = spec.apparmor.clone() {
            blocking(move || apparmor::Machine::this().prepare(&profile)).await?;
        }
        {
            let mut containers = self.0.containers.lock();
            if containers.contains_key(&spec.id) {
                return Err(Error::AlreadyExists(format!("container {:?}", spec.id)));
            }
            containers.insert(spec.id.clone(), sandbox.to_string());
        }
        let request = Request::Create { spec: Box::new(spec.clone()), rootfs: rootfs.clone() };
        let created = Connection::ask(sandbox, &dir, &request).await.and_then(container_reply);
        if created.is_err() {
            let (root, id) = (self.0.config.root.clone(), spec.id.clone());
            let removed =
                blocking(move || leftovers::remove_container(&root, &dir, &record.cgroup(), &id)).await;
            if let Err(e) = removed {
                tracing::warn!("container {}: {e}", spec.id);
            }
            self.0.containers.lock().remove(&spec.id);
        }
        created
    }

    /// Executes the container's program. An error if the program cannot be executed; the container
    /// then has ended with code 128.
    pub async fn start_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        self.ask(id, Request::Start { id: id.to_string() }).await.and_then(container_reply)
    }

    /// Sends `signal` (`None`: what the spec or the image says, else SIGTERM), and SIGKILL after
    /// `grace`; returns once the container has ended. Idempotent.
    pub async fn stop_container(&self, id: &str, grace: Duration, signal: Option<&str>) -> Result<(), Error> {
        let signal = signal.map(signals::parse).transpose()?;
        match self.container(id).await {
            None => return Ok(()),
            Some(status) if status.state == ContainerState::Exited => return Ok(()),
            Some(_) => {}
        }
        match self.stop_running(id, grace, signal).await {
            // Its shim's end was its own; what is left of it is ended here.
            Err(Error::SandboxLost(sandbox)) => self.stop_sandbox(&sandbox).await,
            Err(Error::ContainerNotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn stop_running(&self, id: &str, grace: Duration, signal: Option<i32>) -> Result<(), Error> {
        let container = id.to_string();
        if !grace.is_zero() {
            self.ask(id, Request::Signal { id: container.clone(), signal, all: false }).await?;
            match tokio::time::timeout(grace, self.wait_container(id)).await {
                Ok(ended) => return ended.map(drop),
                Err(_elapsed) => {}
            }
        }
        let signal = Some(libc::SIGKILL);
        self.ask(id, Request::Signal { id: container, signal, all: true }).await?;
        self.wait_container(id).await.map(drop)
    }

    /// Waits for the end of a container.
    pub async fn wait_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        self.ask(id, Request::Wait { id: id.to_string() }).await.and_then(container_reply)
    }

    /// Kills the container if need be and removes it with its writable layer; its log stays. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Ok((sandbox, dir)) = self.place(id) else {
            return Ok(());
        };
        match self.ask(id, Request::Remove { id: id.to_string() }).await {
            Ok(_) | Err(Error::SandboxLost(_) | Error::SandboxNotFound(_) | Error::ContainerNotFound(_)) => {}
            Err(e) => return Err(e),
        }
        if let Ok((_, record)) = self.record(&sandbox) {
            let (root, container) = (self.0.config.root.clone(), id.to_string());
            blocking(move || leftovers::remove_container(&root, &dir, &record.cgroup(), &container)).await?;
        }
        self.0.containers.lock().remove(id);
        Ok(())
    }

    /// Runs a process beside the container's own.
    pub async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<ExecSession, Error> {
        let (sandbox, dir) = self.place(id)?;
        let mut connection = Connection::open(&sandbox, &dir).await?;
        connection.send(&Request::Exec { id: id.to_string(), spec: spec.clone() }).await?;
        ExecSession::open(connection).await
    }

    /// Runs a command to its end and collects its output (at most 16 MiB a stream). After `timeout`
    /// (zero: never) it is killed and [`Error::Timeout`] returned.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, Error> {
        let spec = ExecSpec { command: command.to_vec(), ..Default::default() };
        let mut session = self.exec(id, &spec).await?;
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let all = async {
            let (code, stdout, stderr) = tokio::join!(session.wait(), collect(stdout), collect(stderr));
            Ok::<_, Error>(ExecOutput { code: code?, stdout: stdout?, stderr: stderr? })
        };
        if timeout.is_zero() {
            return all.await;
        }
        match tokio::time::timeout(timeout, all).await {
            Ok(output) => output,
            Err(_elapsed) => {
                session.kill().await?;
                session.wait().await?;
                Err(Error::Timeout(timeout))
            }
        }
    }

    /// Connects to the container's standard streams. With `stdin`, the end of what is written there ends the
    /// container's input if that is `stdin_once` and no terminal, else the session.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<AttachSession, Error> {
        let (sandbox, dir) = self.place(id)?;
        AttachSession::open(&sandbox, &dir, id, stdin).await
    }

    /// Opens the container's log anew, after it was moved away.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        self.ask(id, Request::ReopenLog { id: id.to_string() }).await.map(drop)
    }

    /// All sandboxes with their containers, those included whose shim is gone.
    pub async fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.sandboxes_with("").await
    }

    /// As [`Runtime::sandboxes`], those whose id begins with `prefix`.
    pub async fn sandboxes_with(&self, prefix: &str) -> Vec<SandboxStatus> {
        let (runtime, prefix) = (self.clone(), prefix.to_owned());
        let all = tokio::task::spawn_blocking(move || {
            let ids = paths::names(&paths::sandboxes(&runtime.0.config.state));
            let wanted = ids.iter().filter(|id| id.starts_with(&prefix));
            wanted.filter_map(|id| runtime.read_sandbox(id)).collect()
        });
        // Only a panic, or a runtime that is shutting down, keeps it from answering.
        all.await.unwrap_or_default()
    }

    /// One sandbox.
    pub async fn sandbox(&self, id: &str) -> Option<SandboxStatus> {
        self.read_sandbox(id)
    }

    fn read_sandbox(&self, id: &str) -> Option<SandboxStatus> {
        let (dir, record) = self.record(id).ok()?;
        let containers = paths::names(&dir.containers());
        Some(SandboxStatus {
            id: id.to_string(),
            labels: record.spec.labels.clone(),
            ready: !dir.stopped().exists() && shim::holder(&dir).is_some(),
            created_at: record.created_at,
            netns: (!record.spec.host_network).then(|| dir.netns()),
            containers: containers.iter().filter_map(|id| leftovers::read_status(&dir, id)).collect(),
        })
    }

    /// One container.
    pub async fn container(&self, id: &str) -> Option<ContainerStatus> {
        let (_, dir) = self.place(id).ok()?;
        leftovers::read_status(&dir, id)
    }

    /// The directory of what a container wrote to its root file system, on disk; it need not exist.
    pub fn writable_layer(&self, container: &str) -> PathBuf {
        paths::layers(&self.0.config.root).join(container).join("upper")
    }

    /// What happens by itself from now on; [`Runtime::run`] must be running. An event may be told
    /// twice, and receivers that lag lose some: [`Runtime::sandboxes`] has the truth.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.0.events.subscribe()
    }

    /// A path that opens the sandbox's network namespace; `None` with the host's or without such a sandbox.
    pub fn netns_of(&self, sandbox: &str) -> Option<PathBuf> {
        let (dir, record) = self.record(sandbox).ok()?;
        (!record.spec.host_network).then(|| dir.netns())
    }

    /// Ends every shim and container of this installation and removes mounts, cgroups and state.
    /// Needs no open runtime; other installations are not touched.
    pub async fn cleanup_all(config: &RuntimeConfig) -> Result<(), Error> {
        check_config(config)?;
        let mut config = config.clone();
        blocking(move || {
            for dir in [&mut config.root, &mut config.state] {
                // What does not exist has nothing mounted below it.
                *dir = fs::canonicalize(&dir).unwrap_or_else(|_| dir.clone());
            }
            leftovers::remove_all(&config)
        })
        .await
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

fn check_config(config: &RuntimeConfig) -> Result<(), Error> {
    paths::check_cgroup(&config.cgroup_root)?;
    if config.cgroup_root.trim_matches('/').is_empty() {
        return Err(Error::Invalid("the runtime's cgroup must have a name".into()));
    }
    Ok(())
}

fn container_reply(reply: Reply) -> Result<ContainerStatus, Error> {
    match reply {
        Reply::Container(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

async fn collect(stream: Option<Reader>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else {
        return Ok(bytes);
    };
    let failed = |e: std::io::Error| Error::Other(format!("output of a command: {e}"));
    (&mut stream).take(MAX_OUTPUT).read_to_end(&mut bytes).await.map_err(failed)?;
    // The rest is read, so that the command does not block, and dropped.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map_err(failed)?;
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Other(e.to_string()))?
}
