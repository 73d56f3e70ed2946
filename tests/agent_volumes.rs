//! Volumes of pods: the real executable, real containers, real kubectl. Needs root.

#[path = "agent_volumes/claims.rs"]
mod claims;
#[path = "agent_volumes/files.rs"]
mod files;
#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;
#[path = "agent_volumes/mounts.rs"]
mod mounts;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use harness::{Cluster, show, wait_for};
use serde_json::{Value, json};

/// One case: a namespace of its own on the common cluster.
struct Case<'a> {
    cluster: &'a Cluster,
    ns: String,
}

impl<'a> Case<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, ns: cluster.namespace(name) }
    }

    fn apply(&self, object: &Value) {
        self.cluster.apply(&self.ns, &object.to_string());
    }

    /// Applies a pod of one container, `sleep` unless `spec` says otherwise.
    fn pod(&self, name: &str, volumes: Value, mounts: Value, spec: Value) {
        let mut container = json!({"name": "c", "image": "busybox:1.36", "command": ["sleep", "999"],
            "volumeMounts": mounts});
        let mut whole = json!({"terminationGracePeriodSeconds": 0, "volumes": volumes});
        for (key, value) in spec.as_object().expect("an object") {
            let target = if key == "pod" { &mut whole } else { &mut container };
            let fields = if key == "pod" { value.clone() } else { json!({ key.as_str(): value }) };
            let fields = fields.as_object().expect("an object").clone();
            target.as_object_mut().expect("an object").extend(fields);
        }
        whole["containers"] = json!([container]);
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}));
    }

    fn ready(&self, pod: &str) {
        self.cluster.wait_pod_ready(&self.ns, pod);
    }

    fn get(&self, pod: &str, path: &str) -> String {
        self.cluster.kubectl(&["get", "pod", pod, "-n", &self.ns, "-o", &format!("jsonpath={path}")])
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[arguments, &["-n", &self.ns]].concat())
    }

    /// Runs a shell line in the pod's container, whatever its exit code; both streams.
    fn sh(&self, pod: &str, line: &str) -> String {
        let line = format!("({line}) 2>&1; true");
        self.cluster.kubectl(&["exec", pod, "-n", &self.ns, "--", "sh", "-c", &line])
    }

    /// Waits for an event with that text.
    fn event(&self, pod: &str, text: &str) {
        let field = format!("involvedObject.name={pod}");
        let mut seen = String::new();
        let found = harness::wait_until(harness::PATIENCE, || {
            seen = self.kubectl(&[
                "get",
                "events",
                "--field-selector",
                &field,
                "-o",
                "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
            ]);
            seen.contains(text)
        });
        assert!(found, "no event {text:?} of {pod}:\n{seen}");
    }

    /// The pod's directory on the node.
    fn directory(&self, pod: &str) -> PathBuf {
        self.cluster.data_dir().join("agent/pods").join(self.get(pod, "{.metadata.uid}"))
    }

    /// A directory of the host for this case.
    fn host_dir(&self) -> String {
        let path = self.cluster.host.directory.path().join(&self.ns);
        std::fs::create_dir_all(&path).expect("made");
        path.display().to_string()
    }

    fn delete_all(&self) {
        self.kubectl(&["delete", "pod", "--all", "--grace-period=0", "--force"]);
    }
}

fn mountinfo(cluster: &Cluster) -> String {
    cluster.host.sh("cat /proc/self/mountinfo")
}

type Run = fn(&Cluster);

/// Runs cases on one cluster. One that fails does not hide what the others have to say.
fn run(cluster: &Cluster, cases: &[(&str, Run)]) {
    let only = std::env::var("KEDGE_CASE").unwrap_or_default();
    let chosen = cases.iter().filter(|(name, _)| name.contains(&only));
    let failed: Vec<_> = chosen
        .filter(|(_, case)| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(cluster))).is_err())
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "{failed:?} failed; KEDGE_CASE=NAME runs one");
}

#[test]
fn volumes_of_pods() {
    let cluster = Cluster::start("volumes", &[]);
    cluster.import_test_images();
    run(
        &cluster,
        &[
            ("empty_dirs", files::empty_dirs),
            ("host_paths", files::host_paths),
            ("files_of_objects", files::files_of_objects),
            ("files_that_change", files::files_that_change),
            ("projected_sources", files::projected_sources),
            ("sub_paths", mounts::sub_paths),
            ("claims", claims::claims),
            ("groups", claims::groups),
            ("nothing_is_left", nothing_is_left_and_nothing_else_is_touched),
        ],
    );
}

