//! Volumes of pods: the real executable, real containers, real kubectl. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

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
            ("empty_dirs", empty_dirs),
            ("host_paths", host_paths),
            ("files_of_objects", files_of_objects),
            ("files_that_change", files_that_change),
            ("projected_sources", projected_sources),
            ("sub_paths", sub_paths),
            ("claims", claims),
            ("groups", groups),
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
            ("read_only_and_nested", read_only_and_nested),
            ("block_devices", block_devices),
            ("mounts_that_travel", mounts_that_travel),
            ("killall_unmounts_everything", killall_unmounts_everything),
        ],
    );
}

fn empty_dirs(cluster: &Cluster) {
    let case = Case::new(cluster, "empty");
    let volumes = json!([{"name": "disk", "emptyDir": {}},
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "big", "emptyDir": {"medium": "Memory"}}]);
    let mounts = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "mem", "mountPath": "/mem"},
        {"name": "big", "mountPath": "/big"}]);
    let limits = json!({"limits": {"memory": "32Mi"}});
    // Its first attempt fails: what it wrote is there in the second.
    let command = "for d in disk mem; do echo x >> /$d/starts; done; \
        [ $(busybox wc -l < /mem/starts) -ge 2 ] && [ $(busybox wc -l < /disk/starts) -ge 2 ] && exec sleep 999; exit 1";
    case.pod("p", volumes, mounts, json!({"command": ["sh", "-c", command], "resources": limits}));
    cluster.wait_jsonpath(&["pod", "p", "-n", &case.ns], "{.status.containerStatuses[0].restartCount}", "1");
    case.ready("p");
    assert_eq!(case.sh("p", "busybox stat -c %a /disk /mem"), "777\n1777\n");
    let types = case.sh("p", "busybox grep -E ' /(mem|big) ' /proc/mounts");
    assert!(types.contains("size=1024k") && types.contains("size=32768k"), "{types}");
    assert!(types.lines().all(|l| l.starts_with("tmpfs") && l.contains("noswap")), "{types}");
    let full = case.sh("p", "dd if=/dev/zero of=/mem/f bs=1M count=2");
    assert!(full.contains("No space left"), "{full}");
    let directory = case.directory("p");
    assert!(directory.join("volumes/kubernetes.io~empty-dir/disk/starts").exists());
    case.delete_all();
    wait_for("the pod's directory to go", || !directory.exists());
}

fn host_paths(cluster: &Cluster) {
    let case = Case::new(cluster, "host");
    let host = case.host_dir();
    cluster.host.sh(&format!(
        "cd {host} && mkdir dir && echo precious > dir/f && echo file > file && mknod block b 7 250 && mknod char c 1 3"
    ));
    let _socket = std::os::unix::net::UnixListener::bind(format!("{host}/sock")).expect("bound");
    let good = [
        ("dir", "Directory"),
        ("file", "File"),
        ("sock", "Socket"),
        ("block", "BlockDevice"),
        ("char", "CharDevice"),
        ("made/dir", "DirectoryOrCreate"),
        ("made/dir/file", "FileOrCreate"),
        ("fresh/dir", ""),
    ];
    let volume = |n: usize, (path, type_): (&str, &str)| json!({"name": format!("v{n}"), "hostPath": {"path": format!("{host}/{path}"), "type": type_}});
    let volumes: Vec<_> = good.iter().enumerate().map(|(n, g)| volume(n, *g)).collect();
    let mounts: Vec<_> =
        (0..good.len()).map(|n| json!({"name": format!("v{n}"), "mountPath": format!("/v{n}")})).collect();
    case.pod("good", json!(volumes), json!(mounts), json!({}));
    let bad = [
        ("none", "Directory", "directory"),
        ("none", "File", "file"),
        ("file", "Socket", "socket file"),
        ("dir", "CharDevice", "character device"),
        ("file", "BlockDevice", "block device"),
        ("dir", "FileOrCreate", "file"),
        ("file", "DirectoryOrCreate", "directory"),
    ];
    // One pod has them all wrong: each volume has its event.
    let volumes: Vec<_> = bad.iter().enumerate().map(|(n, b)| volume(n, (b.0, b.1))).collect();
    case.pod("bad", json!(volumes), json!([]), json!({}));
    for (n, (path, _, what)) in bad.iter().enumerate() {
        case.event("bad", &format!(
            "FailedMount: MountVolume.SetUp failed for volume \"v{n}\" : hostPath type check failed: {host}/{path} is not a {what}"
        ));
    }
    case.ready("good");
    let seen = case.sh(
        "good",
        "cat /v0/f; cat /v1; ls -ld /v2 /v3 /v4 | busybox cut -c1; echo new > /v7/f; echo more >> /v6",
    );
    assert_eq!(seen, "precious\nfile\ns\nb\nc\n");
    let modes = cluster.host.sh(&format!(
        "cd {host} && cat fresh/dir/f made/dir/file && stat -c %a fresh/dir made/dir made/dir/file"
    ));
    assert_eq!(modes, "new\nmore\n755\n755\n644\n");
    let directory = case.directory("good");
    case.delete_all();
    wait_for("the pod's directory to go", || !directory.exists());
    assert_eq!(
        cluster.host.sh(&format!("cat {host}/dir/f {host}/file")),
        "precious\nfile\n",
        "it is the host's"
    );
}

