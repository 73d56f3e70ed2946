//! What a container may and may not: users, capabilities, system calls, mounts. Needs root.
//!
//! libcontainer 0.7 has its pitfalls; where each is tested:
//!
//! | pitfall | test |
//! |---|---|
//! | called from a threaded process, creates hang or fail | `thirty_at_once` (sandboxes) |
//! | the executable can be reached through `/proc/self/exe` | `the_file_behind_the_shim_cannot_be_reached_for_writing` |
//! | cgroup v1 mounts are writable in spite of `ro` | `memory_limits_are_set_and_their_excess_is_told` (containers) |
//! | SIGPIPE stays ignored, signals stay blocked | `processes_start_with_a_clean_slate` |
//! | programs without the others' x bit are refused | `programs_only_their_owner_may_execute_are_executed` |
//! | errors after `start()` are lost | `failing_entrypoints_are_errors_of_start` (containers) |
//! | `oomScoreAdj` lands on the shim | `the_shim_keeps_its_own_oom_score` |
//! | `cwd` must exist | `users_are_found_by_name_in_the_image` |
//! | `delete()` leaves parent cgroups | `Fixture::finish`, in every test |
//! | states are not written atomically | `containers_outlive_a_killed_kedge`, `another_boot_starts_from_nothing` (sandboxes) |
//! | the detail of errors is only traced | `what_failed_is_told` |
//! | `noNewPrivileges: false` together with seccomp fails | `the_default_filter_holds_for_the_container_and_for_execs` |
//! | propagation of single mounts is ignored | `mounts_travel_only_where_they_are_let` |
//! | AppArmor is an error where the kernel lacks it; idmapped mounts and user namespaces | refused before: `agent_security` |
//! | exec runs as root, with no-new-privileges, without terminal | `execs_have_what_the_container_has`, `exec_with_a_terminal_can_be_resized` (containers) |
//! | exec drops the system call filter | `the_default_filter_holds_for_the_container_and_for_execs` |
//! | failed execs leave processes behind | `failed_execs_leave_no_processes` |
//! | `kill` writes "Stopped" whatever the signal | `a_signal_that_is_survived_changes_nothing` |
//! | others outlive the main process without a PID namespace of its own | `what_outlives_the_main_process_is_killed` |
//! | devices and links are made in `/dev` whatever is mounted there | `the_hosts_devices_are_mounted_and_left_alone` |
//! | there is no API for the OOM killer | `memory_limits_are_set_and_their_excess_is_told` (containers) |
//! | device rules are not applied with cgroup v2 | `ordinary_containers_see_little_and_privileged_ones_all` (also under the test kernel) |
//! | a pause process can be ended or looked through | `a_shared_pid_namespace_has_a_pause_process_that_cannot_be_ended` (sandboxes) |

#[path = "runtime_support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use kedge::runtime::spec::{ContainerSpec, ExecSpec, Mount, MountKind, Propagation, Seccomp};
use kedge::runtime::{Error, RootFs};
use support::{Fixture, log_lines, read_all, sh};

/// A line of `/proc/self/status` of a process in the container.
async fn status_line(f: &Fixture, id: &str, of: &str, key: &str) -> String {
    let line = f.exec(id, &format!("grep ^{key}: /proc/{of}/status")).await;
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn users_are_found_by_name_in_the_image() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let web = |i: &mut RootFs| {
        i.config.user = "web".into();
        i.config.working_dir = "/srv/data".into();
    };
    let spec =
        ContainerSpec { supplemental_groups: vec![777], ..sh("c", "id > /dev/stdout; pwd; sleep 1000") };
    f.runtime.create_container("s", &spec, &f.image(web)).await.unwrap();
    f.runtime.start_container("c").await.unwrap();
    f.logged("c", "/srv/data").await;
    let lines = log_lines(&f.runtime.container("c").await.unwrap().log_path);
    assert_eq!(lines[0], "stdout F uid=33(web) gid=44(web) groups=4(logs),44(web),777");
    assert_eq!(status_line(&f, "c", "self", "CapEff").await, "0000000000000000");
    let exec = f.exec("c", "id -u; pwd; echo $HOME; touch /srv/data/x 2>/dev/null || echo denied").await;
    assert_eq!(exec, "33\n/srv/data\n/srv\ndenied\n");
    f.finish().await;
}

