//! Containers of busybox, driven through the runtime's public face. Needs root.

#[path = "runtime_support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use kedge::runtime::spec::{ContainerSpec, ContainerState, ExecSpec, Resources};
use kedge::runtime::{Error, Runtime};
use support::{Fixture, log_lines, read_all, sh};
use tokio::io::AsyncWriteExt;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn runs_to_completion_with_exit_code_and_log() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let script = "echo out; echo err >&2; printf partial; exit 7";
    f.create("s", &sh("c", script)).await.unwrap();
    let started = f.runtime.start_container("c").await.unwrap();
    assert!(started.started_at.is_some());
    let status = f.ended("c").await;
    assert_eq!((status.exit_code, status.signal, status.oom_killed), (Some(7), None, false));
    assert_eq!(status.pid, None);
    let mut lines = log_lines(&status.log_path);
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P partial"]);
    f.finish().await;
}

#[tokio::test]
async fn failing_entrypoints_are_errors_of_start() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    for (n, (program, message)) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("c{n}");
        let spec = ContainerSpec { command: vec![program.into()], ..sh(&id, "") };
        let spec = ContainerSpec { args: Vec::new(), ..spec };
        f.create("s", &spec).await.unwrap();
        let error = f.runtime.start_container(&id).await.unwrap_err();
        assert!(matches!(error, Error::Start(_)), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
        let status = f.runtime.container(&id).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(128)));
    }
    f.finish().await;
}

#[tokio::test]
async fn bad_specifications_are_refused_and_leave_nothing() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let none = ContainerSpec { command: vec![], args: vec![], ..sh("c", "") };
    assert!(matches!(f.create("s", &none).await.unwrap_err(), Error::Invalid(_)));
    let user = f.image(|i| i.config.user = "nobody-knows".into());
    let error = f.runtime.create_container("s", &sh("c", "true"), &user).await.unwrap_err();
    assert!(error.to_string().contains("unable to find user nobody-knows"), "{error}");
    assert!(f.runtime.container("c").await.is_none());
    // The name is free again.
    f.create("s", &sh("c", "true")).await.unwrap();
    let again = f.create("s", &sh("c", "true")).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists(_)), "{again:?}");
    assert!(matches!(f.create("other", &sh("d", "true")).await, Err(Error::SandboxNotFound(_))));
    assert!(matches!(f.runtime.start_container("nope").await, Err(Error::ContainerNotFound(_))));
    f.finish().await;
}

#[tokio::test]
async fn exec_has_streams_and_an_exit_code() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    let command = ["sh", "-c", "cat; echo err >&2; exit 3"].map(String::from).to_vec();
    let spec = ExecSpec { command, stdin: true, ..Default::default() };
    let mut session = f.runtime.exec("c", &spec).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let text = vec![b'x'; 300_000];
    let (stdout, stderr) = (session.stdout.take().unwrap(), session.stderr.take().unwrap());
    let write = async {
        stdin.write_all(&text).await.unwrap();
        drop(stdin);
    };
    let ((), out, err, code) = tokio::join!(write, read_all(stdout), read_all(stderr), session.wait());
    assert_eq!((out.len(), err.as_str(), code.unwrap()), (300_000, "err\n", 3));

    let output = f.exec("c", "echo $$ $HOSTNAME; cat /proc/1/cmdline").await;
    assert!(output.contains("host-s"), "{output}");
    assert!(output.contains("sleep"), "{output}");
    let missing = f.runtime.exec_sync("c", &["nope".into()], LONG).await.unwrap_err();
    let expected = "exec: \"nope\": executable file not found in $PATH";
    assert!(missing.to_string().contains(expected), "{missing}");
    let started = Instant::now();
    let slow = f.runtime.exec_sync("c", &["sleep".into(), "100".into()], Duration::from_millis(300)).await;
    assert!(matches!(slow, Err(Error::Timeout(_))), "{slow:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    let gone = f.exec("c", "ps | grep -c '[s]leep 100$' || true").await;
    assert_eq!(gone.trim(), "0", "killed after the timeout");
    f.finish().await;
}

#[tokio::test]
async fn exec_with_a_terminal_can_be_resized() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    let command = ["sh", "-c", "read x; stty size; tty; exit 5"].map(String::from).to_vec();
    let spec = ExecSpec { command, stdin: true, tty: true, size: Some((80, 24)) };
    let mut session = f.runtime.exec("c", &spec).await.unwrap();
    assert!(session.stderr.is_none());
    session.resize(132, 43).unwrap();
    session.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let out = read_all(session.stdout.take().unwrap()).await;
    assert!(out.contains("43 132") && out.contains("/dev/pts/"), "{out:?}");
    assert_eq!(session.wait().await.unwrap(), 5);
    f.finish().await;
}

#[tokio::test]
async fn attach_shares_the_streams_of_the_container() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let spec = ContainerSpec { stdin: true, stdin_once: true, ..sh("c", "cat; echo bye; echo err >&2") };
    f.running("s", &spec).await;
    let mut session = f.runtime.attach("c", true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    drop(stdin);
    let (stdout, stderr) = (session.stdout.take().unwrap(), session.stderr.take().unwrap());
    let (out, err) = tokio::join!(read_all(stdout), read_all(stderr));
    assert_eq!((out.as_str(), err.as_str()), ("hello\nbye\n", "err\n"));
    let status = f.ended("c").await;
    assert_eq!(status.exit_code, Some(0));
    assert_eq!(log_lines(&status.log_path).len(), 3);

    let spec = ContainerSpec { stdin: true, tty: true, ..sh("t", "read x; stty size; exit 4") };
    f.running("s", &spec).await;
    let mut session = f.runtime.attach("t", true).await.unwrap();
    session.resize(100, 30).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let out = read_all(session.stdout.take().unwrap()).await;
    assert!(out.contains("30 100"), "{out:?}");
    assert_eq!(f.ended("t").await.exit_code, Some(4));
    f.finish().await;
}