fn files_of_objects(cluster: &Cluster) {
    let case = Case::new(cluster, "files");
    case.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
        "data": {"a": "1", "b": "2"}, "binaryData": {"bin": "/wA="}}));
    case.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "immutable": true,
        "stringData": {"user": "u", "word": "w"}}));
    let items = json!([{"key": "a", "path": "deep/er/a", "mode": 0o400}, {"key": "bin", "path": "bin"}]);
    let volumes = json!([
        {"name": "all", "configMap": {"name": "m", "defaultMode": 0o640}},
        {"name": "some", "configMap": {"name": "m", "items": items}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "opt", "configMap": {"name": "none", "optional": true}},
        {"name": "optkey", "secret": {"secretName": "s", "optional": true, "items": [{"key": "none", "path": "n"}]}}]);
    let mounts: Vec<_> = ["all", "some", "secret", "opt", "optkey"]
        .map(|n| json!({"name": n, "mountPath": format!("/{n}")}))
        .to_vec();
    case.pod("p", volumes, json!(mounts), json!({}));
    for (name, volume, text) in [
        (
            "nokey",
            json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "k"}]}}),
            "configmap references non-existent config key: k",
        ),
        (
            "nosecretkey",
            json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "k"}]}}),
            "references non-existent secret key: k",
        ),
        ("nomap", json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (
            "nfs",
            json!({"nfs": {"server": "192.0.2.1", "path": "/"}}),
            "volumes of kind nfs are not supported by this node",
        ),
        (
            "csi",
            json!({"csi": {"driver": "d.example"}}),
            "driver name d.example not found in the list of registered CSI drivers",
        ),
    ] {
        let mut volume = volume;
        volume["name"] = json!("v");
        case.pod(name, json!([volume]), json!([]), json!({}));
        let prefix = "FailedMount: MountVolume.SetUp failed for volume \"v\" : ";
        let prefix = if name == "csi" { "FailedMount: " } else { prefix };
        case.event(name, prefix);
        case.event(name, text);
    }
    case.ready("p");
    assert_eq!(
        case.sh("p", "cat /all/a /all/b /some/deep/er/a; busybox od -An -tx1 /some/bin; ls /some"),
        "121 ff 00\nbin\ndeep\n"
    );
    let modes = "busybox stat -Lc %a /all/a /some/deep/er/a /some/bin /secret/word";
    assert_eq!(case.sh("p", modes), "640\n400\n644\n400\n");
    assert_eq!(case.sh("p", "ls /opt /optkey"), "/opt:\n\n/optkey:\n");
    assert!(
        case.sh("p", "echo x > /all/a; echo x > /secret/new").matches("Read-only file system").count() == 2
    );
    let memory = case.sh("p", "busybox grep -cE '^tmpfs /(secret|optkey) ' /proc/mounts");
    assert_eq!(memory, "2\n", "secrets never touch the disk");
    assert_eq!(case.sh("p", "readlink /all/a"), "..data/a\n");
    // What was optional is there as soon as it exists.
    case.kubectl(&["create", "configmap", "none", "--from-literal=late=yes"]);
    wait_for("the optional ConfigMap", || case.sh("p", "cat /opt/late") == "yes");
    case.ready("nomap");
    case.delete_all();
}