#[tokio::test]
async fn capabilities_are_the_default_less_the_dropped() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    for seccomp in [Seccomp::Unconfined, Seccomp::RuntimeDefault] {
        f.running("s", &ContainerSpec { seccomp: seccomp.clone(), ..sh("c", "sleep 1000") }).await;
        let spec = ContainerSpec {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["NET_BIND_SERVICE".into()],
            seccomp,
            ..sh("few", "sleep 1000")
        };
        f.running("s", &spec).await;
        for (id, expected) in [("c", "00000000a80425fb"), ("few", "0000000000000400")] {
            for process in ["1", "self"] {
                for set in ["CapBnd", "CapEff", "CapPrm"] {
                    assert_eq!(status_line(&f, id, process, set).await, expected, "{id} {process} {set}");
                }
                assert_eq!(status_line(&f, id, process, "CapInh").await, "0000000000000000");
            }
        }
        assert!(f.exec("c", "mount -t tmpfs none /tmp 2>&1 || true").await.contains("denied"));
        f.runtime.remove_container("c").await.unwrap();
        f.runtime.remove_container("few").await.unwrap();
    }
    f.finish().await;
}

#[tokio::test]
async fn the_default_filter_holds_for_the_container_and_for_execs() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let spec = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sh("c", "sleep 1000") };
    f.running("s", &spec).await;
    for process in ["1", "self"] {
        assert_eq!(status_line(&f, "c", process, "Seccomp").await, "2", "{process}");
        assert_eq!(status_line(&f, "c", process, "NoNewPrivs").await, "0", "{process}");
    }
    assert!(f.exec("c", "unshare -U true 2>&1 || true").await.contains("not permitted"));
    assert_eq!(f.exec("c", "echo a | cat; ls / > /dev/null && echo fine").await, "a\nfine\n");

    f.running("s", &sh("free", "sleep 1000")).await;
    assert_eq!(status_line(&f, "free", "self", "Seccomp").await, "0");

    let profile = f.dir.path().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    fs::write(&profile, text).unwrap();
    f.running("s", &ContainerSpec { seccomp: Seccomp::Localhost(profile), ..sh("own", "sleep 1000") }).await;
    assert!(f.exec("own", "mkdir /tmp/x 2>&1 || true").await.contains("No space left"));
    let missing = ContainerSpec { seccomp: Seccomp::Localhost("/no/profile".into()), ..sh("bad", "true") };
    assert!(f.create("s", &missing).await.unwrap_err().to_string().contains("/no/profile"));
    f.finish().await;
}

#[tokio::test]
async fn what_failed_is_told() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let onto_file = Mount { source: f.dir.path().into(), target: "/etc/passwd".into(), ..Default::default() };
    let error =
        f.create("s", &ContainerSpec { mounts: vec![onto_file], ..sh("c", "true") }).await.unwrap_err();
    assert!(matches!(error, Error::Start(_)), "{error:?}");
    let cause = format!(
        "error mounting \"{}\" to rootfs at \"/etc/passwd\": not a directory",
        f.dir.path().display()
    );
    assert!(error.to_string().contains(&cause), "{error}");
    // The next failure does not tell of this one.
    let missing =
        f.create("s", &ContainerSpec { working_dir: Some("/etc/passwd/x".into()), ..sh("d", "true") }).await;
    assert!(!missing.unwrap_err().to_string().contains("rootfs at"));
    f.finish().await;
}

