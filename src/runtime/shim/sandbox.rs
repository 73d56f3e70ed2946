//! What the containers of a sandbox share: namespaces, `/dev/shm`, and the process that keeps a
//! shared PID namespace alive.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Gid, Pid, Uid, pause, setgroups, setresgid, setresuid};
use oci_spec::runtime::LinuxNamespaceType as Ns;

use crate::runtime::error::Error;
use crate::runtime::paths::SandboxDir;
use crate::runtime::spec::SandboxSpec;
use crate::runtime::sys;

/// Size of `/dev/shm`, as Docker's and containerd's.
const SHM_SIZE: &str = "mode=1777,size=67108864";
/// User and group of the pause process.
const NOBODY: u32 = 65535;

/// The shared things of a sandbox.
pub struct Shared {
    dir: SandboxDir,
    namespaces: Vec<Namespace>,
    host_ipc: bool,
    /// Process 1 of the shared PID namespace.
    pub pause: Option<Pid>,
}

/// A namespace of the sandbox's own, which lives as long as it is open.
struct Namespace {
    typ: Ns,
    file: File,
}

impl Shared {
    /// Makes them. Nothing else may run in this process meanwhile: its own namespaces change.
    pub fn make(spec: &SandboxSpec, dir: &SandboxDir) -> Result<Self, Error> {
        let mut kinds = Vec::new();
        let mut flags = CloneFlags::empty();
        if !spec.host_network {
            kinds.push((Ns::Network, "net"));
            kinds.push((Ns::Uts, "uts"));
            flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
        }
        if !spec.host_ipc {
            kinds.push((Ns::Ipc, "ipc"));
            flags |= CloneFlags::CLONE_NEWIPC;
            make_shm(&dir.shm()).map_err(Error::io("mount", dir.shm()))?;
        }
        let mut host = Vec::new();
        for (_, kind) in &kinds {
            let path = format!("/proc/self/ns/{kind}");
            host.push(File::open(&path).map_err(Error::io("open", &path))?);
        }
        unshare(flags).map_err(|e| Error::Other(format!("unshare {flags:?}: {e}")))?;
        let made = configure(spec).and_then(|()| hold(dir, &kinds));
        for file in &host {
            setns(file, CloneFlags::empty()).map_err(|e| Error::Other(format!("setns: {e}")))?;
        }
        let namespaces = made?;
        let pause = (spec.share_pid && !spec.host_pid).then(start_pause).transpose();
        let pause = pause.map_err(|e| Error::Other(format!("pause process: {e}")))?;
        Ok(Self { dir: dir.clone(), namespaces, host_ipc: spec.host_ipc, pause })
    }

    /// A path that opens the namespace a container is to join.
    pub fn namespace(&self, typ: Ns) -> Option<PathBuf> {
        if typ == Ns::Pid {
            return self.pause.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
        }
        let namespace = self.namespaces.iter().find(|n| n.typ == typ)?;
        let fd = namespace.file.as_raw_fd();
        Some(PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id())))
    }

    /// What containers see as `/dev/shm`.
    pub fn shm(&self) -> PathBuf {
        if self.host_ipc { PathBuf::from("/dev/shm") } else { self.dir.shm() }
    }
}

fn make_shm(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("shm"), dir, Some("tmpfs"), flags, Some(SHM_SIZE))?)
}

/// Sets up the new namespaces this process is in.
fn configure(spec: &SandboxSpec) -> Result<(), Error> {
    if !spec.host_network {
        sys::loopback_up().map_err(|e| Error::Other(format!("bring up lo: {e}")))?;
        if !spec.hostname.is_empty() {
            nix::unistd::sethostname(&spec.hostname)
                .map_err(|e| Error::Other(format!("set host name {:?}: {e}", spec.hostname)))?;
        }
        // containerd's defaults: ping and low ports without privileges.
        for (name, value) in [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")] {
            let file = format!("/proc/sys/net/ipv4/{name}");
            if let Err(e) = fs::write(&file, value) {
                tracing::warn!("write {file}: {e}");
            }
        }
    }
    for (name, value) in &spec.sysctls {
        let name = dotted(name);
        check_sysctl(spec, &name)?;
        // Dots that are part of a name, such as an interface's, are slashes in the dotted form.
        let path = swapped(&name);
        let file = Path::new("/proc/sys").join(path);
        fs::write(&file, value).map_err(Error::io("write", &file))?;
    }
    Ok(())
}

