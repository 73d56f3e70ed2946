//! What the runtime is asked for and what it answers: its own plain types, without Kubernetes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod sandbox: the namespaces and the parent cgroup its containers share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Identifier chosen by the caller, unique on this node (a pod's uid and an attempt number).
    pub id: String,
    /// Free labels, given back by [`crate::runtime::Runtime::sandboxes`]: who the sandbox is for.
    pub labels: BTreeMap<String, String>,
    /// Host name inside the UTS namespace; ignored with `host_network`.
    pub hostname: String,
    /// Directory of the container logs.
    pub log_dir: PathBuf,
    /// The pod's cgroup below the node's root cgroup, such as `burstable/pod<uid>`.
    pub cgroup: String,
    /// Limits of the whole pod.
    pub resources: Resources,
    /// Use the host's network namespace.
    pub host_network: bool,
    /// Use the host's PID namespace.
    pub host_pid: bool,
    /// Use the host's IPC namespace.
    pub host_ipc: bool,
    /// One PID namespace for all containers, with the sandbox's pause process as its process 1.
    pub share_pid: bool,
    /// Namespaced kernel parameters, written before the first container starts.
    pub sysctls: BTreeMap<String, String>,
}

/// A container of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Identifier chosen by the caller, unique on this node, `[a-z0-9-]+`.
    pub id: String,
    /// Free labels, given back in [`ContainerStatus::labels`].
    pub labels: BTreeMap<String, String>,
    /// The image's id as [`Image::id`] gave it.
    pub image: String,
    /// The program, instead of the image's entrypoint, when not empty.
    pub command: Vec<String>,
    /// Its arguments, instead of the image's command, when not empty.
    pub args: Vec<String>,
    /// Environment, added to the image's own; later entries win.
    pub env: Vec<(String, String)>,
    /// Working directory, instead of the image's; made if it does not exist.
    pub working_dir: Option<String>,
    /// Mounts in order, beside `/proc`, `/dev`, `/sys`, `/dev/shm` and `/dev/mqueue`.
    pub mounts: Vec<Mount>,
    /// Devices of the host that it may use, beside those every container has.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Numeric user, instead of the image's.
    pub uid: Option<u32>,
    /// Numeric group, instead of the image's.
    pub gid: Option<u32>,
    /// Supplemental groups, added to the image's.
    pub supplemental_groups: Vec<u32>,
    /// The groups the image's `/etc/group` has for the user do not count.
    #[serde(default)]
    pub strict_groups: bool,
    /// Give the process a terminal.
    pub tty: bool,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input after the first attach ends.
    pub stdin_once: bool,
    /// Mount the root file system read-only.
    pub readonly_rootfs: bool,
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` is all.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from the default set.
    pub drop_capabilities: Vec<String>,
    /// Forbid gaining privileges by exec.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile: [`crate::runtime::apparmor::DEFAULT_PROFILE`], or one that must be loaded; `None`
    /// leaves the process unconfined.
    #[serde(default)]
    pub apparmor: Option<String>,
    /// Nothing of `/proc` and `/sys` is hidden or read-only.
    #[serde(default)]
    pub unmasked: bool,
    /// Limits.
    pub resources: Resources,
    /// `/proc/<pid>/oom_score_adj`; lowering it may be refused by the host, which is only warned of.
    pub oom_score_adj: i32,
    /// Log file in CRI format; relative to the sandbox's `log_dir`.
    pub log_path: PathBuf,
    /// Rotate the log at this size in bytes (0: never).
    pub log_max_bytes: u64,
    /// Keep this many rotated log files.
    pub log_max_files: u32,
    /// Signal that asks the container to stop, instead of the image's; such as `SIGTERM`.
    pub stop_signal: Option<String>,
    /// Join the PID namespace of this running container of the sandbox.
    #[serde(default)]
    pub pid_of: Option<String>,
}

/// A mount inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host; for [`MountKind::Tmpfs`] unused.
    pub source: PathBuf,
    /// Absolute path in the container; made if it does not exist.
    pub target: PathBuf,
    /// No writing through this mount.
    pub readonly: bool,
    /// Nor through what is mounted below it.
    #[serde(default)]
    pub recursive_readonly: bool,
    /// Bind or tmpfs.
    pub kind: MountKind,
    /// How mounts travel between host and container.
    pub propagation: Propagation,
}

/// A device of the host inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its node on the host; symbolic links are followed.
    pub source: PathBuf,
    /// Absolute path of its node in the container.
    pub target: PathBuf,
    /// It may not be written.
    pub readonly: bool,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    #[default]
    Bind,
    /// An empty tmpfs of at most this many bytes.
    Tmpfs(Option<u64>),
}

/// Mount propagation, as in `mount_namespaces(7)`; the later variants let more through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// Host mounts appear in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// System call filter of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// No filter.
    #[default]
    Unconfined,
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile in Docker's and OCI's JSON format.
    Localhost(PathBuf),
}

/// cgroup limits. `None` leaves what is there (nothing, in a new group); a negative number is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU shares as in cgroup v1 (2 to 262144).
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds per period.
    pub cpu_quota: Option<i64>,
    /// Period in microseconds.
    pub cpu_period: Option<u64>,
    /// Memory in bytes.
    pub memory_limit: Option<i64>,
    /// Number of processes.
    pub pids_limit: Option<i64>,
    /// When memory runs out, the kernel kills all processes together (cgroup v2).
    #[serde(default)]
    pub oom_group: bool,
    /// Bytes of huge pages by page size as the kernel's files name it, such as `2MB`.
    #[serde(default)]
    pub hugepage_limits: BTreeMap<String, u64>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Started and not yet ended.
    Running,
    /// Ended.
    Exited,
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The container.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// The labels it was made with.
    pub labels: BTreeMap<String, String>,
    /// The image's id.
    pub image: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Process id on the host while running.
    pub pid: Option<u32>,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Milliseconds since the epoch.
    pub started_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub finished_at: Option<i64>,
    /// Exit code; 128 + N when signal N ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// Absolute path of its log.
    pub log_path: PathBuf,
    /// Who its first process is; unknown of containers that an older kedge made.
    #[serde(default)]
    pub user: Option<ContainerUser>,
    /// The signal that asks it to end, such as `SIGTERM`; unknown of containers that an older kedge made.
    #[serde(default)]
    pub stop_signal: Option<String>,
}

/// The identity a container's first process starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

/// What is known of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// The sandbox.
    pub id: String,
    /// The labels it was made with.
    pub labels: BTreeMap<String, String>,
    /// The shim lives and its namespaces are there.
    pub ready: bool,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Path of its network namespace, for the network room; `None` with `host_network`.
    pub netns: Option<PathBuf>,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
}

/// Something that happened by itself, as [`crate::runtime::Runtime::events`] tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeEvent {
    /// A container ended.
    Exited {
        /// The sandbox it belongs to.
        sandbox: String,
        /// The container.
        container: String,
    },
    /// A container's log was rotated.
    LogRotated {
        /// The log.
        log: PathBuf,
    },
    /// A sandbox's shim died; its containers are gone.
    SandboxLost {
        /// The sandbox.
        sandbox: String,
    },
}

/// A process to run beside a container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal; then output and errors are one stream.
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
    /// Columns and rows of the terminal at the start.
    pub size: Option<(u16, u16)>,
}

/// An image of the node's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// Full names with tag, such as `docker.io/library/nginx:1.24`.
    pub tags: Vec<String>,
    /// Full names with digest.
    pub digests: Vec<String>,
    /// Bytes of its layers, as stored.
    pub size: u64,
    /// User from its configuration: name or number, with an optional group.
    pub user: String,
}

/// User name and password, or a token, for one registry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a container, or another control group, uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// When this was read, in milliseconds since the epoch.
    pub at: i64,
    /// CPU time used so far, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// The part of it spent in programs, in nanoseconds.
    pub cpu_user_ns: u64,
    /// The part of it spent in the kernel, in nanoseconds.
    pub cpu_system_ns: u64,
    /// Periods in which its CPU quota was enforced.
    pub cpu_periods: u64,
    /// Periods in which it used up its CPU quota.
    pub cpu_throttled_periods: u64,
    /// How long it was held back by its CPU quota, in nanoseconds.
    pub cpu_throttled_ns: u64,
    /// Memory charged to its cgroup, page cache included, in bytes.
    pub memory_usage: u64,
    /// The part that is not easily taken back (usage less inactive file cache), in bytes.
    pub memory_working_set: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss: u64,
    /// Page cache, in bytes.
    pub memory_cache: u64,
    /// File pages mapped into its processes, in bytes.
    pub memory_mapped: u64,
    /// Its limit, if it has one, in bytes.
    pub memory_limit: Option<u64>,
    /// The most memory it ever had, in bytes; 0 where the kernel does not tell.
    pub memory_peak: u64,
    /// Swap space, in bytes; `None` where the kernel does not account for it.
    pub swap_usage: Option<u64>,
    /// The most swap space it may have, in bytes, if it has a limit.
    pub swap_limit: Option<u64>,
    /// Page faults so far.
    pub page_faults: u64,
    /// Major page faults so far.
    pub major_page_faults: u64,
    /// Number of processes and threads.
    pub pids: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
}
