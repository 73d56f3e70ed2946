//! Sandboxes: their namespaces, their life beyond kedge's, and that nothing is left of them.
//! Needs root.

#[path = "runtime_support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use kedge::runtime::spec::{ContainerState, Resources, RuntimeEvent, SandboxSpec};
use kedge::runtime::{Error, Runtime};
use support::{Fixture, sh};
use tokio_util::sync::CancellationToken;

fn namespace(pid: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_str().unwrap().to_string()
}

/// The shim of a sandbox, by its command line.
fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn containers_share_the_namespaces_of_their_sandbox_only() {
    let f = Fixture::new().await;
    let status = f.sandbox("s").await;
    assert!(status.ready);
    let netns = status.netns.unwrap();
    assert_eq!(f.runtime.netns_of("s"), Some(netns.clone()));
    let a = f.running("s", &sh("a", "sleep 1000")).await.pid.unwrap().to_string();
    let b = f.running("s", &sh("b", "sleep 1000")).await.pid.unwrap().to_string();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(&a, kind), namespace(&b, kind), "{kind}");
        assert_ne!(namespace(&a, kind), namespace("self", kind), "{kind}");
    }
    for kind in ["pid", "mnt"] {
        assert_ne!(namespace(&a, kind), namespace(&b, kind), "{kind}");
    }
    use std::os::unix::fs::MetadataExt;
    let inode = netns.metadata().unwrap().ino();
    assert_eq!(namespace(&a, "net"), format!("net:[{inode}]"));
    assert_eq!(f.exec("a", "hostname").await.trim(), "host-s");
    assert!(f.exec("a", "ip addr show lo").await.contains("LOOPBACK,UP"));
    // What one writes to /dev/shm the other reads.
    f.exec("a", "echo shared > /dev/shm/x").await;
    assert_eq!(f.exec("b", "cat /dev/shm/x").await, "shared\n");
    f.finish().await;
}

#[tokio::test]
async fn a_shared_pid_namespace_has_a_pause_process_that_cannot_be_ended() {
    let f = Fixture::new().await;
    let spec = SandboxSpec { share_pid: true, ..f.sandbox_spec("s") };
    f.runtime.run_sandbox(&spec).await.unwrap();
    let a = f.running("s", &sh("a", "sleep 1111")).await;
    f.running("s", &sh("b", "sleep 2222")).await;
    let seen = f.exec("a", "ps").await;
    assert!(seen.contains("sleep 1111") && seen.contains("sleep 2222"), "{seen}");
    assert_ne!(f.exec("a", "echo $$").await.trim(), "1");
    f.exec("a", "kill -TERM 1; kill -KILL 1; kill -INT 1; true").await;
    let status = f.exec("a", "cat /proc/1/status").await;
    assert!(status.contains("Name:\tpause") && status.contains("Uid:\t65535\t65535"), "{status}");
    let root = f.exec("a", "ls /proc/1/root/ 2>&1; readlink /proc/1/exe 2>&1 || echo denied").await;
    assert!(!root.contains("bin") && root.contains("denied"), "{root}");
    // One container's end is not the other's.
    f.runtime.stop_container("b", Duration::ZERO, None).await.unwrap();
    assert_eq!(f.runtime.container("a").await.unwrap().pid, a.pid);
    assert!(!f.exec("a", "ps").await.contains("sleep 2222"));
    f.finish().await;
}

#[tokio::test]
async fn host_namespaces_are_the_hosts() {
    let f = Fixture::new().await;
    let spec = SandboxSpec { host_network: true, host_pid: true, host_ipc: true, ..f.sandbox_spec("s") };
    let status = f.runtime.run_sandbox(&spec).await.unwrap();
    assert_eq!((status.netns, f.runtime.netns_of("s")), (None, None));
    let pid = f.running("s", &sh("c", "sleep 1000 & sleep 1000")).await.pid.unwrap().to_string();
    for kind in ["net", "ipc", "uts", "pid"] {
        assert_eq!(namespace(&pid, kind), namespace("self", kind), "{kind}");
    }
    // Without a PID namespace the kernel does not end the rest: the shim does.
    f.runtime.stop_container("c", Duration::ZERO, None).await.unwrap();
    assert!(f.processes().iter().all(|p| !p.contains("sleep")), "{:?}", f.processes());
    f.finish().await;
}