#[tokio::test]
async fn the_hosts_devices_are_mounted_and_left_alone() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let devices = f.dir.path().join("devices");
    let made =
        format!("mkdir {0} && cd {0} && mknod -m 666 null c 1 3 && echo here > marker", devices.display());
    assert!(std::process::Command::new("sh").args(["-c", &made]).status().unwrap().success());
    let words = f.dir.path().join("words");
    fs::write(&words, "words\n").unwrap();
    let mount = |source: &PathBuf, target: &str, readonly| Mount {
        source: source.clone(),
        target: target.into(),
        readonly,
        ..Default::default()
    };
    let mounts = vec![mount(&words, "/dev/termination-log", false), mount(&devices, "/dev", false)];
    f.running("s", &ContainerSpec { mounts, ..sh("c", "sleep 1000") }).await;
    let seen = f
        .exec("c", "ls /dev; cat /dev/marker /dev/termination-log; echo x > /dev/null && echo written")
        .await;
    assert_eq!(seen, "marker\nnull\ntermination-log\nhere\nwords\nwritten\n");
    let mounts = vec![mount(&devices, "/dev/", true)];
    f.running("s", &ContainerSpec { mounts, ..sh("r", "sleep 1000") }).await;
    assert_eq!(
        f.exec("r", "touch /dev/x 2>/dev/null || echo refused; cat /dev/marker").await,
        "refused\nhere\n"
    );
    let mut left: Vec<_> = fs::read_dir(&devices).unwrap().flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["marker", "null", "termination-log"], "as elsewhere, the place of a mount stays");
    f.finish().await;
}

/// A program of i386 that ends with code 42: `exit(42)` behind the least that makes an ELF file.
#[cfg(target_arch = "x86_64")]
fn program_of_i386() -> Vec<u8> {
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let (base, headers) = (0x0804_8000u32, 52 + 32);
    let size = headers + code.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |file: &mut Vec<u8>, all: &[u16]| file.extend(all.iter().flat_map(|n| n.to_le_bytes()));
    let words = |file: &mut Vec<u8>, all: &[u32]| file.extend(all.iter().flat_map(|n| n.to_le_bytes()));
    halves(&mut file, &[2, 3]);
    words(&mut file, &[1, base + headers, 52, 0, 0]);
    halves(&mut file, &[52, 32, 1, 0, 0, 0]);
    words(&mut file, &[1, 0, base, base, size, size, 5, 0x1000]);
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn programs_of_32_bits_are_filtered_by_their_own_calls() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::new().await;
    let program = f.dir.path().join("layer/bin/i386");
    fs::write(&program, program_of_i386()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // Not every kernel runs them.
    if std::process::Command::new(&program).status().is_ok_and(|s| s.code() == Some(42)) {
        f.sandbox("s").await;
        let native_alone = f.dir.path().join("native.json");
        fs::write(
            &native_alone,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}"#,
        )
        .unwrap();
        for (id, seccomp, code) in
            [("d", Seccomp::RuntimeDefault, 42), ("n", Seccomp::Localhost(native_alone), 128 + libc::SIGSYS)]
        {
            let spec =
                ContainerSpec { command: vec!["/bin/i386".into()], args: vec![], seccomp, ..sh(id, "") };
            f.running("s", &spec).await;
            assert_eq!(f.ended(id).await.exit_code, Some(code), "{id}");
        }
    }
    f.finish().await;
}

#[tokio::test]
async fn no_new_privileges_is_set_when_asked() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    for seccomp in [Seccomp::Unconfined, Seccomp::RuntimeDefault] {
        let spec =
            ContainerSpec { no_new_privileges: true, uid: Some(1000), seccomp, ..sh("c", "sleep 1000") };
        f.running("s", &spec).await;
        for process in ["1", "self"] {
            assert_eq!(status_line(&f, "c", process, "NoNewPrivs").await, "1");
        }
        f.runtime.remove_container("c").await.unwrap();
    }
    f.finish().await;
}