#[test]
fn mounts_and_devices() {
    let cluster = Cluster::start("mounts", &[]);
    cluster.import_test_images();
    run(
        &cluster,
        &[
            ("read_only_and_nested", mounts::read_only_and_nested),
            ("block_devices", claims::block_devices),
            ("mounts_that_travel", mounts::mounts_that_travel),
            ("killall_unmounts_everything", killall_unmounts_everything),
        ],
    );
}

fn nothing_is_left_and_nothing_else_is_touched(cluster: &Cluster) {
    let case = Case::new(cluster, "gone");
    let host = case.host_dir();
    cluster.host.sh(&format!("mkdir {host}/precious && echo precious > {host}/precious/f"));
    case.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=v"]);
    let volumes = json!([{"name": "h", "hostPath": {"path": format!("{host}/precious")}}, {"name": "e", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "s", "secret": {"secretName": "s"}}]);
    let mounts = json!([{"name": "h", "mountPath": "/h"}, {"name": "e", "mountPath": "/e"}, {"name": "m", "mountPath": "/m"},
        {"name": "s", "mountPath": "/s"}, {"name": "e", "mountPath": "/sub", "subPath": "sub"}]);
    let command = "cd /e && for n in $(busybox seq 3000); do > f$n; done; mkdir -m 0 locked; ln -s /h link; > /e/done; exec sleep 999";
    let names = ["a", "b", "c"];
    for name in names {
        case.pod(name, volumes.clone(), mounts.clone(), json!({"command": ["sh", "-c", command]}));
    }
    for name in names {
        case.ready(name);
        wait_for("its files", || case.sh(name, "ls /e/done") == "/e/done\n");
    }
    let directories: Vec<_> = names.iter().map(|n| case.directory(n)).collect();
    // Somebody on the host is in a volume; a file of another cannot be changed.
    let busy = directories[0].join("volumes/kubernetes.io~empty-dir/m");
    let mut sleeper = cluster.host.command("sh");
    sleeper.args(["-c", &format!("cd {} && exec sleep 1000", busy.display())]).process_group(0);
    let mut sleeper = sleeper.spawn().expect("spawned");
    let _ = cluster
        .host
        .command("chattr")
        .arg("+i")
        .arg(directories[1].join("volumes/kubernetes.io~empty-dir/e/f1"))
        .status();
    // Deleted in the moment in which everything is killed.
    case.kubectl(&["delete", "pod", "--all", "--wait=false"]);
    cluster.kill_server();
    // A pod that nobody knows any more, with the host's files mounted in it.
    let orphan = cluster.data_dir().join("agent/pods/00000000-0000-4000-8000-000000000000");
    let volume = orphan.join("volumes/kubernetes.io~local-volume/v");
    cluster.host.sh(&format!(
        "mkdir -p {0} && mount --bind {host}/precious {0} && mkdir -p {1}/x && mount -t tmpfs t {1}/x",
        volume.display(),
        orphan.display()
    ));
    cluster.launch();
    cluster.wait_ready();
    wait_for("the pods to go", || case.kubectl(&["get", "pods", "-o", "name"]).is_empty());
    for directory in directories.iter().chain([&orphan]) {
        wait_for("a directory to go", || !directory.exists());
        assert!(!mountinfo(cluster).contains(&directory.display().to_string()), "{}", directory.display());
    }
    assert_eq!(cluster.host.sh(&format!("cat {host}/precious/f")), "precious\n");
    sleeper.kill().expect("killed");
    sleeper.wait().expect("reaped");
}

fn killall_unmounts_everything(cluster: &Cluster) {
    let case = Case::new(cluster, "killall");
    let volumes = json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]);
    case.pod("p", volumes, json!([{"name": "m", "mountPath": "/m"}]), json!({}));
    case.ready("p");
    let data = cluster.data_dir().display().to_string();
    assert!(mountinfo(cluster).contains(&data));
    cluster.stop_server();
    let output = cluster.kedge(&["killall"]).output().expect("kedge runs");
    assert!(output.status.success(), "{}", show(&output));
    let left: Vec<_> = mountinfo(cluster).lines().filter(|l| l.contains(&data)).map(str::to_owned).collect();
    assert!(left.is_empty(), "{left:#?}");
}