#[tokio::test]
async fn sysctls_are_set_inside_and_others_refused() {
    let f = Fixture::new().await;
    let mut spec = f.sandbox_spec("s");
    spec.sysctls.insert("net.ipv4.tcp_syncookies".into(), "0".into());
    spec.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    f.runtime.run_sandbox(&spec).await.unwrap();
    f.running("s", &sh("c", "sleep 1000")).await;
    let values = f.exec("c", "cat /proc/sys/net/ipv4/tcp_syncookies /proc/sys/kernel/shm_rmid_forced").await;
    assert_eq!(values, "0\n1\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap(), "0\n", "the host's is not");
    let mut spec = f.sandbox_spec("bad");
    spec.sysctls.insert("kernel.panic".into(), "1".into());
    let error = f.runtime.run_sandbox(&spec).await.unwrap_err();
    assert!(error.to_string().contains("\"kernel.panic\" is not allowed"), "{error}");
    assert!(f.runtime.sandbox("bad").await.is_none());
    f.finish().await;
}

#[tokio::test]
async fn a_new_runtime_adopts_what_runs() {
    let mut f = Fixture::new().await;
    f.sandbox("s").await;
    let before = f.running("s", &sh("c", "while [ ! -e /go ]; do sleep 0.05; done; echo late; exit 6")).await;
    f.runtime = Runtime::open(f.config.clone()).await.unwrap();
    let sandboxes = f.runtime.sandboxes().await;
    assert_eq!(sandboxes.len(), 1);
    assert!(sandboxes[0].ready);
    assert_eq!(sandboxes[0].containers, std::slice::from_ref(&before), "the same process, untouched");
    let (mut events, token) = (f.runtime.events(), CancellationToken::new());
    let (runtime, stop) = (f.runtime.clone(), token.clone());
    let running = tokio::spawn(async move { runtime.run(stop).await });
    f.exec("c", "touch /go").await;
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    assert_eq!(event, RuntimeEvent::Exited { sandbox: "s".into(), container: "c".into() });
    let after = f.runtime.container("c").await.unwrap();
    assert_eq!((after.exit_code, after.started_at), (Some(6), before.started_at));
    assert_eq!(support::log_lines(&after.log_path), ["stdout F late"]);
    // What ended while nobody listened is told to the next who does.
    token.cancel();
    running.await.unwrap();
    let (mut events, token) = (f.runtime.events(), CancellationToken::new());
    let (runtime, stop) = (f.runtime.clone(), token.clone());
    let running = tokio::spawn(async move { runtime.run(stop).await });
    let again = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    assert_eq!(again, event);
    token.cancel();
    running.await.unwrap();
    f.finish().await;
}

#[tokio::test]
async fn exits_are_told_once_and_without_asking() {
    let f = Fixture::new().await;
    let mut events = f.runtime.events();
    let token = CancellationToken::new();
    let (runtime, stop) = (f.runtime.clone(), token.clone());
    let running = tokio::spawn(async move { runtime.run(stop).await });
    f.sandbox("s").await;
    f.running("s", &sh("c", "exit 2")).await;
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    assert_eq!(event, RuntimeEvent::Exited { sandbox: "s".into(), container: "c".into() });
    assert_eq!(f.runtime.container("c").await.unwrap().exit_code, Some(2));
    // Stopping on purpose is no loss.
    f.runtime.remove_sandbox("s").await.unwrap();
    f.sandbox("next").await;
    f.running("next", &sh("n", "exit 0")).await;
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    assert_eq!(event, RuntimeEvent::Exited { sandbox: "next".into(), container: "n".into() });
    token.cancel();
    running.await.unwrap();
    f.finish().await;
}

#[tokio::test]
async fn a_killed_shim_is_told_and_takes_its_containers_along() {
    let f = Fixture::new().await;
    let mut events = f.runtime.events();
    let token = CancellationToken::new();
    let (runtime, stop) = (f.runtime.clone(), token.clone());
    let running = tokio::spawn(async move { runtime.run(stop).await });
    f.sandbox("s").await;
    f.sandbox("other").await;
    f.running("s", &sh("done", "exit 3")).await;
    f.ended("done").await;
    let pid = f.running("s", &sh("c", "sleep 1000")).await.pid.unwrap();
    f.running("other", &sh("o", "sleep 1000")).await;
    kill(f.shim("s"));
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap() {
            RuntimeEvent::SandboxLost { sandbox } => break assert_eq!(sandbox, "s"),
            RuntimeEvent::Exited { container, .. } => assert_eq!(container, "done"),
            rotated @ RuntimeEvent::LogRotated { .. } => panic!("nothing was logged: {rotated:?}"),
        }
    }
    assert!(!Path::new(&format!("/proc/{pid}/root/bin")).exists(), "the container is gone");
    let status = f.runtime.sandbox("s").await.unwrap();
    assert!(!status.ready);
    assert_eq!(
        f.runtime.container("done").await.unwrap().exit_code,
        Some(3),
        "known beyond the shim's death"
    );
    let lost = f.runtime.container("c").await.unwrap();
    assert_eq!((lost.state, lost.exit_code), (ContainerState::Exited, Some(137)));
    assert!(matches!(f.runtime.start_container("c").await, Err(Error::SandboxLost(_))));
    assert!(f.runtime.sandbox("other").await.unwrap().ready);
    f.runtime.stop_container("c", Duration::from_secs(1), None).await.unwrap();
    token.cancel();
    running.await.unwrap();
    f.finish().await;
}

