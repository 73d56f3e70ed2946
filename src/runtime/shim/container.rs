//! One container of the shim: made and started by libcontainer, ended by the kernel.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::Container as Libcontainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Gid, Pid, Uid, fchown};
use oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType as Ns, Process};

use super::detail::Attempt;
use super::device_filter::{Allowed, DeviceFilter};
use super::executor::{Outcome, executor};
use super::in_root::InRoot;
use super::io::Streams;
use super::late;
use super::log::Log;
use super::oci::{self, Caps};
use super::sandbox::Shared;
use super::seccomp::Filters;
use super::{overlay, user};
use crate::runtime::cgroup::Cgroups;
use crate::runtime::error::Error;
use crate::runtime::paths::{self, SandboxDir};
use crate::runtime::protocol::{SandboxRecord, now_ms};
use crate::runtime::rootfs::RootFs;
use crate::runtime::spec::{ContainerSpec, ContainerState, ContainerStatus, ContainerUser};
use crate::runtime::{signals, sys};

/// Exit code of a container whose program could not be executed, as containerd reports it.
pub const START_FAILED: i32 = 128;

/// What all containers of a shim need.
pub struct Context {
    /// The sandbox as it was asked for.
    pub record: SandboxRecord,
    /// Its directory.
    pub dir: SandboxDir,
    /// The machine's cgroups.
    pub cgroups: Cgroups,
    /// What the containers share.
    pub shared: Shared,
    /// What this process may give to containers.
    pub limit: Caps,
    /// Decides on their use of devices, with cgroup version 2.
    pub device_filter: Option<DeviceFilter>,
}

/// A container from its creation until it is removed.
pub struct Container {
    /// What is known of it; also in its status file.
    pub status: ContainerStatus,
    /// Its standard streams.
    pub streams: Streams,
    /// The process an exec is derived from.
    pub process: Process,
    /// System call filters of its processes.
    pub filters: Rc<Filters>,
    /// Capabilities of its programs.
    pub caps: Caps,
    /// Its cgroup.
    pub cgroup: String,
    /// `/proc/<pid>/oom_score_adj` of its processes.
    pub oom_score_adj: i32,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    handle: Libcontainer,
    outcome: Option<Outcome>,
}

/// Standard streams as the container's process gets them.
struct ProcessEnds {
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
}

impl Context {
    /// What a container may have at most. Where nothing else keeps it from the host's disks it may
    /// not make their device nodes.
    fn limit_of(&self, spec: &ContainerSpec) -> Caps {
        let controlled = match &self.cgroups {
            Cgroups::V1(_) => self.cgroups.dir("devices", "").is_some(),
            Cgroups::V2(_) => self.device_filter.is_some(),
        };
        if controlled || spec.privileged { self.limit } else { self.limit.without("MKNOD") }
    }

    /// The cgroup of a container.
    pub fn cgroup_of(&self, id: &str) -> String {
        format!("{}/{id}", self.record.cgroup())
    }

    /// A builder for a container of this sandbox.
    pub fn builder(&self, id: &str) -> Result<ContainerBuilder, Error> {
        let state = self.dir.libcontainer();
        fs::create_dir_all(&state).map_err(Error::io("make", &state))?;
        let builder = ContainerBuilder::new(id.to_string(), SyscallType::default());
        builder.with_root_path(state).map_err(failed)
    }
}

