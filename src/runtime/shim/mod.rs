//! The shim: one small process a pod, holder of its namespaces and parent of its containers.
//!
//! It has one thread and no asynchronous runtime, because libcontainer forks (its children must
//! find no lock held) and because a thousand of them must cost little. It is started by kedge, leaves
//! its session and cgroup, and then lives until it is told to stop or its machine does: kedge may be
//! killed, restarted or upgraded meanwhile. Everything it knows is told over a Unix socket and, so
//! that its own death loses nothing, written to status files.

mod container;
mod detail;
mod device_filter;
mod exec;
mod executor;
mod in_root;
mod io;
mod late;
mod log;
mod oci;
mod overlay;
mod sandbox;
mod seccomp;
mod server;
mod user;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, dup2, setsid};

use super::cgroup::Cgroups;
use super::error::Error;
use super::paths::SandboxDir;
use super::protocol::SandboxRecord;
use super::spec::Resources;
use super::sys;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use container::Context;
use device_filter::DeviceFilter;
use oci::Caps;
use sandbox::Shared;
use server::Server;

/// What kedge reads when the shim is ready; anything else is an error message.
pub(crate) const READY: &str = "ready";

/// Below every container, so that the kernel takes those first.
const OOM_SCORE: &str = "-998";

/// Entry point of the hidden `shim` sub-command; the one argument is the sandbox's directory. To be
/// called first thing in `main`, before any thread exists. Success or failure is told on standard
/// output by the process that stays behind.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let first = args.next();
    if first.as_deref().is_some_and(|f| f == late::COMMAND) {
        return late::main(args);
    }
    let Some(dir) = first.map(|d| SandboxDir(PathBuf::from(d))) else {
        eprintln!("usage: kedge shim DIRECTORY; started by kedge itself, not by people");
        return ExitCode::from(2);
    };
    match daemonise() {
        Ok(false) => return ExitCode::SUCCESS,
        Ok(true) => {}
        Err(e) => {
            println!("daemonise: {e}");
            return ExitCode::FAILURE;
        }
    }
    match prepare(dir).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Before it was ready kedge reads this; afterwards it goes nowhere, and the log has it.
            println!("{error}");
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the session and the family of the caller; `true` in the process that stays.
fn daemonise() -> std::io::Result<bool> {
    sys::close_from(3)?;
    setsid()?;
    if let ForkResult::Parent { .. } = sys::fork()? {
        return Ok(false);
    }
    nix::sys::prctl::set_name(c"kedge-shim")?;
    std::env::set_current_dir("/")?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(true)
}

fn prepare(dir: SandboxDir) -> Result<Server, Error> {
    log_to(&dir)?;
    let record = fs::read(dir.record()).map_err(Error::io("read", dir.record()))?;
    let record: SandboxRecord = serde_json::from_slice(&record).map_err(|e| Error::Other(e.to_string()))?;
    lock(&dir)?;
    let signals = block_signals()?;
    // Orphans of containers without a PID namespace of their own are reaped here.
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| Error::Other(format!("subreaper: {e}")))?;
    if let Err(e) = fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::warn!("write {OOM_SCORE} to /proc/self/oom_score_adj: {e}");
    }
    let cgroups = Cgroups::detect();
    let own = format!("{}/shims", record.cgroup_root.trim_matches('/'));
    cgroups.create(&own, &Resources::default());
    cgroups.join(&own, std::process::id());
    cgroups.create(&record.cgroup(), &record.spec.resources);
    let shared = Shared::make(&record.spec, &dir)?;
    let listener = listen(&dir)?;
    let context = Context {
        device_filter: device_filter(&cgroups),
        limit: Caps::of_this_process(),
        record,
        dir,
        cgroups,
        shared,
    };
    Ok(Server::new(context, listener, signals))
}

/// Version 1 has a controller for devices; version 2 needs a program.
fn device_filter(cgroups: &Cgroups) -> Option<DeviceFilter> {
    if !cgroups.is_v2() {
        return None;
    }
    let filter = DeviceFilter::load();
    filter.inspect_err(|e| tracing::warn!("no device filter: {e}; containers go without CAP_MKNOD")).ok()
}

fn serve(server: Server) -> Result<(), Error> {
    let told = writeln!(std::io::stdout(), "{READY}").and_then(|()| std::io::stdout().flush());
    told.map_err(|e| Error::Other(format!("report to kedge: {e}")))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(Error::io("open", "/dev/null"))?;
    for fd in 0..3 as RawFd {
        dup2(null.as_raw_fd(), fd).map_err(|e| Error::Other(format!("close standard streams: {e}")))?;
    }
    server.run().map_err(|e| Error::Other(format!("poll: {e}")))
}

/// Warnings go to the sandbox's directory. Not to standard error: in a new container's process that
/// is already the container's.
fn log_to(dir: &SandboxDir) -> Result<(), Error> {
    let file = OpenOptions::new().create(true).append(true).open(dir.log());
    let file = file.map_err(Error::io("open", dir.log()))?;
    let quiet = ["libcontainer", "libcgroups"].map(|target| (target, Level::ERROR));
    let filter = Targets::new().with_default(Level::WARN).with_targets(quiet);
    let writer = Mutex::new(Capped(file));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// A log that starts over when it is long: it lies in memory, and the shim lives long.
struct Capped(File);

const MAX_LOG: u64 = 256 * 1024;

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.metadata()?.len() > MAX_LOG {
            self.0.set_len(0)?;
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Holds a lock that tells kedge who the shim is and that it lives. It is not inherited by forks.
fn lock(dir: &SandboxDir) -> Result<(), Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.lock());
    let file: File = file.map_err(Error::io("open", dir.lock()))?;
    let wanted = whole_file(libc::F_WRLCK);
    let locked = fcntl(file.as_raw_fd(), FcntlArg::F_SETLK(&wanted));
    locked.map_err(|e| Error::io("lock", dir.lock())(e.into()))?;
    // Open for as long as the process lives: closing it would give the lock up.
    std::mem::forget(file);
    Ok(())
}

/// The process that holds a shim's lock: the shim, if it lives.
pub(crate) fn holder(dir: &SandboxDir) -> Option<i32> {
    let file = OpenOptions::new().write(true).open(dir.lock()).ok()?;
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file.as_raw_fd(), FcntlArg::F_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Children that ended are read from a descriptor. What would end the shim is ignored: it goes when
/// kedge says so, or with SIGKILL.
fn block_signals() -> Result<SignalFd, Error> {
    let failed = |e: nix::Error| Error::Other(format!("signals: {e}"));
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(failed)?;
    let mut others = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        others.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&others), None).map_err(failed)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)
}

fn listen(dir: &SandboxDir) -> Result<UnixListener, Error> {
    let bind = || {
        // Named through a descriptor: addresses of sockets are short.
        let handle = File::open(&dir.0)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/shim.sock", handle.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(Error::io("listen on", dir.socket()))
}