/// Dots for slashes, and slashes for dots.
fn swapped(name: &str) -> String {
    let other = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    name.chars().map(other).collect()
}

/// A parameter's name with dots between its parts: sysctl(8) takes slashes as well, by which one comes first.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => swapped(name),
        _ => name.to_owned(),
    }
}

/// Only parameters of a namespace that is the sandbox's own may be set.
fn check_sysctl(spec: &SandboxSpec, name: &str) -> Result<(), Error> {
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| name.starts_with(p));
    let plain = name.split('.').all(|part| !part.is_empty() && part.chars().any(|c| c != '/'));
    let own = (name.starts_with("net.") && !spec.host_network) || (ipc && !spec.host_ipc);
    if plain && own {
        return Ok(());
    }
    Err(Error::Invalid(format!("sysctl {name:?} is not allowed: it is not of a namespace of the pod's own")))
}

/// Opens this process's namespaces, which keeps them alive. The network's is bound to a file as well, for
/// those who set it up; the others are not: whatever is mounted makes each look at the mounts slower,
/// and libcontainer takes many with cgroup version 1.
fn hold(dir: &SandboxDir, kinds: &[(Ns, &str)]) -> Result<Vec<Namespace>, Error> {
    let mut held = Vec::new();
    for (typ, kind) in kinds {
        let path = format!("/proc/self/ns/{kind}");
        if *typ == Ns::Network {
            pin(Path::new(&path), &dir.netns())?;
        }
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        held.push(Namespace { typ: *typ, file });
    }
    Ok(held)
}

fn pin(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
    }
    File::create(to).map_err(Error::io("make", to))?;
    let bound = mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.map_err(|e| Error::io("pin namespace on", to)(e.into()))
}

/// Starts process 1 of a new PID namespace. It can see and do nothing, and nothing in the pod can
/// end it: it has no handlers, and as process 1 ignores signals without.
fn start_pause() -> io::Result<Pid> {
    match sys::fork_pid_namespace()? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = match be_pause() {
                Ok(()) => 0,
                Err(e) => {
                    tracing::error!("pause process: {e}");
                    1
                }
            };
            sys::exit_now(code)
        }
    }
}

fn be_pause() -> io::Result<()> {
    nix::sys::prctl::set_name(c"pause")?;
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // An own, empty and read-only root: /proc/1/root inside the pod must not be the host's.
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0,mode=555"))?;
    nix::unistd::chdir("/proc")?;
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    // Orphans of the pod become its children; ignoring SIGCHLD reaps them.
    sys::ignore_signal(Signal::SIGCHLD)?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        sys::reset_signal(signal)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    setgroups(&[])?;
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
    setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
    // Changing the user cleared it and made the process dumpable again, where the kernel says so.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::prctl::set_dumpable(false)?;
    sys::close_from(0)?;
    loop {
        pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_parameters() {
        let spec = SandboxSpec::default();
        for good in ["net.core.somaxconn", "kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max"] {
            check_sysctl(&spec, good).unwrap();
        }
        for (name, with_dots) in [
            ("net/core/somaxconn", "net.core.somaxconn"),
            ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
            ("plain", "plain"),
        ] {
            assert_eq!(dotted(name), with_dots);
        }
        for bad in ["kernel.panic", "vm.swappiness", "net.//.kernel.panic", "net..x", "fs.file-max"] {
            assert!(check_sysctl(&spec, bad).is_err(), "{bad}");
        }
        let host = SandboxSpec { host_network: true, host_ipc: true, ..Default::default() };
        assert!(check_sysctl(&host, "net.core.somaxconn").is_err());
        assert!(check_sysctl(&host, "kernel.shmmax").is_err());
    }
}
