//! Images: the command, and pods that pull.

use crate::Shared;
use crate::harness::{Cluster, NODE_IP, show};
use crate::registry::Registry;

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

fn push(cluster: &Cluster, registry: &Registry) {
    let archive = cluster.host.directory.path().join("push.tar");
    crate::images::write_busybox(&archive);
    registry.push(cluster, &archive, "busybox:1.35", "tools/busybox:1");
}

fn pull(cluster: &Cluster) {
    let registry = Registry::start(cluster, 5000);
    push(cluster, &registry);
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
