//! How volumes are mounted: read-only, nested, in parts, shared with the host.

use serde_json::{Value, json};

use crate::harness::{Cluster, wait_for};
use crate::{Case, mountinfo};

pub fn sub_paths(cluster: &Cluster) {
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

pub fn read_only_and_nested(cluster: &Cluster) {
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

pub fn mounts_that_travel(cluster: &Cluster) {
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