#[tokio::test]
async fn stopped_sandboxes_keep_their_statuses() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    f.runtime.stop_sandbox("s").await.unwrap();
    f.runtime.stop_sandbox("s").await.unwrap();
    let status = f.runtime.sandbox("s").await.unwrap();
    assert!(!status.ready);
    assert_eq!(status.containers[0].exit_code, Some(137));
    f.runtime.remove_container("c").await.unwrap();
    f.runtime.remove_container("c").await.unwrap();
    f.runtime.remove_sandbox("s").await.unwrap();
    f.runtime.remove_sandbox("s").await.unwrap();
    assert!(f.runtime.sandboxes().await.is_empty());
    f.finish().await;
}

#[tokio::test]
async fn removing_a_running_container_leaves_the_others() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("a", "sleep 1000")).await;
    f.running("s", &sh("b", "sleep 1000")).await;
    f.exec("a", "dd if=/dev/zero of=/file bs=1024 count=10 2>/dev/null").await;
    f.runtime.remove_container("a").await.unwrap();
    assert!(f.runtime.container("a").await.is_none());
    assert!(!f.config.root.join("containers/a").exists());
    assert_eq!(f.exec("b", "echo here").await, "here\n");
    // The name is free again, and its layer is new.
    f.running("s", &sh("a", "sleep 1000")).await;
    assert_eq!(f.exec("a", "ls /file 2>/dev/null || echo none").await, "none\n");
    f.finish().await;
}

#[tokio::test]
async fn cleanup_all_ends_this_installation_only() {
    let (f, other) = (Fixture::new().await, Fixture::new().await);
    for fixture in [&f, &other] {
        fixture.sandbox("s").await;
        fixture.running("s", &sh("c", "sleep 1000")).await;
    }
    // As after kill -9 of everything in kedge's memory.
    Runtime::cleanup_all(&f.config).await.unwrap();
    f.assert_clean();
    assert!(f.cgroups().is_empty());
    assert_eq!(other.exec("c", "echo alive").await, "alive\n");
    Runtime::cleanup_all(&f.config).await.unwrap();
    other.finish().await;
}