#[tokio::test]
async fn the_root_file_system_can_be_read_only() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let tmp = Mount { target: "/tmp".into(), kind: MountKind::Tmpfs(Some(1 << 20)), ..Default::default() };
    let spec = ContainerSpec { readonly_rootfs: true, mounts: vec![tmp], ..sh("c", "sleep 1000") };
    f.running("s", &spec).await;
    let tried = f.exec("c", "touch /x 2>&1; touch /tmp/x && echo tmp; touch /dev/shm/x && echo shm").await;
    assert!(tried.contains("Read-only file system") && tried.ends_with("tmp\nshm\n"), "{tried}");
    let full = f.exec("c", "dd if=/dev/zero of=/tmp/big bs=1024 count=2000 2>&1 || true").await;
    assert!(full.contains("No space left"), "{full}");
    f.finish().await;
}

#[tokio::test]
async fn mounts_show_what_they_should() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let host = f.dir.path().join("host");
    fs::create_dir_all(host.join("sub")).unwrap();
    fs::write(host.join("file"), "from host\n").unwrap();
    let bind = |source: PathBuf, target: &str, readonly| Mount {
        source,
        target: target.into(),
        readonly,
        kind: MountKind::Bind,
        propagation: Propagation::Private,
        ..Default::default()
    };
    let mounts = vec![
        bind(host.clone(), "/data", false),
        bind(host.join("file"), "/etc/hosts", true),
        bind(host.clone(), "/made/on/demand", true),
    ];
    f.running("s", &ContainerSpec { mounts, ..sh("c", "sleep 1000") }).await;
    assert_eq!(f.exec("c", "cat /etc/hosts; echo new > /data/out").await, "from host\n");
    assert_eq!(fs::read_to_string(host.join("out")).unwrap(), "new\n");
    let denied = f.exec("c", "echo x > /etc/hosts; touch /made/on/demand/x; echo done").await;
    assert_eq!(denied, "done\n");
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "from host\n");
    assert!(!host.join("x").exists());
    f.finish().await;
    assert!(!PathBuf::from("/made").exists());
}

#[tokio::test]
async fn ordinary_containers_see_little_and_privileged_ones_all() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    let look = "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/swappiness || echo ro; \
                touch /sys/x || echo ro; ls /dev | sort | head -100";
    let seen = f.exec("c", look).await;
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[..4], ["0", "0", "ro", "ro"], "{seen}");
    let mut expected: Vec<&str> =
        "fd full kcore mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
            .split(' ')
            .collect();
    expected.retain(|d| *d != "kcore" || PathBuf::from("/proc/kcore").exists());
    assert_eq!(lines[4..], expected);
    assert_eq!(f.exec("c", "head -c 3 /dev/zero | wc -c").await.trim(), "3");
    // A device node may be made, but not opened; read through it, the host's memory would be bare.
    let made = f.exec("c", "mknod /mem c 1 1 && echo made; head -c 1 /mem 2>/dev/null || echo denied").await;
    assert_eq!(made, "made\ndenied\n");

    f.running("s", &ContainerSpec { privileged: true, ..sh("p", "sleep 1000") }).await;
    assert_eq!(f.exec("p", "mount -t tmpfs none /tmp && echo mounted").await, "mounted\n");
    let devices = f.exec("p", "ls /dev | wc -l").await.trim().parse::<usize>().unwrap();
    assert!(devices > 20, "{devices}");
    f.finish().await;
}