fn files_that_change(cluster: &Cluster) {
    let case = Case::new(cluster, "change");
    case.kubectl(&[
        "create",
        "configmap",
        "m",
        "--from-literal=a=1",
        "--from-literal=b=1",
        "--from-literal=gone=1",
    ]);
    let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}},
        {"path": "cpu", "mode": 0o444, "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
        {"path": "mem", "resourceFieldRef": {"containerName": "c", "resource": "requests.memory"}}]);
    let volumes =
        json!([{"name": "m", "configMap": {"name": "m"}}, {"name": "d", "downwardAPI": {"items": labels}}]);
    let mounts = json!([{"name": "m", "mountPath": "/m"}, {"name": "d", "mountPath": "/d"},
        {"name": "m", "mountPath": "/fixed", "subPath": "a"}]);
    let resources = json!({"limits": {"cpu": "250m", "memory": "32Mi"}});
    // It looks again and again: files of one generation always fit together.
    let watch = "while ! [ -e /tmp/end ]; do cd /m/..data && x=$(cat a b 2>/dev/null); cd /; case $x in 12|21) > /tmp/torn;; esac; done; sleep 1";
    case.pod("p", volumes, mounts, json!({"resources": resources, "command": ["sh", "-c", watch]}));
    case.ready("p");
    assert_eq!(case.sh("p", "cat /d/cpu; echo; cat /d/mem; echo; cat /d/labels"), "250\n33554432\n");
    case.kubectl(&["label", "pod", "p", "stage=one", "a=b"]);
    case.kubectl(&["annotate", "pod", "p", "note=hello"]);
    wait_for("labels and annotations", || {
        case.sh("p", "cat /d/labels; echo; cat /d/note") == "a=\"b\"\nstage=\"one\"\nhello"
    });
    case.kubectl(&["patch", "configmap", "m", "-p", r#"{"data":{"a":"2","b":"2","gone":null,"new":"2"}}"#]);
    wait_for("the new content", || case.sh("p", "cat /m/a /m/b /m/new") == "222");
    assert_eq!(
        case.sh("p", "cat /fixed; ls /m; ls -A /m | busybox grep -c '^\\.\\.'; cat /tmp/torn"),
        "1a\nb\nnew\n2\ncat: can't open '/tmp/torn': No such file or directory\n",
        "a sub-path stays; one generation is there"
    );
    // Without the ConfigMap the pod goes on with what it has, also with a new container.
    case.kubectl(&["delete", "configmap", "m"]);
    case.event("p", "MountVolume.SetUp failed for volume \"m\" : configmap \"m\" not found");
    case.sh("p", "touch /tmp/end");
    let restarts = "{.status.containerStatuses[0].restartCount}";
    cluster.wait_jsonpath(&["pod", "p", "-n", &case.ns], restarts, "1");
    case.ready("p");
    assert_eq!(case.sh("p", "cat /m/a"), "2");
    case.delete_all();
}

fn projected_sources(cluster: &Cluster) {
    let case = Case::new(cluster, "proj");
    case.kubectl(&["create", "configmap", "m", "--from-literal=a=1"]);
    case.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=v"]);
    let sources = json!([
        {"configMap": {"name": "m"}}, {"secret": {"name": "s", "items": [{"key": "k", "path": "sub/k", "mode": 0o400}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
        {"configMap": {"name": "none", "optional": true}}]);
    let volumes = json!([{"name": "v", "projected": {"defaultMode": 0o644, "sources": sources}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let modes = "busybox stat -Lc '%a %u %g' /v/token /v/sub/k /v/a";
    for (name, security, expected) in [
        ("root", json!({}), "644 0 0\n400 0 0\n644 0 0\n"),
        ("user", json!({"runAsUser": 1000}), "600 1000 0\n400 0 0\n644 0 0\n"),
        ("group", json!({"fsGroup": 2000}), "640 0 2000\n440 0 2000\n644 0 2000\n"),
        ("both", json!({"runAsUser": 1000, "fsGroup": 2000}), "640 1000 2000\n440 0 2000\n644 0 2000\n"),
    ] {
        case.pod(name, volumes.clone(), mounts.clone(), json!({"pod": {"securityContext": security}}));
        case.ready(name);
        assert_eq!(case.sh(name, modes), expected, "{name}");
    }
    assert_eq!(case.sh("root", "cat /v/a /v/sub/k /v/name"), "1vroot");
    let missing = json!([{"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]);
    case.pod("missing", json!([{"name": "v", "projected": {"sources": missing}}]), mounts, json!({}));
    case.event(
        "missing",
        "MountVolume.SetUp failed for volume \"v\" : [configmap \"x\" not found, secret \"y\" not found]",
    );
    // A restarted agent asks for a new token, which running containers see. It is the same way when one is due.
    let token = case.sh("user", "cat /v/token");
    let claims = token.split('.').nth(1).expect("a signed token");
    let claims =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!(claims["aud"], json!(["vault"]));
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(e, i)| e - i), Some(600));
    let started = case.get("user", "{.status.containerStatuses[0].state.running.startedAt}");
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    wait_for("another token", || {
        let now = case.sh("user", "cat /v/token");
        now != token && now.split('.').count() == 3
    });
    assert_eq!(case.get("user", "{.status.containerStatuses[0].state.running.startedAt}"), started);
    assert_eq!(case.sh("user", modes), "600 1000 0\n400 0 0\n644 0 0\n");
    case.delete_all();
}

fn sub_paths(cluster: &Cluster) {
    let case = Case::new(cluster, "sub");
    let host = case.host_dir();
    cluster.host.sh(&format!(
        "cd {host} && chmod 2770 . && ln -s /etc etc && ln -s ../.. up && mkdir real && echo in > real/f && ln -s real link"
    ));
    let volume = json!([{"name": "h", "hostPath": {"path": &host}}]);
    let mount = |path: &str, rest: Value| {
        let mut mount = json!({"name": "h", "mountPath": path});
        mount.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        mount
    };
    for (name, bad) in [("abs", "etc"), ("up", "up/secret"), ("file", "link/f/x")] {
        case.pod(name, volume.clone(), json!([mount("/x", json!({"subPath": bad}))]), json!({}));
        let text = "failed to prepare subPath for volumeMount \"h\" of container \"c\"";
        cluster.wait_jsonpath(
            &["pod", name, "-n", &case.ns],
            "{.status.containerStatuses[0].state.waiting.message}",
            text,
        );
        assert_eq!(
            case.get(name, "{.status.containerStatuses[0].state.waiting.reason}"),
            "CreateContainerConfigError"
        );
    }
    let mounts = json!([
        mount("/made", json!({"subPath": "new/dir"})),
        mount("/f", json!({"subPath": "link/f"})),
        mount("/expr", json!({"subPathExpr": "pods/$(POD)"})),
        mount("/ro", json!({"subPath": "real", "readOnly": true}))
    ]);
    let env = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    // It ends twice: each attempt has its mounts, none leaves them on the host.
    let command =
        "echo x >> /made/starts; [ $(busybox wc -l < /made/starts) -ge 2 ] && exec sleep 999; exit 1";
    case.pod("p", volume.clone(), mounts, json!({"env": env, "command": ["sh", "-c", command]}));
    case.pod("noexpr", volume, json!([mount("/x", json!({"subPathExpr": "$(NONE)"}))]), json!({}));
    case.ready("p");
    assert_eq!(
        case.sh("p", "cat /f /ro/f; echo e > /expr/e; echo x > /ro/f"),
        "in\nin\nsh: can't create /ro/f: Read-only file system\n"
    );
    let found = cluster.host.sh(&format!(
        "cd {host} && cat pods/p/e && stat -c %a new new/dir pods/p && ls -d {host}/../secret 2>&1 || true"
    ));
    assert!(found.starts_with("e\n2770\n2770\n2770\n") && found.contains("No such file"), "{found}");
    let staged = case.directory("p").join("volume-subpaths");
    assert!(!mountinfo(cluster).contains(&staged.display().to_string()), "no mount of any attempt is left");
    let message = "{.status.containerStatuses[0].state.waiting.message}";
    cluster.wait_jsonpath(&["pod", "noexpr", "-n", &case.ns], message, "missing value for \"NONE\"");
    case.delete_all();
    assert_eq!(cluster.host.sh(&format!("cat {host}/real/f")), "in\n");
}

fn read_only_and_nested(cluster: &Cluster) {
    let case = Case::new(cluster, "nest");
    let host = case.host_dir();
    cluster.host.sh(&format!("cd {host} && mkdir inner && mount -t tmpfs t inner && echo hosts > hosts"));
    let volumes = json!([{"name": "h", "hostPath": {"path": &host}}, {"name": "e", "emptyDir": {}}, {"name": "f", "emptyDir": {}}]);
    let mounts = json!([
        {"name": "e", "mountPath": "/a/b/c"}, {"name": "f", "mountPath": "/a"},
        {"name": "h", "mountPath": "/rw"}, {"name": "h", "mountPath": "/ro", "readOnly": true},
        {"name": "h", "mountPath": "/rro", "readOnly": true, "recursiveReadOnly": "Enabled"},
        {"name": "h", "mountPath": "/maybe", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "h", "mountPath": "/etc/hosts", "subPath": "hosts"}]);
    case.pod("p", volumes, mounts, json!({}));
    case.ready("p");
    let lines = "for d in rw ro rro maybe; do touch /$d/x 2>/dev/null; echo $d $?; touch /$d/inner/x 2>/dev/null; echo inner $?; done";
    assert_eq!(case.sh("p", lines), "rw 0\ninner 0\nro 1\ninner 0\nrro 1\ninner 1\nmaybe 1\ninner 1\n");
    assert_eq!(
        case.sh("p", "cat /etc/hosts; touch /a/b/c/deep; ls /a /a/b/c"),
        "hosts\n/a:\nb\n\n/a/b/c:\ndeep\n"
    );
    case.delete_all();
    cluster.host.sh(&format!("umount {host}/inner"));
}

/// A claim and its volume, bound to each other by hand.
fn bound(case: &Case, name: &str, source: Value, more: Value) {
    let mode = if more["volumeMode"].is_null() { json!("Filesystem") } else { more["volumeMode"].clone() };
    let volume_name = format!("{name}-{}", case.ns);
    let modes = json!(["ReadWriteOnce"]);
    case.apply(
        &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "storageClassName": "", "accessModes": modes, "volumeName": volume_name, "volumeMode": mode,
        "resources": {"requests": {"storage": "1Mi"}}}}),
    );
    let uid = case.kubectl(&["get", "pvc", name, "-o", "jsonpath={.metadata.uid}"]);
    let mut spec = json!({"capacity": {"storage": "1Mi"}, "accessModes": modes, "volumeMode": mode,
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": case.ns, "name": name, "uid": uid}});
    for extra in [&source, &more] {
        spec.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    }
    case.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume_name}, "spec": spec}));
    let status =
        r#"{"status":{"phase":"Bound","accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Mi"}}}"#;
    case.kubectl(&["patch", "pvc", name, "--subresource=status", "--type=merge", "-p", status]);
}

fn on_node(node: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
}

fn claim(name: &str) -> Value {
    json!([{"name": "v", "persistentVolumeClaim": {"claimName": name}}])
}

fn claims(cluster: &Cluster) {
    let case = Case::new(cluster, "claim");
    let host = case.host_dir();
    cluster.host.sh(&format!("mkdir {host}/local {host}/path"));
    let local = |path: &str, node: &str| json!({"local": {"path": format!("{host}/{path}")}, "nodeAffinity": on_node(node)});
    bound(&case, "local", local("local", "node-1"), json!({}));
    bound(
        &case,
        "path",
        json!({"hostPath": {"path": format!("{host}/path"), "type": "Directory"}}),
        json!({}),
    );
    bound(&case, "missing", local("none", "node-1"), json!({}));
    bound(&case, "away", local("local", "node-2"), json!({}));
    bound(
        &case,
        "iscsi",
        json!({"iscsi": {"targetPortal": "192.0.2.1", "iqn": "iqn.2001-04.com.example:x", "lun": 0}}),
        json!({}),
    );
    case.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "unbound"}, "spec": {
        "storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}));
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    // Past the scheduler, which would hold some of them back.
    let here = json!({"pod": {"nodeName": "node-1"}});
    for name in ["local", "path", "missing", "away", "iscsi", "unbound", "nowhere"] {
        case.pod(name, claim(name), mounts.clone(), here.clone());
    }
    let read_only = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "path", "readOnly": true}}]);
    case.pod("reader", read_only, mounts.clone(), here.clone());
    let template = json!({"spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    case.pod(
        "ephemeral",
        json!([{"name": "local", "ephemeral": {"volumeClaimTemplate": template}}]),
        json!([]),
        here,
    );
    let ns = &case.ns;
    let unable = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error processing PVC";
    for (name, text) in [
        ("unbound", format!("FailedMount: {unable} {ns}/unbound: PVC is not bound")),
        ("nowhere", format!("FailedMount: {unable} {ns}/nowhere: failed to fetch PVC from API server: ")),
        (
            "away",
            format!(
                "MountVolume.NodeAffinity check failed for volume \"away-{ns}\" : no matching NodeSelectorTerms"
            ),
        ),
        (
            "missing",
            format!(
                "MountVolume.NewMounter initialization failed for volume \"missing-{ns}\" : path \"{host}/none\" does not exist"
            ),
        ),
        (
            "iscsi",
            format!(
                "MountVolume.SetUp failed for volume \"iscsi-{ns}\" : volumes of kind iscsi are not supported"
            ),
        ),
    ] {
        case.event(name, &text);
    }
    for name in ["local", "path", "reader"] {
        case.ready(name);
    }
    // A claim that is on its way out is not given to another pod.
    case.kubectl(&[
        "patch",
        "pvc",
        "path",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["test/kept"]}}"#,
    ]);
    case.kubectl(&["delete", "pvc", "path", "--wait=false"]);
    case.pod("late", claim("path"), mounts.clone(), json!({"pod": {"nodeName": "node-1"}}));
    case.event("late", "PVC is being deleted");
    assert_eq!(case.sh("local", "echo data > /v/f; cat /v/f"), "data\n");
    assert_eq!(case.sh("path", "echo data > /v/f; cat /v/f"), "data\n");
    assert_eq!(
        case.sh("reader", "echo x > /v/f; cat /v/f"),
        "sh: can't create /v/f: Read-only file system\ndata\n"
    );
    // The claim of an ephemeral volume is the pod's own, made by its controller or by hand.
    let uid = case.get("ephemeral", "{.metadata.uid}");
    let owners = format!(
        r#"{{"metadata":{{"ownerReferences":[{{"apiVersion":"v1","kind":"Pod","name":"ephemeral","uid":"{uid}","controller":true}}]}}}}"#
    );
    cluster.host.sh(&format!("mkdir {host}/own"));
    bound(&case, "ephemeral-local", local("own", "node-1"), json!({}));
    case.kubectl(&["patch", "pvc", "ephemeral-local", "--type=merge", "-p", &owners]);
    case.ready("ephemeral");
    case.delete_all();
    assert_eq!(
        cluster.host.sh(&format!("cat {host}/local/f {host}/path/f")),
        "data\ndata\n",
        "volumes outlive pods"
    );
    case.pod("again", claim("local"), mounts, json!({}));
    case.ready("again");
    assert_eq!(case.sh("again", "cat /v/f"), "data\n");
    case.delete_all();
}

