//! The OCI runtime specification of a container, with containerd's defaults.

mod caps;
mod devices;
mod mounts;

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Ns, Process,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::user::Identity;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::error::Error;
use crate::runtime::rootfs::ImageConfig;
use crate::runtime::spec::{ContainerSpec, Propagation, SandboxSpec, Seccomp};

pub use caps::Caps;
pub use devices::asked_for;
pub use mounts::image_volumes;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where processors are.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Hidden from unprivileged containers, as by kubelet and containerd.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Read-only in unprivileged containers, as by containerd.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All that a specification is made of.
pub struct Inputs<'a> {
    /// The container.
    pub spec: &'a ContainerSpec,
    /// How its image wants to be run.
    pub image: &'a ImageConfig,
    /// Its sandbox.
    pub sandbox: &'a SandboxSpec,
    /// Who its process is.
    pub identity: &'a Identity,
    /// Mount point of its root file system.
    pub rootfs: &'a Path,
    /// Where the sandbox's namespaces are, by kind.
    pub namespaces: &'a dyn Fn(Ns) -> Option<PathBuf>,
    /// What is `/dev/shm`.
    pub shm: &'a Path,
    /// Its cgroup, from the root of the hierarchy.
    pub cgroup: &'a str,
    /// The machine's cgroups.
    pub cgroups: &'a Cgroups,
    /// What this process may at most give.
    pub limit: Caps,
}

/// The program and its arguments: the specification's, else the image's (Kubernetes' rules for
/// `command` and `args`). An error if there is none.
pub fn command(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let mut all = if spec.command.is_empty() { image.entrypoint.clone() } else { spec.command.clone() };
    if !spec.args.is_empty() {
        all.extend(spec.args.iter().cloned());
    } else if spec.command.is_empty() {
        all.extend(image.cmd.iter().cloned());
    }
    if all.is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    Ok(all)
}

/// Where its process starts.
pub fn working_dir(spec: &ContainerSpec, image: &ImageConfig) -> PathBuf {
    let given = spec.working_dir.as_deref().filter(|d| !d.is_empty());
    let dir = given.unwrap_or(&image.working_dir);
    Path::new("/").join(dir)
}

/// The environment: defaults, the image's, the specification's; the last of one name wins.
fn environment(inputs: &Inputs) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match all.iter_mut().find(|(n, _)| n == name) {
        Some(entry) => entry.1 = value.to_string(),
        None => all.push((name.to_string(), value.to_string())),
    };
    if let Some((name, value)) = PATH.split_once('=') {
        set(name, value);
    }
    if !inputs.sandbox.hostname.is_empty() {
        set("HOSTNAME", &inputs.sandbox.hostname);
    }
    set("HOME", &inputs.identity.home);
    if inputs.spec.tty {
        set("TERM", "xterm");
    }
    for entry in &inputs.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for (name, value) in &inputs.spec.env {
        set(name, value);
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The capabilities its program has; more may be needed to get there, see [`Caps::to_start`].
pub fn capabilities(spec: &ContainerSpec, limit: Caps) -> Result<Caps, Error> {
    if spec.privileged {
        return Ok(limit);
    }
    Ok(caps::wanted(&spec.add_capabilities, &spec.drop_capabilities).and(limit))
}

/// The process of a container, also of an exec with another command line.
pub fn process(inputs: &Inputs) -> Result<Process, Error> {
    let spec = inputs.spec;
    let user = UserBuilder::default()
        .uid(inputs.identity.uid)
        .gid(inputs.identity.gid)
        .additional_gids(inputs.identity.groups.clone())
        .build()
        .map_err(invalid)?;
    let caps = capabilities(spec, inputs.limit)?;
    let caps = if spec.seccomp == Seccomp::Unconfined { caps } else { caps.to_start(inputs.limit) };
    let mut process = ProcessBuilder::default()
        .terminal(spec.tty)
        .user(user)
        .args(command(spec, inputs.image)?)
        .env(environment(inputs))
        .cwd(working_dir(spec, inputs.image))
        .capabilities(caps.to_oci())
        .build()
        .map_err(invalid)?;
    process.set_rlimits(None).set_oom_score_adj(None);
    // Written out as `false` it would be taken for a wish.
    process.set_no_new_privileges(spec.no_new_privileges.then_some(true));
    process.set_apparmor_profile(spec.apparmor.clone());
    Ok(process)
}

/// The whole specification.
pub fn spec(inputs: &Inputs) -> Result<Spec, Error> {
    let root = RootBuilder::default()
        .path(inputs.rootfs)
        .readonly(inputs.spec.readonly_rootfs)
        .build()
        .map_err(invalid)?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process(inputs)?)
        .mounts(mounts::mounts(inputs)?)
        .linux(linux(inputs)?)
        .build()
        .map_err(invalid)?;
    spec.set_hooks(None).set_hostname(None).set_annotations(None);
    Ok(spec)
}