#[tokio::test]
async fn stopping_asks_first_and_kills_after_the_grace() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let handled = "trap 'echo got term; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    f.running("s", &sh("polite", handled)).await;
    f.logged("polite", "up").await;
    let started = Instant::now();
    f.runtime.stop_container("polite", LONG, None).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    let status = f.runtime.container("polite").await.unwrap();
    assert_eq!((status.exit_code, status.signal), (Some(9), None));

    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    f.running("s", &sh("stubborn", stubborn)).await;
    f.logged("stubborn", "up").await;
    f.runtime.stop_container("stubborn", Duration::from_millis(400), None).await.unwrap();
    let status = f.runtime.container("stubborn").await.unwrap();
    assert_eq!((status.exit_code, status.signal), (Some(137), Some(9)));
    f.runtime.stop_container("stubborn", LONG, None).await.unwrap();

    let spec = sh("quit", "trap 'exit 11' QUIT; echo up; while :; do sleep 0.1; done");
    let spec = ContainerSpec { stop_signal: Some("SIGQUIT".into()), ..spec };
    f.running("s", &spec).await;
    f.logged("quit", "up").await;
    f.runtime.stop_container("quit", LONG, None).await.unwrap();
    assert_eq!(f.runtime.container("quit").await.unwrap().exit_code, Some(11));
    f.finish().await;
}

#[tokio::test]
async fn memory_limits_are_set_and_their_excess_is_told() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let resources = Resources { memory_limit: Some(24 << 20), pids_limit: Some(50), ..Default::default() };
    let spec = ContainerSpec { resources, ..sh("limited", "sleep 1000") };
    f.running("s", &spec).await;
    let stats = f.runtime.stats("limited").await.unwrap();
    assert_eq!(stats.memory_limit, Some(24 << 20));
    assert!(stats.memory_usage > 0 && stats.pids == 1, "{stats:?}");
    let seen = f
        .exec("limited", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")
        .await;
    assert_eq!(seen.trim(), (24 << 20).to_string());
    let raised = f
        .exec("limited", "echo 99999999 > /sys/fs/cgroup/memory/memory.limit_in_bytes || echo refused")
        .await;
    assert!(raised.contains("refused"), "{raised}");

    let more = Resources { memory_limit: Some(32 << 20), pids_limit: Some(-1), ..Default::default() };
    f.runtime.update("limited", &more).await.unwrap();
    assert_eq!(f.runtime.stats("limited").await.unwrap().memory_limit, Some(32 << 20));
    f.runtime.update("limited", &spec.resources).await.unwrap();
    assert_eq!(f.runtime.stats("limited").await.unwrap().memory_limit, Some(24 << 20));
    let error = f.runtime.update("none", &more).await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");

    let eat = "x=0123456789abcdef; while :; do x=$x$x$x$x; done";
    f.running("s", &ContainerSpec { args: vec![eat.into()], ..ContainerSpec { id: "oom".into(), ..spec } })
        .await;
    let status = f.ended("oom").await;
    assert!(status.oom_killed, "{status:?}");
    assert_eq!(status.exit_code, Some(137));
    let error = f.runtime.update("oom", &more).await.unwrap_err();
    assert!(error.to_string().contains("change the limits of"), "{error}");
    // Groups above stay when the last sandbox below them goes, with their limits.
    let all = Resources { memory_limit: Some(1 << 30), ..Default::default() };
    f.runtime.set_group("burstable", &all).unwrap();
    f.runtime.remove_sandbox("s").await.unwrap();
    assert_eq!(f.runtime.group_stats("burstable").unwrap().memory_limit, Some(1 << 30));
    assert!(f.runtime.set_group("../other", &all).is_err());
    f.assert_clean();
    Runtime::cleanup_all(&f.config).await.unwrap();
    assert!(f.cgroups().is_empty(), "{:?}", f.cgroups());
}

#[tokio::test]
async fn logs_are_rotated_and_reopened() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let script = "n=0; while [ $n -lt 80 ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo up; read x; echo after";
    let spec = ContainerSpec { stdin: true, log_max_bytes: 2000, log_max_files: 3, ..sh("c", script) };
    let log = f.running("s", &spec).await.log_path;
    f.logged("c", "up").await;
    let names = std::fs::read_dir(log.parent().unwrap()).unwrap().count();
    // How many depends on how much is read at once.
    assert!((2..=3).contains(&names), "{names}");
    let moved = log.with_file_name("moved");
    std::fs::rename(&log, &moved).unwrap();
    f.runtime.reopen_log("c").await.unwrap();
    f.runtime.attach("c", true).await.unwrap().stdin.unwrap().write_all(b"go\n").await.unwrap();
    f.ended("c").await;
    assert_eq!(log_lines(&log), ["stdout F after"]);
    assert_eq!(log_lines(&moved).last().unwrap(), "stdout F up");
    f.finish().await;
}