#[tokio::test]
async fn pod_limits_are_on_the_parent_cgroup() {
    let f = Fixture::new().await;
    let resources = Resources { memory_limit: Some(64 << 20), cpu_shares: Some(512), ..Default::default() };
    f.runtime.run_sandbox(&SandboxSpec { resources, ..f.sandbox_spec("s") }).await.unwrap();
    f.running("s", &sh("c", "sleep 1000")).await;
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (base, file) = if v2 { ("", "memory.max") } else { ("memory", "memory.limit_in_bytes") };
    let dir = Path::new("/sys/fs/cgroup").join(base).join(&f.config.cgroup_root).join("burstable/pods");
    assert_eq!(fs::read_to_string(dir.join(file)).unwrap().trim(), (64 << 20).to_string());
    assert!(dir.join("c").is_dir());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_at_once() {
    let f = Fixture::new().await;
    let started = std::time::Instant::now();
    let one = async |n: usize| {
        let (sandbox, id) = (format!("s{n}"), format!("c{n}"));
        f.sandbox(&sandbox).await;
        f.running(&sandbox, &sh(&id, "sleep 1000")).await;
    };
    futures::future::join_all((0..30).map(one)).await;
    println!("30 sandboxes with a container: {:?}", started.elapsed());
    let all = f.runtime.sandboxes().await;
    assert_eq!(all.len(), 30);
    let running = all.iter().flat_map(|s| &s.containers).filter(|c| c.state == ContainerState::Running);
    assert_eq!(running.count(), 30);
    futures::future::join_all(all.iter().map(|s| f.runtime.remove_sandbox(&s.id))).await;
    f.finish().await;
}

#[tokio::test]
async fn another_boot_starts_from_nothing() {
    let mut f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    // What a power cut leaves, on a state directory that is not a tmpfs: files, but no process.
    fs::write(f.config.state.join("boot_id"), "00000000-0000-0000-0000-000000000000\n").unwrap();
    f.runtime = Runtime::open(f.config.clone()).await.unwrap();
    assert!(f.runtime.sandboxes().await.is_empty());
    f.assert_clean();
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    f.finish().await;
}

/// With this in its environment, [`containers_outlive_a_killed_kedge`] is the one that is killed: it
/// reports to the file named.
const VICTIM: &str = "KEDGE_TEST_VICTIM";

async fn wait_to_be_killed(report: std::ffi::OsString) {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "while [ ! -e /go ]; do sleep 0.05; done; exit 6")).await;
    fs::write(report, format!("{}\n{}", f.dir.path().display(), f.config.cgroup_root)).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn containers_outlive_a_killed_kedge() {
    use std::os::unix::process::CommandExt;
    if let Some(report) = std::env::var_os(VICTIM) {
        return wait_to_be_killed(report).await;
    }
    let mut f = Fixture::new().await;
    let report = f.dir.path().join("report");
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "containers_outlive_a_killed_kedge"])
        .env(VICTIM, &report)
        .process_group(0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !report.exists() {
        assert!(std::time::Instant::now() < deadline, "the other process does not get ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let group = nix::unistd::Pid::from_raw(victim.id() as i32);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    victim.wait().unwrap();

    let text = fs::read_to_string(&report).unwrap();
    let (dir, cgroup) = text.split_once('\n').unwrap();
    let dir = std::path::PathBuf::from(dir);
    f.config.root = dir.join("root");
    f.config.state = dir.join("state");
    f.config.cgroup_root = cgroup.to_string();
    f.runtime = Runtime::open(f.config.clone()).await.unwrap();
    let status = f.runtime.container("c").await.unwrap();
    assert_eq!(status.state, ContainerState::Running);
    assert!(Path::new(&format!("/proc/{}", status.pid.unwrap())).exists());
    f.exec("c", "touch /go").await;
    assert_eq!(f.ended("c").await.exit_code, Some(6));
    f.finish().await;
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn killing_a_container_full_of_execs_ends() {
    let f = Fixture::new().await;
    for (id, share_pid) in [("own", false), ("shared", true)] {
        let spec = SandboxSpec { share_pid, ..f.sandbox_spec(id) };
        f.runtime.run_sandbox(&spec).await.unwrap();
        f.running(id, &sh(id, "sleep 1000")).await;
        let exec = |command: &str| {
            let command = ["sh", "-c", command].map(String::from).to_vec();
            kedge::runtime::spec::ExecSpec { command, ..Default::default() }
        };
        let mut sessions = Vec::new();
        for _ in 0..5 {
            sessions.push(f.runtime.exec(id, &exec("sleep 1000")).await.unwrap());
            // Ends at the same moment, unreaped.
            sessions.push(f.runtime.exec(id, &exec("exit 0")).await.unwrap());
        }
        let remove = async {
            if share_pid {
                f.runtime.stop_sandbox(id).await.unwrap();
            }
            f.runtime.remove_container(id).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), remove).await.expect("nobody waits for one who waits");
    }
    f.finish().await;
}