fn block_devices(cluster: &Cluster) {
    let case = Case::new(cluster, "block");
    let host = case.host_dir();
    let device = cluster.host.sh(&format!(
        "dd if=/dev/zero of={host}/disk bs=1M count=1 2>/dev/null && losetup -f --show {host}/disk"
    ));
    let device = device.trim();
    let block = json!({"volumeMode": "Block"});
    bound(&case, "disk", json!({"local": {"path": device}, "nodeAffinity": on_node("node-1")}), block);
    case.pod(
        "wrong",
        claim("disk"),
        json!([{"name": "v", "mountPath": "/v"}]),
        json!({"pod": {"nodeName": "node-1"}}),
    );
    case.event("wrong", "volume v has volumeMode Block, but is specified in volumeMounts");
    case.pod(
        "p",
        claim("disk"),
        json!([]),
        json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/xvda"}]}),
    );
    let read_only = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "disk", "readOnly": true}}]);
    case.pod(
        "reader",
        read_only,
        json!([]),
        json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/xvda"}]}),
    );
    case.ready("p");
    case.ready("reader");
    assert_eq!(
        case.sh("p", "echo block > /dev/xvda && head -c 6 /dev/xvda; ls -l /dev/xvda | busybox cut -c1"),
        "block\nb\n"
    );
    cluster.host.sh(&format!("blockdev --flushbufs {device}"));
    let denied = case.sh("reader", "head -c 6 /dev/xvda; echo x > /dev/xvda");
    assert!(denied.starts_with("block\n") && denied.contains("Operation not permitted"), "{denied}");
    case.delete_all();
    let content = cluster.host.sh(&format!("head -c 6 {device}; losetup -d {device}"));
    assert_eq!(content, "block\n");
}

