//! Volumes of the pod's own, and of files: their content, modes, changes.

use serde_json::{Value, json};

use crate::Case;
use crate::harness::{Cluster, wait_for};

pub fn empty_dirs(cluster: &Cluster) {
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
    assert!(
        !types.contains("nosuid") && !types.contains("nodev"),
        "programs there are as elsewhere: {types}"
    );
    let full = case.sh("p", "dd if=/dev/zero of=/mem/f bs=1M count=2");
    assert!(full.contains("No space left"), "{full}");
    let directory = case.directory("p");
    assert!(directory.join("volumes/kubernetes.io~empty-dir/disk/starts").exists());
    case.delete_all();
    wait_for("the pod's directory to go", || !directory.exists());
}

pub fn host_paths(cluster: &Cluster) {
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

pub fn files_of_objects(cluster: &Cluster) {
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
            "image",
            json!({"image": {"reference": "busybox:1.36"}}),
            "volumes of kind image are not supported by this node: copy the files into an emptyDir volume",
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

pub fn files_that_change(cluster: &Cluster) {
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

pub fn projected_sources(cluster: &Cluster) {
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
