//! Bad input and bad luck: each gives a clear error in the place where users of Kubernetes look.

use crate::harness::{Cluster, Host, executable, show};
use crate::{Alone, Shared};

pub const SHARED: &[(&str, Shared)] = &[
    ("error_malformed_yaml", malformed_yaml),
    ("error_unknown_field", unknown_field),
    ("error_invalid_pod", invalid_pod),
    ("error_missing_image", missing_image),
    ("error_missing_entrypoint", missing_entrypoint),
    ("error_second_server_on_the_same_data", second_server),
];

pub const ALONE: &[(&str, Alone)] = &[
    ("error_port_taken", port_taken),
    ("error_data_of_a_newer_version", newer_data),
    ("error_bad_settings", bad_settings),
    ("error_full_disk", full_disk),
];

fn malformed_yaml(cluster: &Cluster) {
    let output = cluster
        .try_stdin(&["create", "--raw", "/api/v1/namespaces/default/pods", "-f", "-"], "{\"kind\": \"Pod\",");
    assert!(!output.status.success());
    assert!(
        show(&output).contains("could not be understood")
            || show(&output).contains("BadRequest")
            || show(&output).contains("bad request")
            || show(&output).contains("unexpected"),
        "{}",
        show(&output)
    );
}

fn unknown_field(cluster: &Cluster) {
    let ns = &cluster.namespace("unknown");
    let manifest = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: main, image: 'busybox:1.35', comand: [sleep]}]
";
    let output = cluster.try_stdin(&["create", "-n", ns, "-f", "-"], manifest);
    let text = show(&output);
    assert!(text.contains("strict decoding error: unknown field \"spec.containers[0].comand\""), "{text}");
}

fn invalid_pod(cluster: &Cluster) {
    let ns = &cluster.namespace("invalid");
    let manifest = "apiVersion: v1
kind: Pod
metadata: {name: Bad_Name}
spec: {containers: [{name: main}], restartPolicy: Sometimes}
";
    let output = cluster.try_stdin(&["create", "-n", ns, "-f", "-"], manifest);
    let text = show(&output);
    for part in [
        "The Pod \"Bad_Name\" is invalid",
        "metadata.name: Invalid value: \"Bad_Name\"",
        "spec.restartPolicy: Unsupported value: \"Sometimes\"",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

fn missing_image(cluster: &Cluster) {
    let ns = &cluster.namespace("noimage");
    cluster.kubectl(&["run", "p", "-n", ns, "--image=127.0.0.1:9/none:1"]);
    cluster.kubectl(&[
        "run",
        "never",
        "-n",
        ns,
        "--image=nowhere.invalid/none:1",
        "--image-pull-policy=Never",
    ]);
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_jsonpath(&["pod", "never", "-n", ns], reason, "ErrImageNeverPull");
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], reason, "ImagePullBackOff");
    let described = cluster.kubectl(&["describe", "pod", "p", "-n", ns]);
    assert!(described.contains("Failed to pull image \"127.0.0.1:9/none:1\""), "{described}");
    assert!(described.contains("refused"), "the cause is told: {described}");
}

fn missing_entrypoint(cluster: &Cluster) {
    let ns = &cluster.namespace("noentry");
    cluster.kubectl(&[
        "run",
        "p",
        "-n",
        ns,
        "--image=busybox:1.35",
        "--restart=Never",
        "--command",
        "--",
        "/no/such",
    ]);
    let state = "{.status.containerStatuses[0].state.terminated.reason}";
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], state, "StartError");
    let message = cluster.kubectl(&[
        "get",
        "pod",
        "p",
        "-n",
        ns,
        "-o",
        "jsonpath={.status.containerStatuses[0].state.terminated.message}",
    ]);
    assert!(message.contains("/no/such"), "{message}");
}