#[tokio::test]
async fn processes_start_with_a_clean_slate() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    // Not a shell, which ignores SIGQUIT itself.
    let command = vec!["sleep".into(), "1000".into()];
    f.running("s", &ContainerSpec { oom_score_adj: 500, command, args: vec![], ..sh("c", "") }).await;
    for process in ["1", "self"] {
        for mask in ["SigBlk", "SigIgn"] {
            let line = format!("grep {mask} /proc/{process}/status");
            let command: Vec<_> = line.split(' ').map(String::from).collect();
            let output = f.runtime.exec_sync("c", &command, std::time::Duration::from_secs(5)).await.unwrap();
            let ignored =
                String::from_utf8(output.stdout).unwrap().split_whitespace().nth(1).unwrap().to_string();
            assert_eq!(u64::from_str_radix(&ignored, 16).unwrap(), 0, "{process} {mask}");
        }
    }
    let fds = f.exec("c", "ls /proc/1/fd").await;
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(f.exec("c", "cat /proc/1/oom_score_adj").await, "500\n");
    let environment = f.exec("c", "env").await;
    let names: Vec<_> = environment.lines().filter_map(|l| l.split_once('=')).map(|(n, _)| n).collect();
    assert!(names.iter().all(|n| ["PATH", "HOSTNAME", "HOME", "PWD", "SHLVL", "_"].contains(n)), "{names:?}");
    f.finish().await;
}

#[tokio::test]
async fn the_file_behind_the_shim_cannot_be_reached_for_writing() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &ContainerSpec { privileged: true, ..sh("c", "sleep 1000") }).await;
    // A script run by the shim's own program is the way in that CVE-2019-5736 describes.
    f.exec("c", "echo '#!/proc/self/exe' > /evil; chmod 755 /evil").await;
    let before = fs::metadata(env!("CARGO_BIN_EXE_kedge")).unwrap();
    let run = f.runtime.exec_sync("c", &["/evil".into()], std::time::Duration::from_secs(5)).await;
    assert!(run.is_err() || run.is_ok_and(|o| o.code != 0));
    let after = fs::metadata(env!("CARGO_BIN_EXE_kedge")).unwrap();
    assert_eq!((before.mtime_nsec(), before.size()), (after.mtime_nsec(), after.size()));
    let exe = format!("/proc/{}/exe", f.shim("s"));
    let opened = fs::OpenOptions::new().write(true).open(exe);
    // ETXTBSY alone would end with the process.
    assert_ne!(opened.as_ref().err().and_then(|e| e.raw_os_error()), Some(libc::ETXTBSY));
    assert!(opened.is_err());
    f.finish().await;
}

#[tokio::test]
async fn many_layers_are_mounted() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let deep = |i: &mut RootFs| {
        let base = i.lower.remove(0);
        for n in 0..120 {
            let layer = f.dir.path().join(format!("{}-{n}", "layer".repeat(10)));
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join("top"), n.to_string()).unwrap();
            fs::write(layer.join(format!("f{n}")), "").unwrap();
            i.lower.push(layer);
        }
        i.lower.push(base);
    };
    f.runtime.create_container("s", &sh("c", "sleep 1000"), &f.image(deep)).await.unwrap();
    f.runtime.start_container("c").await.unwrap();
    assert_eq!(f.exec("c", "cat /top; ls / | grep -c '^f'").await, "0120\n");
    f.finish().await;
}

#[tokio::test]
async fn an_exec_of_an_ended_container_is_refused() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "exit 0")).await;
    f.ended("c").await;
    let spec = ExecSpec { command: vec!["true".into()], ..Default::default() };
    let error = f.runtime.exec("c", &spec).await.unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error:?}");
    assert_eq!(error.to_string(), "container \"c\" is exited, cannot exec");
    assert!(f.runtime.attach("c", true).await.is_err());
    let created = f.create("s", &sh("d", "echo hi")).await.unwrap();
    assert!(created.pid.is_some());
    let session = f.runtime.attach("d", true).await.unwrap();
    f.runtime.start_container("d").await.unwrap();
    assert_eq!(read_all(session.stdout.unwrap()).await, "hi\n", "nothing is lost between attach and start");
    f.finish().await;
}

