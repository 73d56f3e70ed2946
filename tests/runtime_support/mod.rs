//! A runtime in a temporary directory with a busybox image, and proof that it leaves nothing.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kedge::runtime::spec::{ContainerSpec, ContainerStatus, SandboxSpec, SandboxStatus};
use kedge::runtime::{Error, ImageConfig, Reader, RootFs, Runtime, RuntimeConfig};
use tokio::io::AsyncReadExt;

/// Programs of busybox that tests use.
const PROGRAMS: [&str; 31] = [
    "sh", "sleep", "cat", "echo", "ps", "grep", "stty", "tty", "id", "touch", "mkdir", "ls", "mount",
    "hostname", "head", "true", "false", "ip", "readlink", "kill", "wc", "dd", "stat", "ping", "chmod",
    "pwd", "env", "rm", "sort", "unshare", "mknod",
];

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub config: RuntimeConfig,
    pub runtime: Runtime,
}

impl Fixture {
    pub async fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "the runtime's tests need root");
        let dir = tempfile::tempdir().unwrap();
        make_rootfs(&dir.path().join("layer"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let config = RuntimeConfig {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            cgroup_root: format!("kedge-test-{}-{number}", std::process::id()),
            shim_exe: PathBuf::from(env!("CARGO_BIN_EXE_kedge")),
        };
        let runtime = Runtime::open(config.clone()).await.unwrap();
        Self { dir, config, runtime }
    }

    pub fn image(&self, change: impl FnOnce(&mut RootFs)) -> RootFs {
        let config = ImageConfig { env: vec!["PATH=/bin".into()], ..Default::default() };
        let mut image = RootFs { lower: vec![self.dir.path().join("layer")], config };
        change(&mut image);
        image
    }

    pub fn sandbox_spec(&self, id: &str) -> SandboxSpec {
        SandboxSpec {
            id: id.into(),
            hostname: format!("host-{id}"),
            log_dir: self.dir.path().join("logs").join(id),
            cgroup: format!("burstable/pod{id}"),
            ..Default::default()
        }
    }

    pub async fn sandbox(&self, id: &str) -> SandboxStatus {
        self.runtime.run_sandbox(&self.sandbox_spec(id)).await.unwrap()
    }

    pub async fn create(&self, sandbox: &str, spec: &ContainerSpec) -> Result<ContainerStatus, Error> {
        self.runtime.create_container(sandbox, spec, &self.image(|_| {})).await
    }

    pub async fn running(&self, sandbox: &str, spec: &ContainerSpec) -> ContainerStatus {
        self.create(sandbox, spec).await.unwrap();
        self.runtime.start_container(&spec.id).await.unwrap()
    }

    pub async fn ended(&self, id: &str) -> ContainerStatus {
        let wait = self.runtime.wait_container(id);
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it ends").unwrap()
    }

    /// What a shell command in the container says.
    pub async fn exec(&self, id: &str, script: &str) -> String {
        let command = ["sh", "-c", script].map(String::from);
        let output = self.runtime.exec_sync(id, &command, Duration::from_secs(20)).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the container has logged a line.
    pub async fn logged(&self, id: &str, line: &str) {
        let path = self.runtime.container(id).await.unwrap().log_path;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !log_lines(&path).iter().any(|l| l.ends_with(line)) {
            assert!(std::time::Instant::now() < deadline, "{line:?} is not logged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Removes all sandboxes and checks that nothing of this installation is left on the machine.
    pub async fn finish(self) {
        for sandbox in self.runtime.sandboxes().await {
            self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
        // The shims' own group is the installation's, removed with it.
        let left: BTreeSet<_> = self.cgroups().into_iter().filter(|c| !c.ends_with("/shims")).collect();
        assert!(left.iter().all(|c| c.ends_with(&self.config.cgroup_root)), "{left:?}");
        self.assert_clean();
        Runtime::cleanup_all(&self.config).await.unwrap();
        assert_eq!(self.cgroups(), BTreeSet::new());
    }

    /// Nothing is mounted, no directory of a sandbox or container is left, no process runs.
    pub fn assert_clean(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.path().to_str().unwrap();
        let left: Vec<_> = mounts.lines().filter(|l| l.contains(own)).collect();
        assert_eq!(left, Vec::<&str>::new());
        for dir in [self.config.state.join("sandboxes"), self.config.root.join("containers")] {
            assert_eq!(fs::read_dir(dir).map_or(0, |d| d.count()), 0);
        }
        assert_eq!(self.processes(), Vec::<String>::new());
    }

    /// Command lines of the processes in this installation's cgroups.
    pub fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for cgroup in self.cgroups() {
            for pid in fs::read_to_string(cgroup.clone() + "/cgroup.procs").unwrap_or_default().lines() {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                if !state.contains(") Z ") && !state.contains(") X ") {
                    found.push(format!("{pid} {}", String::from_utf8_lossy(&line)));
                }
            }
        }
        found
    }

    /// The process that keeps a sandbox; its cgroup has it a moment later only.
    pub fn shim(&self, sandbox: &str) -> i32 {
        let dir = self.config.state.canonicalize().unwrap().join("sandboxes").join(sandbox);
        let line = format!("shim\0{}\0", dir.display());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it =
            |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.ends_with(line.as_bytes()));
        numbers.find(is_it).expect("the shim runs")
    }

    /// All cgroup directories of this installation.
    pub fn cgroups(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            collect(&hierarchy.join(&self.config.cgroup_root), &mut found);
        }
        found
    }
}

/// A test that fails cleans up as well.
impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let config = self.config.clone();
        let cleanup = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(Runtime::cleanup_all(&config))
        });
        println!("clean-up: {:?}", cleanup.join());
    }
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    found.insert(dir.to_str().unwrap().to_string());
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect(&entry.path(), found);
    }
}

fn make_rootfs(dir: &Path) {
    for sub in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).expect("busybox-static is installed");
    for program in PROGRAMS {
        symlink("busybox", dir.join("bin").join(program)).unwrap();
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n").unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:4:web\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

/// A container that runs a shell script.
pub fn sh(id: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        id: id.into(),
        image: "busybox".into(),
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec![script.into()],
        log_path: format!("{id}/0.log").into(),
        ..Default::default()
    }
}

/// The records of a log without their times.
pub fn log_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|l| l.split_once(' ').unwrap().1.to_string()).collect()
}

pub async fn read_all(mut reader: Reader) -> String {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}