impl Container {
    /// Makes a container up to the point where its program is executed.
    ///
    /// `pid_of`: a process whose PID namespace it joins.
    pub fn create(
        context: &Context,
        spec: &ContainerSpec,
        rootfs: &RootFs,
        pid_of: Option<Pid>,
    ) -> Result<Self, Error> {
        paths::check_id(&spec.id)?;
        let bundle = context.dir.container(&spec.id);
        fs::create_dir_all(context.dir.containers()).map_err(Error::io("make", context.dir.containers()))?;
        fs::create_dir(&bundle).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists(format!("container {:?}", spec.id)),
            _ => Error::io("make", &bundle)(e),
        })?;
        Self::create_in(context, spec, rootfs, &bundle, pid_of).inspect_err(|_| {
            // What else was made is named by the id and removed by kedge.
            if let Err(e) = overlay::unmount(&context.dir.rootfs(&spec.id)) {
                tracing::warn!("unmount {}: {e}", bundle.display());
            }
        })
    }

    fn create_in(
        context: &Context,
        spec: &ContainerSpec,
        image: &RootFs,
        bundle: &Path,
        pid_of: Option<Pid>,
    ) -> Result<Self, Error> {
        let stop_signal = spec.stop_signal.as_ref().or(image.config.stop_signal.as_ref());
        let stop_signal = signals::parse(stop_signal.map_or("SIGTERM", String::as_str))?;
        let rootfs = context.dir.rootfs(&spec.id);
        let layer = paths::layers(&context.record.root).join(&spec.id);
        overlay::mount(&image.lower, &layer, &rootfs).map_err(Error::io("mount the layers on", &rootfs))?;
        let root = InRoot::open(&rootfs).map_err(Error::io("open", &rootfs))?;
        let wanted = user::Wanted {
            image: &image.config.user,
            uid: spec.uid,
            gid: spec.gid,
            groups: &spec.supplemental_groups,
            strict: spec.strict_groups,
        };
        let identity = user::resolve(&root, &wanted)?;
        let cwd = oci::working_dir(spec, &image.config);
        root.make_dirs(&cwd)
            .map_err(|e| Error::Start(format!("mkdir {}: {}", cwd.display(), in_words(&e))))?;
        let cgroup = context.cgroup_of(&spec.id);
        context.cgroups.create(&cgroup, &spec.resources);
        restrict_devices(context, spec, &cgroup)?;
        let limit = context.limit_of(spec);
        let mounts =
            oci::image_volumes(spec, &image.config, &root).map_err(Error::io("make volumes in", &rootfs))?;
        let spec = &ContainerSpec { mounts, ..spec.clone() };
        let inputs = oci::Inputs {
            spec,
            image: &image.config,
            sandbox: &context.record.spec,
            identity: &identity,
            rootfs: &rootfs,
            namespaces: &|typ| match pid_of {
                Some(pid) if typ == Ns::Pid => Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))),
                _ => context.shared.namespace(typ),
            },
            shm: &context.shared.shm(),
            cgroup: &cgroup,
            cgroups: &context.cgroups,
            limit,
        };
        let mut oci = oci::spec(&inputs)?;
        late::arrange(&mut oci, spec, &rootfs, bundle)?;
        oci.save(bundle.join("config.json")).map_err(|e| Error::Other(e.to_string()))?;
        let process = oci.process().clone().unwrap_or_default();
        let caps = oci::capabilities(spec, limit)?;
        let filters = Rc::new(Filters::compile(&spec.seccomp, caps)?);
        let log_path = context.record.spec.log_dir.join(&spec.log_path);
        let log = Log::open(&log_path, spec.log_max_bytes, spec.log_max_files)
            .map_err(Error::io("open log", &log_path))?;
        let status = ContainerStatus {
            id: spec.id.clone(),
            sandbox: context.record.spec.id.clone(),
            labels: spec.labels.clone(),
            image: spec.image.clone(),
            state: ContainerState::Created,
            pid: None,
            created_at: now_ms(),
            started_at: None,
            finished_at: None,
            exit_code: None,
            signal: None,
            oom_killed: false,
            log_path,
            user: Some(ContainerUser {
                uid: identity.uid,
                gid: identity.gid,
                groups: identity.groups.clone(),
            }),
            stop_signal: Some(signals::name(stop_signal)),
        };
        let (exec, outcome) = executor(Rc::clone(&filters), caps).map_err(|e| Error::Other(e.to_string()))?;
        let builder = context.builder(&spec.id)?.with_executor(exec);
        let owner = (identity.uid, identity.gid);
        let attempt = Attempt::begin(&context.dir);
        let built = build(builder, spec, bundle, owner, log);
        let (handle, streams) = built.map_err(|e| attempt.explain(e))?;
        let mut container = Self {
            status,
            streams,
            process,
            filters,
            caps,
            cgroup,
            oom_score_adj: spec.oom_score_adj,
            stop_signal,
            handle,
            outcome: Some(outcome),
        };
        container.status.pid = container.handle.pid().map(|p| p.as_raw() as u32);
        set_oom_score(container.pid(), spec.oom_score_adj);
        container.save(&context.dir);
        Ok(container)
    }

    /// Its first process, while it has one.
    pub fn pid(&self) -> Option<Pid> {
        self.status.pid.map(|p| Pid::from_raw(p as i32))
    }

    /// Fails unless it is in the state that `action` needs.
    pub fn expect(&self, state: ContainerState, action: &str) -> Result<(), Error> {
        if self.status.state == state {
            return Ok(());
        }
        Err(self.unfit(&format!("{:?}", self.status.state).to_lowercase(), action))
    }

    /// The error of a container that is in a state in which `action` cannot be.
    pub fn unfit(&self, state: &str, action: &str) -> Error {
        Error::State { id: self.status.id.clone(), state: state.to_string(), action: action.to_string() }
    }

    /// Its first process has ended, which is not yet taken note of.
    pub fn is_ending(&self) -> bool {
        let pidfd = self.pid().and_then(|pid| sys::pidfd_open(pid.as_raw()).ok());
        pidfd.is_none_or(|fd| sys::has_exited(&fd))
    }

    /// Executes the program of a container that was created. After an error it is for the caller to
    /// end what is left of it.
    pub fn start(&mut self, context: &Context) -> Result<(), Error> {
        let started = self.handle.start().map_err(failed);
        let outcome = self.outcome.take().map_or(Ok(()), Outcome::wait);
        // The executor knows better than libcontainer what went wrong.
        outcome.map_err(Error::Start).and(started)?;
        self.status.started_at = Some(now_ms());
        self.status.state = ContainerState::Running;
        self.save(&context.dir);
        Ok(())
    }

    /// Records its end: `code` as a shell would see it.
    pub fn ended(&mut self, context: &Context, code: i32, signal: Option<i32>) {
        // Without a PID namespace of its own, others may be left.
        if let Err(e) = context.cgroups.kill(&self.cgroup) {
            tracing::warn!("container {}: {e}", self.status.id);
        }
        self.streams.finish();
        self.status.oom_killed = context.cgroups.oom_kills(&self.cgroup) > 0;
        self.status.state = ContainerState::Exited;
        self.status.pid = None;
        self.status.exit_code = Some(code);
        self.status.signal = signal;
        self.status.finished_at = Some(now_ms());
        self.save(&context.dir);
    }

    fn save(&self, dir: &SandboxDir) {
        let file = dir.status(&self.status.id);
        let bytes = serde_json::to_vec(&self.status).unwrap_or_default();
        if let Err(e) = paths::write_atomically(&file, &bytes) {
            tracing::error!("write {}: {e}", file.display());
        }
    }
}