#[tokio::test]
async fn mounts_travel_only_where_they_are_let() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let host = f.dir.path().join("shared");
    fs::create_dir_all(host.join("host")).unwrap();
    fs::create_dir_all(host.join("container")).unwrap();
    let run = |command: &str| {
        let done = std::process::Command::new("sh").args(["-c", command]).current_dir(&host).status();
        assert!(done.unwrap().success(), "{command}");
    };
    run("mount --bind . . && mount --make-shared $PWD");
    for (id, propagation) in [
        ("none", Propagation::Private),
        ("in", Propagation::HostToContainer),
        ("both", Propagation::Bidirectional),
    ] {
        let mount = Mount { source: host.clone(), target: "/m".into(), propagation, ..Default::default() };
        f.running("s", &ContainerSpec { privileged: true, mounts: vec![mount], ..sh(id, "sleep 1000") })
            .await;
    }
    run("mount -t tmpfs none host && touch host/x");
    let see = "ls /m/host /m/container";
    assert!(!f.exec("none", see).await.contains('x'));
    assert!(f.exec("in", see).await.contains('x'));
    assert!(f.exec("both", see).await.contains('x'));
    f.exec("in", "mount -t tmpfs none /m/container && touch /m/container/in").await;
    assert!(!host.join("container/in").exists());
    f.exec("both", "mount -t tmpfs none /m/container && touch /m/container/both").await;
    assert!(host.join("container/both").exists());
    run("umount container && umount host && cd / && umount -l $OLDPWD");
    f.finish().await;
}

#[tokio::test]
async fn programs_only_their_owner_may_execute_are_executed() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let program = f.dir.path().join("layer/bin/mine");
    fs::copy("/bin/busybox", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let spec =
        ContainerSpec { command: vec!["/bin/mine".into()], args: vec!["true".into()], ..sh("owner", "") };
    f.running("s", &spec).await;
    assert_eq!(f.ended("owner").await.exit_code, Some(127), "busybox ran, and knows no applet of that name");
    f.finish().await;
}

#[tokio::test]
async fn the_shim_keeps_its_own_oom_score() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let score = || fs::read_to_string(format!("/proc/{}/oom_score_adj", f.shim("s"))).unwrap();
    let before = score();
    f.running("s", &ContainerSpec { oom_score_adj: 987, ..sh("c", "sleep 1000") }).await;
    assert_eq!(f.exec("c", "cat /proc/1/oom_score_adj /proc/self/oom_score_adj").await, "987\n987\n");
    assert_eq!(score(), before);
    f.finish().await;
}

#[tokio::test]
async fn execs_have_what_the_container_has() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let spec = ContainerSpec {
        uid: Some(1000),
        gid: Some(2000),
        supplemental_groups: vec![3000],
        add_capabilities: vec!["NET_ADMIN".into()],
        seccomp: Seccomp::RuntimeDefault,
        env: vec![("MINE".into(), "yes".into())],
        working_dir: Some("/made".into()),
        ..sh("c", "sleep 1000")
    };
    f.running("s", &spec).await;
    for key in
        ["Uid", "Gid", "Groups", "CapBnd", "CapEff", "CapAmb", "CapInh", "NoNewPrivs", "Seccomp", "SigBlk"]
    {
        let (first, own) = (status_line(&f, "c", "1", key).await, status_line(&f, "c", "self", key).await);
        assert_eq!(first, own, "{key}");
    }
    for file in ["cgroup", "limits", "oom_score_adj", "uid_map"] {
        let read = format!("cat /proc/1/{file} > /tmp/1; cat /proc/self/{file} > /tmp/self; ");
        let same = f.exec("c", &format!("{read} busybox cmp /tmp/1 /tmp/self && echo same")).await;
        assert_eq!(same, "same\n", "{file}");
    }
    let spaces =
        "for n in mnt net pid ipc uts cgroup user; do readlink /proc/self/ns/$n; done; pwd; echo $MINE";
    let seen = f.exec("c", spaces).await;
    let pid = f.runtime.container("c").await.unwrap().pid.unwrap();
    let names = ["mnt", "net", "pid", "ipc", "uts", "cgroup", "user"];
    let of_container =
        names.map(|n| fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap().display().to_string());
    assert_eq!(seen, format!("{}\n/made\nyes\n", of_container.join("\n")));
    f.finish().await;
}