fn second_server(cluster: &Cluster) {
    let output = cluster.kedge(&["server", "--https-listen-port", "16443"]).output().expect("kedge runs");
    assert!(!output.status.success(), "{}", show(&output));
    let text = show(&output);
    assert!(
        text.contains("already runs as process") && text.contains(&cluster.server_pid().to_string()),
        "{text}"
    );
}

fn server_fails(host: &Host, flags: &[&str]) -> String {
    let data = host.directory.path().join("data");
    let mut command = host.command("timeout");
    command
        .arg("60")
        .arg(executable())
        .args(["server", "--node-name", "n", "--data-dir"])
        .arg(data)
        .args(flags);
    let output = command.output().expect("kedge runs");
    assert!(!matches!(output.status.code(), Some(0 | 124)), "must fail by itself: {}", show(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn port_taken() {
    let host = Host::new("port");
    let mut holder =
        host.command("python3").args(["-m", "http.server", "6443"]).spawn().expect("python3 runs");
    crate::harness::wait_for("the port to be taken", || host.sh("ss -ltn").contains(":6443"));
    let error = server_fails(&host, &[]);
    let _ = holder.kill();
    let _ = holder.wait();
    assert!(error.contains("6443") && error.contains("--https-listen-port"), "{error}");
}

fn newer_data() {
    let cluster = Cluster::start("newer", &[]);
    cluster.stop_server();
    let version = cluster.data_dir().join("server/db/format");
    assert!(version.exists(), "the store writes its format's version");
    std::fs::write(&version, "999\n").expect("writes");
    let error = server_fails(&cluster.host, &[]);
    assert!(error.contains("newer") && error.contains("server/db"), "{error}");
}

fn bad_settings() {
    let host = Host::new("settings");
    let error = server_fails(&host, &["--cluster-cidr", "10.42.0.1/16"]);
    assert!(error.contains("--cluster-cidr") && error.contains("did you mean 10.42.0.0/16"), "{error}");
    let data = host.directory.path().join("data");
    host.sh(&format!("mkdir -p {0} && mount -t tmpfs -o ro tmpfs {0}", data.display()));
    let error = server_fails(&host, &[]);
    assert!(error.contains("Read-only file system") && error.contains("--data-dir"), "{error}");
    host.sh(&format!("umount {}", data.display()));
    let file = host.directory.path().join("config.yaml");
    std::fs::write(&file, "cluster-cird: 10.42.0.0/16\n").expect("writes");
    let error = server_fails(&host, &["--config", file.to_str().expect("UTF-8")]);
    assert!(error.contains("config.yaml") && error.contains("cluster-cird"), "{error}");
    let output = host.command(executable()).args(["agent", "--server", "https://x", "--token", "t"]).output();
    let text = show(&output.expect("kedge runs"));
    assert!(text.contains("joining https://x is not there yet"), "{text}");
}

fn full_disk() {
    let cluster = Cluster::start_on_small_disk("full", 96);
    cluster.kubectl(&["create", "configmap", "before", "--from-literal=a=b"]);
    let data = cluster.data_dir();
    cluster
        .host
        .sh(&format!("dd if=/dev/zero of={}/fill bs=1M count=200 2>/dev/null || true", data.display()));
    // What is preallocated still takes some writes; then the API says why it takes no more.
    let big = "x".repeat(400 << 10);
    let mut refused = String::new();
    for n in 0..400 {
        let manifest = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"c{n}\"}},\"data\":{{\"k\":\"{big}\"}}}}"
        );
        let output = cluster.try_stdin(&["create", "-f", "-"], &manifest);
        if !output.status.success() {
            refused = show(&output);
            break;
        }
    }
    assert!(refused.contains("space") || refused.contains("full"), "{refused}");
    cluster.kubectl(&["get", "configmap", "before"]);
    cluster.host.sh(&format!("rm {}/fill", data.display()));
    crate::harness::wait_for("writes to work again", || {
        cluster
            .kubectl_command(&["create", "configmap", "after", "--from-literal=a=b"])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    cluster.kubectl(&["get", "configmap", "before", "after"]);
}
