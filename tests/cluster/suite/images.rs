//! Images: the command, and pods that pull.

use std::process::{Child, Command, Stdio};

use crate::Shared;
use crate::harness::{Cluster, NODE_IP, show, wait_for};

pub const SHARED: &[(&str, Shared)] =
    &[("images_import_list_remove", import_list_remove), ("images_are_pulled_from_a_registry", pull)];

fn kedge(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kedge(arguments).output().expect("kedge runs");
    assert!(output.status.success(), "kedge {}\n{}", arguments.join(" "), show(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn import_list_remove(cluster: &Cluster) {
    let list = kedge(cluster, &["images", "list"]);
    for name in ["docker.io/library/busybox:1.35", "docker.io/library/busybox:1.36", "kedge.local/demo:1"] {
        assert!(list.contains(name), "{name} is missing in\n{list}");
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let broken = directory.path().join("broken.tar");
    std::fs::write(&broken, "this is no archive").expect("writes");
    let output =
        cluster.kedge(&["images", "import", broken.to_str().expect("UTF-8")]).output().expect("runs");
    assert!(!output.status.success(), "{}", show(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.tar"), "{}", show(&output));
    let output = cluster.kedge(&["images", "rm", "busybox:9.99"]).output().expect("runs");
    assert!(!output.status.success() && show(&output).contains("busybox:9.99"), "{}", show(&output));
}

/// Debian's docker-registry inside the test host, with one image pushed.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(cluster: &Cluster) -> Registry {
    let directory = cluster.host.directory.path().join("registry");
    std::fs::create_dir_all(&directory).expect("directory");
    let config = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{NODE_IP}:5000'}}\nlog: {{level: error}}\n",
        directory.display()
    );
    std::fs::write(&config, text).expect("writes");
    let child = cluster
        .host
        .command("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry is installed");
    let url = format!("http://{NODE_IP}:5000/v2/");
    wait_for("the registry", || {
        cluster.host.command("curl").args(["-sf", &url]).output().is_ok_and(|o| o.status.success())
    });
    Registry(child)
}

fn push(cluster: &Cluster) {
    let archive = cluster.host.directory.path().join("push.tar");
    crate::images::write_busybox(&archive);
    let mut skopeo: Command = cluster.host.command("skopeo");
    skopeo.args(["copy", "-q", "--dest-tls-verify=false"]);
    skopeo.arg(format!("docker-archive:{}:busybox:1.35", archive.display()));
    skopeo.arg(format!("docker://{NODE_IP}:5000/tools/busybox:1"));
    let output = skopeo.output().expect("skopeo is installed");
    assert!(output.status.success(), "{}", show(&output));
}

fn pull(cluster: &Cluster) {
    let _registry = registry(cluster);
    push(cluster);
    let image = format!("{NODE_IP}:5000/tools/busybox:1");
    kedge(cluster, &["images", "pull", &image]);
    assert!(kedge(cluster, &["images", "list"]).contains(&image));

    let ns = &cluster.namespace("pulled");
    cluster.kubectl(&[
        "run",
        "p",
        "-n",
        ns,
        "--image",
        &image,
        "--restart=Never",
        "--command",
        "--",
        "echo",
        "pulled",
    ]);
    cluster.wait_jsonpath(&["pod", "p", "-n", ns], "{.status.phase}", "Succeeded");
    cluster.kubectl(&["delete", "pod", "p", "-n", ns]);
    kedge(cluster, &["images", "rm", &image]);
    assert!(!kedge(cluster, &["images", "list"]).contains(&image));
}