fn linux(inputs: &Inputs) -> Result<Linux, Error> {
    let spec = inputs.spec;
    let mut linux = LinuxBuilder::default()
        .cgroups_path(Path::new("/").join(inputs.cgroup))
        .namespaces(namespaces(inputs)?)
        .rootfs_propagation(propagation(spec))
        .build()
        .map_err(invalid)?;
    // Limits are set by `Cgroups`, which goes on where libcontainer would give up.
    linux.set_resources(devices::rules(inputs)?).set_sysctl(None).set_seccomp(None);
    linux.set_devices(devices::nodes(inputs)?);
    let masked = (!spec.privileged && !spec.unmasked).then(masked);
    linux.set_masked_paths(masked).set_readonly_paths(readonly(inputs));
    Ok(linux)
}

/// What is hidden: the list, and how often each processor was too hot, which tells of others' work.
fn masked() -> Vec<String> {
    let mut all: Vec<String> = MASKED.map(str::to_owned).into();
    for name in crate::runtime::paths::names(Path::new(PROCESSORS)) {
        let path = format!("{PROCESSORS}/{name}/thermal_throttle");
        if Path::new(&path).exists() {
            all.push(path);
        }
    }
    all
}

/// What cannot be written. The hierarchies of cgroup version 1 lie in a file system of the container's own.
fn readonly(inputs: &Inputs) -> Option<Vec<String>> {
    let spec = inputs.spec;
    if spec.privileged {
        return None;
    }
    let listed: &[&str] = if spec.unmasked { &[] } else { &READONLY };
    let cgroups = (!inputs.cgroups.is_v2()).then_some("/sys/fs/cgroup");
    let all: Vec<String> = listed.iter().copied().chain(cgroups).map(str::to_owned).collect();
    (!all.is_empty()).then_some(all)
}

/// libcontainer knows only one propagation for the whole tree: the widest that a mount asks for.
fn propagation(spec: &ContainerSpec) -> &'static str {
    let has = |p| spec.mounts.iter().any(|m| m.propagation == p);
    if has(Propagation::Bidirectional) {
        "shared"
    } else if has(Propagation::HostToContainer) {
        "slave"
    } else {
        "private"
    }
}

fn namespaces(inputs: &Inputs) -> Result<Vec<LinuxNamespace>, Error> {
    let new = |typ| LinuxNamespaceBuilder::default().typ(typ).build();
    let join = |typ, path: PathBuf| LinuxNamespaceBuilder::default().typ(typ).path(path).build();
    let mut all = vec![new(Ns::Mount).map_err(invalid)?];
    for typ in [Ns::Network, Ns::Ipc, Ns::Uts] {
        if let Some(path) = (inputs.namespaces)(typ) {
            all.push(join(typ, path).map_err(invalid)?);
        }
    }
    match (inputs.namespaces)(Ns::Pid) {
        Some(path) => all.push(join(Ns::Pid, path).map_err(invalid)?),
        None if inputs.sandbox.host_pid => {}
        None => all.push(new(Ns::Pid).map_err(invalid)?),
    }
    if inputs.cgroups.is_v2() && !inputs.spec.privileged {
        all.push(new(Ns::Cgroup).map_err(invalid)?);
    }
    Ok(all)
}

fn invalid(e: OciSpecError) -> Error {
    Error::Invalid(e.to_string())
}

#[cfg(test)]
mod tests;