/// A refusal of the operating system as people know it, without Rust's number of it.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// With cgroup version 2 libcontainer sets no rules; version 1 it does itself.
fn restrict_devices(context: &Context, spec: &ContainerSpec, cgroup: &str) -> Result<(), Error> {
    let (Some(filter), false) = (&context.device_filter, spec.privileged) else {
        return Ok(());
    };
    let Some(dir) = context.cgroups.dir("", cgroup) else {
        return Ok(());
    };
    let asked = oci::asked_for(spec)?;
    let number = |n: i64| i32::try_from(n).map_err(|_| Error::Invalid(format!("device number {n}")));
    let mut allowed = Vec::new();
    for device in &asked {
        let block = device.typ == LinuxDeviceType::B;
        let (major, minor) = (number(device.major)?, number(device.minor)?);
        allowed.push(Allowed { block, major, minor, readonly: device.readonly });
    }
    let attached = if allowed.is_empty() {
        filter.attach(&dir)
    } else {
        DeviceFilter::load_with(&allowed).and_then(|own| own.attach(&dir))
    };
    attached.map_err(Error::io("restrict the devices of", &dir))
}

/// Runs libcontainer's part of the creation.
fn build(
    builder: ContainerBuilder,
    spec: &ContainerSpec,
    bundle: &Path,
    owner: (u32, u32),
    log: Log,
) -> Result<(Libcontainer, Streams), Error> {
    if spec.tty {
        let console = Console::listen(bundle)?;
        let builder = builder.with_console_socket(Some(&console.path));
        let handle = init(builder, bundle)?;
        let streams = Streams::terminal(log, console.accept()?, spec.stdin, spec.stdin_once);
        return Ok((handle, streams.map_err(|e| Error::Other(e.to_string()))?));
    }
    let (ends, streams) = pipes(spec, owner, log).map_err(|e| Error::Other(format!("pipes: {e}")))?;
    let builder = builder.with_stdin(ends.input).with_stdout(ends.output).with_stderr(ends.errors);
    Ok((init(builder, bundle)?, streams))
}