#[tokio::test]
async fn failed_execs_leave_no_processes() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &sh("c", "sleep 1000")).await;
    let before = f.processes().len();
    for _ in 0..10 {
        let missing = f.runtime.exec_sync("c", &["/nope".into()], std::time::Duration::from_secs(5)).await;
        assert!(missing.is_err());
    }
    let shim = f.shim("s").to_string();
    // Not every kernel has /proc/PID/task/PID/children. The parent comes after name and state.
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parents = stats.filter_map(|s| Some(s.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned()));
    let children = parents.filter(|parent| *parent == shim).count();
    assert_eq!(children, 1, "only the container's own, dead or alive");
    assert_eq!(f.processes().len(), before);
    f.finish().await;
}

#[tokio::test]
async fn a_signal_that_is_survived_changes_nothing() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    let script = "trap 'echo survived' USR1; echo up; while :; do sleep 0.1; done";
    let spec = ContainerSpec { stop_signal: Some("SIGUSR1".into()), ..sh("c", script) };
    f.running("s", &spec).await;
    f.logged("c", "up").await;
    let stop = f.runtime.stop_container("c", std::time::Duration::from_secs(600), None);
    let signalled = f.logged("c", "survived");
    tokio::select! {
        stopped = stop => panic!("it was to survive: {stopped:?}"),
        () = signalled => {}
    }
    assert_eq!(f.exec("c", "echo here").await, "here\n");
    let state = f.runtime.container("c").await.unwrap().state;
    assert_eq!(state, kedge::runtime::spec::ContainerState::Running);
    f.finish().await;
}

#[tokio::test]
async fn what_outlives_the_main_process_is_killed() {
    let f = Fixture::new().await;
    let spec = kedge::runtime::spec::SandboxSpec { share_pid: true, ..f.sandbox_spec("s") };
    f.runtime.run_sandbox(&spec).await.unwrap();
    f.running("s", &sh("other", "sleep 4321")).await;
    f.running("s", &sh("c", "sleep 1234 & sleep 0.2")).await;
    f.ended("c").await;
    let processes = f.exec("other", "ps").await;
    assert!(processes.contains("sleep 4321") && !processes.contains("sleep 1234"), "{processes}");
    f.finish().await;
}

#[tokio::test]
async fn groups_of_the_image_count_unless_told_otherwise() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    for (id, strict_groups, expected) in [("merge", false, "4 44 77"), ("strict", true, "44 77")] {
        let spec = ContainerSpec { strict_groups, supplemental_groups: vec![77], ..sh(id, "sleep 1000") };
        let image = f.image(|i| i.config.user = "web".into());
        f.runtime.create_container("s", &spec, &image).await.unwrap();
        f.runtime.start_container(id).await.unwrap();
        for process in ["1", "self"] {
            assert_eq!(status_line(&f, id, process, "Groups").await, expected, "{id} {process}");
        }
    }
    f.finish().await;
}

#[tokio::test]
async fn an_open_proc_is_not_masked() {
    let f = Fixture::new().await;
    f.sandbox("s").await;
    f.running("s", &ContainerSpec { unmasked: true, ..sh("c", "sleep 1000") }).await;
    let mounts = f.exec("c", "cat /proc/self/mountinfo").await;
    assert!(!mounts.contains(" /proc/sys ") && !mounts.contains(" /proc/kcore "), "{mounts}");
    // The file system of the kernel's devices is not the container's for all that.
    assert_eq!(status_line(&f, "c", "self", "CapEff").await, "00000000a80425fb");
    f.finish().await;
}