fn groups(cluster: &Cluster) {
    let case = Case::new(cluster, "group");
    let host = case.host_dir();
    cluster.host.sh(&format!("cd {host} && for d in always mismatch path; do mkdir -p $d/d && echo x > $d/d/f && chmod 600 $d/d/f; done"));
    for name in ["always", "mismatch"] {
        bound(
            &case,
            name,
            json!({"local": {"path": format!("{host}/{name}")}, "nodeAffinity": on_node("node-1")}),
            json!({}),
        );
    }
    bound(&case, "path", json!({"hostPath": {"path": format!("{host}/path")}}), json!({}));
    case.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=v"]);
    let security = |policy: &str| json!({"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "fsGroupChangePolicy": policy});
    let volumes = |claim: &str| {
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}, {"name": "e", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}}])
    };
    let mounts = json!([{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/e"}, {"name": "m", "mountPath": "/m"},
        {"name": "s", "mountPath": "/s"}]);
    let stat = |path: &str| cluster.host.sh(&format!("cd {host}/{path} && stat -c '%a %g' . d d/f"));
    // The root of this volume is right already: with that policy nothing below is looked at.
    cluster.host.sh(&format!("chgrp 2000 {host}/mismatch && chmod 2775 {host}/mismatch"));
    for (name, policy) in [("always", "Always"), ("mismatch", "OnRootMismatch"), ("path", "Always")] {
        case.pod(name, volumes(name), mounts.clone(), json!({"pod": {"securityContext": security(policy)}}));
        case.ready(name);
    }
    assert_eq!(stat("always"), "2775 2000\n2775 2000\n660 2000\n");
    assert_eq!(stat("mismatch"), "2775 2000\n755 0\n600 0\n");
    assert_eq!(stat("path"), "755 0\n755 0\n600 0\n", "a hostPath is the host's");
    assert_eq!(
        case.sh("always", "busybox stat -c '%a %g' /e /m; busybox stat -Lc '%a %u %g' /s/k; cat /s/k"),
        "2777 2000\n3777 2000\n440 0 2000\nv"
    );
    assert_eq!(
        case.sh("always", "for d in e m v; do touch /$d/new && busybox stat -c '%u %g' /$d/new; done"),
        "1000 2000\n1000 2000\n1000 2000\n"
    );
    case.delete_all();
}