fn init(builder: ContainerBuilder, bundle: &Path) -> Result<Libcontainer, Error> {
    builder.as_init(bundle).with_systemd(false).with_detach(true).build().map_err(failed)
}

fn pipes(spec: &ContainerSpec, owner: (u32, u32), log: Log) -> io::Result<(ProcessEnds, Streams)> {
    let (read, write) = if spec.stdin {
        let (read, write) = owned_pipe(owner)?;
        (read, Some(write))
    } else {
        (OwnedFd::from(fs::File::open("/dev/null")?), None)
    };
    let (out, output) = owned_pipe(owner)?;
    let (err, errors) = owned_pipe(owner)?;
    let streams = Streams::pipes(log, write, out, err, spec.stdin_once)?;
    Ok((ProcessEnds { input: read, output, errors }, streams))
}

/// A pipe that a process of this user may open again through `/dev/stdout`.
pub fn owned_pipe((uid, gid): (u32, u32)) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fchown(write.as_raw_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok((read, write))
}

/// A socket on which libcontainer hands over the master of a new terminal.
pub struct Console {
    /// Where it listens.
    pub path: PathBuf,
    listener: UnixListener,
}

impl Console {
    /// Listens in a directory.
    pub fn listen(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("console.sock");
        // Named through a descriptor: addresses of sockets are short.
        let handle = fs::File::open(dir).map_err(Error::io("open", dir))?;
        let short = format!("/proc/self/fd/{}/console.sock", handle.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(Error::io("listen on", &path))?;
        Ok(Self { path, listener })
    }

    /// Takes the terminal, once libcontainer is done.
    pub fn accept(&self) -> Result<OwnedFd, Error> {
        let receive = || -> io::Result<Option<OwnedFd>> {
            let (socket, _) = self.listener.accept()?;
            let mut name = [0; 4096];
            Ok(sys::recv_with_fds(&socket.as_fd(), &mut name)?.1.pop())
        };
        let terminal = receive().map_err(Error::io("accept on", &self.path))?;
        terminal.ok_or_else(|| Error::Other("no terminal came from the container".into()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

const OWN_SCORE: &str = "/proc/self/oom_score_adj";

/// Sets what the out-of-memory killer thinks of a process. libcontainer would set it for the shim.
pub fn set_oom_score(pid: Option<Pid>, score: i32) {
    let Some(pid) = pid else { return };
    let file = format!("/proc/{pid}/oom_score_adj");
    if let Err(e) = fs::write(&file, score.to_string()) {
        tracing::warn!("write {score} to {file}: {e}");
    }
}

/// The shim's own `oom_score_adj`, set to another value while it makes processes that inherit it.
pub struct OwnScore(String);

impl OwnScore {
    /// Sets it until dropped.
    pub fn lend(score: i32) -> Option<Self> {
        let before = fs::read_to_string(OWN_SCORE).ok()?;
        match fs::write(OWN_SCORE, score.to_string()) {
            Ok(()) => Some(Self(before.trim().to_owned())),
            Err(e) => {
                tracing::warn!("write {score} to {OWN_SCORE}: {e}");
                None
            }
        }
    }
}

impl Drop for OwnScore {
    fn drop(&mut self) {
        if let Err(e) = fs::write(OWN_SCORE, &self.0) {
            tracing::warn!("write {} to {OWN_SCORE}: {e}", self.0);
        }
    }
}

/// Exit code and signal of a process that has ended.
pub fn exit_code(status: WaitStatus) -> Option<(i32, Option<i32>)> {
    match status {
        WaitStatus::Exited(_, code) => Some((code, None)),
        WaitStatus::Signaled(_, signal, _) => Some((128 + signal as i32, Some(signal as i32))),
        _ => None,
    }
}

/// libcontainer's error with all its causes.
pub fn failed(error: LibcontainerError) -> Error {
    let mut text = error.to_string();
    // What it could not clean up is removed by kedge.
    if let Some(end) = text.find(". error during cleanup") {
        text.truncate(end);
    }
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    Error::Start(text)
}
