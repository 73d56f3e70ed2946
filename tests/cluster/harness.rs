//! A cluster in namespaces of its own, and kubectl inside them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything that normally takes a moment: these machines are shared and slow.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The node's address inside its namespace (TEST-NET-2, RFC 5737).
pub const NODE_IP: &str = "198.51.100.2";

/// The executable under test: `KEDGE_BIN`, as tests/run.sh sets it, else this build's.
pub fn executable() -> PathBuf {
    std::env::var_os("KEDGE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_kedge").into(), PathBuf::from)
}

/// A network and a mount namespace, kept by a process that only sleeps.
pub struct Host {
    anchor: Child,
    /// Files of this host.
    pub directory: tempfile::TempDir,
}

impl Host {
    /// A host with an address and a default route that leads nowhere.
    pub fn new(name: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix(&format!("kedge-test-{name}-")).tempdir().expect("directory");
        let ready = directory.path().join("ready");
        let script = format!(
            "ip link set lo up && ip link add eth0 type veth peer name uplink && \
             ip addr add {NODE_IP}/24 dev eth0 && ip addr add 198.51.100.1/24 dev uplink && \
             ip link set eth0 up && ip link set uplink up && \
             ip route add default via 198.51.100.1 dev eth0 && touch '{}' && exec sleep infinity",
            ready.display()
        );
        let anchor = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &script])
            .process_group(0)
            .spawn()
            .expect("unshare runs");
        wait_for("the namespaces of a test host", || ready.exists());
        Self { anchor, directory }
    }

    /// The process that keeps the namespaces.
    pub fn anchor(&self) -> u32 {
        self.anchor.id()
    }

    /// A command inside this host's namespaces.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.anchor.id().to_string(), "--"]).arg(program);
        command
    }

    /// A path that opens its network namespace.
    pub fn network_namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.anchor.id()).into()
    }

    /// Runs a shell line, which must succeed; gives its output.
    pub fn sh(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().expect("sh runs");
        assert!(output.status.success(), "{line}\n{}", show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

/// `kedge server` on a [`Host`].
pub struct Cluster {
    /// Where it runs.
    pub host: Host,
    server: Mutex<Option<Child>>,
    flags: Vec<String>,
    namespaces: AtomicU32,
}

impl Cluster {
    /// Starts a server with a node and waits until the node is Ready.
    pub fn start(name: &str, flags: &[&str]) -> Self {
        // A registry that speaks plain HTTP must be named as such, as with k3s.
        let mirror = format!("mirrors:\n  \"{NODE_IP}:5000\":\n    endpoint: [\"http://{NODE_IP}:5000\"]\n");
        Self::start_with_registries(name, flags, &mirror)
    }

    /// As [`Self::start`], with this registries.yaml.
    pub fn start_with_registries(name: &str, flags: &[&str], registries: &str) -> Self {
        let cluster = Self::on_new_host(name, flags);
        fs::write(cluster.registries(), registries).expect("file is written");
        cluster.launch();
        cluster.wait_ready();
        cluster
    }

    /// As [`Self::start`], without waiting for anything.
    pub fn launched(name: &str, flags: &[&str]) -> Self {
        let cluster = Self::on_new_host(name, flags);
        cluster.launch();
        cluster
    }

    fn on_new_host(name: &str, flags: &[&str]) -> Self {
        // How full the machine's disk is must not decide what tests see, unless that is what they are about.
        let own = [
            ("eviction-hard", "--kubelet-arg=eviction-hard=memory.available<1Mi"),
            ("image-gc", "--kubelet-arg=image-gc-high-threshold=100"),
        ];
        let own = own.into_iter().filter(|(word, _)| !flags.iter().any(|flag| flag.contains(word)));
        let own = own.map(|(_, flag)| flag);
        Self {
            host: Host::new(name),
            server: Mutex::new(None),
            flags: flags.iter().copied().chain(own).map(str::to_owned).collect(),
            namespaces: AtomicU32::new(0),
        }
    }

    fn registries(&self) -> PathBuf {
        self.host.directory.path().join("registries.yaml")
    }

    /// As [`Self::start`], with the data directory on a file system of its own of that many MiB.
    pub fn start_on_small_disk(name: &str, mebibytes: u32) -> Self {
        Self::start_on_small_disk_with(name, mebibytes, &[])
    }

    /// As [`Self::start_on_small_disk`], with flags.
    pub fn start_on_small_disk_with(name: &str, mebibytes: u32, flags: &[&str]) -> Self {
        let cluster = Self::on_new_host(name, flags);
        let data = cluster.data_dir();
        cluster
            .host
            .sh(&format!("mkdir -p {0} && mount -t tmpfs -o size={mebibytes}m tmpfs {0}", data.display()));
        cluster.launch();
        cluster.wait_ready();
        cluster
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.host.directory.path().join("data")
    }

    /// A word no other cluster of a test has.
    pub fn mark(&self) -> String {
        let name = self.host.directory.path().file_name().expect("has a name").to_string_lossy();
        name.rsplit('-').next().unwrap_or_default().to_lowercase()
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.host.directory.path().join("server.log")
    }

    /// Starts the server process, without waiting for anything.
    pub fn launch(&self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("log opens");
        let child = self
            .host
            .command(executable())
            .args(["server", "--node-name", "node-1", "--data-dir"])
            .arg(self.data_dir())
            .arg("--private-registry")
            .arg(self.registries())
            .args(&self.flags)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log is cloned"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the server starts");
        *self.server.lock().expect("not poisoned") = Some(child);
    }

    /// Waits until `kedge status` says that all is ready.
    pub fn wait_ready(&self) {
        let mut status = self.kedge(&["status", "--wait", "90"]);
        let output = status.output().expect("kedge runs");
        assert!(output.status.success(), "not ready: {}\n{}", show(&output), self.tail());
    }

    /// The last lines of the server's log, for messages.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// A `kedge` command on this installation.
    pub fn kedge(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(executable());
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        command
    }

    /// The server's process id.
    pub fn server_pid(&self) -> u32 {
        self.server.lock().expect("not poisoned").as_ref().map_or(0, Child::id)
    }

    /// Kills the server as `kill -9` does and reaps it.
    pub fn kill_server(&self) {
        self.end_server(nix::sys::signal::Signal::SIGKILL);
    }

    /// Stops the server as a service manager does; gives its exit status.
    pub fn stop_server(&self) -> std::process::ExitStatus {
        self.end_server(nix::sys::signal::Signal::SIGTERM).expect("a server was running")
    }

    fn end_server(&self, signal: nix::sys::signal::Signal) -> Option<std::process::ExitStatus> {
        let mut child = self.server.lock().expect("not poisoned").take()?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("fits"));
        let _ = nix::sys::signal::kill(pid, signal);
        Some(child.wait().expect("reaped"))
    }

    /// The admin kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("server/cred/admin.kubeconfig")
    }

    /// A kubectl command with these arguments.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("kubectl");
        // A cache of its own: discovery of another cluster at the same address would be wrong here.
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.host.directory.path().join("cache"));
        command.args(arguments);
        command
    }

    /// kubectl, which must succeed; gives its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.kubectl_command(arguments).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {}\n{}", arguments.join(" "), show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kubectl, which must fail; gives its standard error.
    pub fn kubectl_fails(&self, arguments: &[&str]) -> String {
        let output = self.kubectl_command(arguments).output().expect("kubectl runs");
        assert!(!output.status.success(), "kubectl {} succeeded\n{}", arguments.join(" "), show(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, namespace: &str, manifest: &str) -> String {
        let output = self.try_stdin(&["apply", "-n", namespace, "-f", "-"], manifest);
        assert!(output.status.success(), "apply\n{manifest}\n{}", show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kubectl with text on its standard input.
    pub fn try_stdin(&self, arguments: &[&str], text: &str) -> Output {
        use std::io::Write;
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        // A kubectl that refuses its arguments closes the pipe: its own message says why.
        let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
        child.wait_with_output().expect("kubectl ends")
    }

    /// A namespace of one test's own, with its service account ready.
    pub fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]);
        wait_for("the default service account", || {
            self.kubectl_command(&["get", "serviceaccount", "default", "-n", &name])
                .output()
                .is_ok_and(|o| o.status.success())
        });
        name
    }

    /// Waits until `kubectl get … -o jsonpath` gives `expected`.
    pub fn wait_jsonpath(&self, arguments: &[&str], path: &str, expected: &str) {
        let mut last = String::new();
        let template = format!("jsonpath={path}");
        let all = [&["get"], arguments, &["-o", &template]].concat();
        let done = wait_until(PATIENCE, || {
            let output = self.kubectl_command(&all).output().expect("kubectl runs");
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            last == expected
        });
        if !done {
            let described =
                self.kubectl_command(&[&["describe"], arguments].concat()).output().expect("kubectl runs");
            panic!(
                "{} {path}: {last:?}, not {expected:?}\n{}\n{}",
                arguments.join(" "),
                show(&described),
                self.tail()
            );
        }
    }

    /// Waits until a pod is Ready.
    pub fn wait_pod_ready(&self, namespace: &str, pod: &str) {
        self.wait_jsonpath(
            &["pod", pod, "-n", namespace],
            "{.status.conditions[?(@.type==\"Ready\")].status}",
            "True",
        );
    }

    /// Imports the images the tests use.
    pub fn import_test_images(&self) {
        let archive = self.host.directory.path().join("busybox.tar");
        crate::images::write_busybox(&archive);
        self.import(&archive);
    }

    /// Imports an archive of images.
    pub fn import(&self, archive: &Path) {
        let mut command = self.host.command(executable());
        command.args(["images", "import", "--data-dir"]).arg(self.data_dir()).arg(archive);
        let output = command.output().expect("kedge runs");
        assert!(output.status.success(), "images import: {}", show(&output));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end_server(nix::sys::signal::Signal::SIGTERM);
        let output = self.kedge(&["killall"]).output();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.tail());
        }
        if let Some(directory) = std::env::var_os("KEDGE_TEST_LOGS") {
            let name = self.host.directory.path().file_name().expect("has a name").to_owned();
            let _ = fs::copy(self.log_path(), Path::new(&directory).join(name).with_extension("log"));
        }
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("killall: {}", show(&output)),
            Err(error) => eprintln!("killall: {error}"),
        }
    }
}

/// Both streams and the status of a command, for messages.
pub fn show(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Looks again and again until `done`; `false` after `patience`.
pub fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        let waited = started.elapsed();
        if waited > patience {
            return false;
        }
        // What takes long is not looked at so often: each look may start a process.
        std::thread::sleep(Duration::from_millis(100).max(waited / 20).min(Duration::from_secs(1)));
    }
}

/// As [`wait_until`] with [`PATIENCE`]; panics with `what` when it takes longer.
pub fn wait_for(what: &str, done: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, done), "waited {PATIENCE:?} for {what}");
}