fn mounts_that_travel(cluster: &Cluster) {
    let case = Case::new(cluster, "travel");
    let host = case.host_dir();
    cluster.host.sh(&format!("cd {host} && mkdir shared other && mount --bind shared shared && mount --make-shared shared && mkdir shared/from-host shared/from-pod"));
    let volumes = json!([{"name": "s", "hostPath": {"path": format!("{host}/shared")}}, {"name": "o", "hostPath": {"path": format!("{host}/other")}},
        {"name": "e", "emptyDir": {}}]);
    let mount = |path: &str, propagation: &str| json!({"name": "s", "mountPath": path, "mountPropagation": propagation});
    let privileged = json!({"securityContext": {"privileged": true}});
    let both = json!([mount("/both", "Bidirectional"), mount("/none", "None"), mount("/slave", "HostToContainer"),
        {"name": "e", "mountPath": "/e", "mountPropagation": "Bidirectional"}]);
    case.pod("both", volumes.clone(), both, privileged.clone());
    case.pod(
        "slave",
        volumes.clone(),
        json!([mount("/slave", "HostToContainer"), mount("/none", "None")]),
        json!({}),
    );
    case.pod("none", volumes.clone(), json!([mount("/none", "None")]), json!({}));
    let unshared = json!([{"name": "o", "mountPath": "/o", "mountPropagation": "Bidirectional"}]);
    case.pod("unshared", volumes, unshared, privileged);
    for name in ["both", "slave", "none"] {
        case.ready(name);
    }
    let waiting = "{.status.containerStatuses[0].state.waiting.message}";
    wait_for("the refusal", || case.get("unshared", waiting).ends_with("but it is not a shared mount"));
    cluster.host.sh(&format!("mount -t tmpfs t {host}/shared/from-host && touch {host}/shared/from-host/h"));
    assert_eq!(
        case.sh("both", "mount -t tmpfs t /both/from-pod && touch /both/from-pod/p; ls /both/from-pod"),
        "p\n"
    );
    for (name, path, sees) in [
        ("both", "both", true),
        ("both", "none", false),
        ("both", "slave", true),
        ("slave", "slave", true),
        ("slave", "none", false),
        ("none", "none", false),
    ] {
        let expected = if sees { "h\np\n" } else { "" };
        assert_eq!(
            case.sh(name, &format!("ls /{path}/from-host; ls /{path}/from-pod")),
            expected,
            "{name} {path}"
        );
    }
    assert_eq!(cluster.host.sh(&format!("ls {host}/shared/from-pod")), "p\n");
    // What a container mounts in a volume of the pod's own goes with the pod.
    let directory = case.directory("both");
    assert_eq!(case.sh("both", "mkdir /e/in && mount -t tmpfs t /e/in && touch /e/in/x && ls /e/in"), "x\n");
    let inner = directory.join("volumes/kubernetes.io~empty-dir/e/in");
    assert!(mountinfo(cluster).contains(&inner.display().to_string()), "the host sees it");
    case.delete_all();
    wait_for("the pod's directory to go", || !directory.exists());
    assert!(!mountinfo(cluster).contains(&directory.display().to_string()));
    cluster.host.sh(&format!("umount {host}/shared/from-pod {host}/shared/from-host {host}/shared"));
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
