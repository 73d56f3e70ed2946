//! Claims: bound, unbound, away; block devices; whose files they are.

use serde_json::{Value, json};

use crate::Case;
use crate::harness::Cluster;

/// A claim and its volume, bound to each other by hand.
fn bound(case: &Case, name: &str, source: Value, more: Value) {
    let mode = if more["volumeMode"].is_null() { json!("Filesystem") } else { more["volumeMode"].clone() };
    let volume_name = format!("{name}-{}", case.ns);
    let modes =
        if more["accessModes"].is_null() { json!(["ReadWriteOnce"]) } else { more["accessModes"].clone() };
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
    let status = json!({"status": {"phase": "Bound", "accessModes": modes, "capacity": {"storage": "1Mi"}}});
    case.kubectl(&["patch", "pvc", name, "--subresource=status", "--type=merge", "-p", &status.to_string()]);
}

fn on_node(node: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
}

fn claim(name: &str) -> Value {
    json!([{"name": "v", "persistentVolumeClaim": {"claimName": name}}])
}

pub fn claims(cluster: &Cluster) {
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
    figures(&case, &[("local", "local"), ("path", "path"), ("ephemeral", "ephemeral-local")]);
    case.delete_all();
    assert_eq!(
        cluster.host.sh(&format!("cat {host}/local/f {host}/path/f")),
        "data\ndata\n",
        "volumes outlive pods"
    );
    case.pod("again", claim("local"), mounts.clone(), json!({}));
    case.ready("again");
    assert_eq!(case.sh("again", "cat /v/f"), "data\n");
    for_one_pod(&case, &local("local", "node-1"), &mounts);
    case.delete_all();
}

/// The volumes of claims are told of, each by its claim.
fn figures(case: &Case, claims: &[(&str, &str)]) {
    let summary = case.cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"]);
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let metrics = case.cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node-1/proxy/metrics"]);
    let pods = summary["pods"].as_array().expect("pods");
    for (pod, claim) in claims {
        let of_pod =
            pods.iter().find(|p| p["podRef"]["name"] == *pod && p["podRef"]["namespace"] == case.ns.as_str());
        let volumes =
            of_pod.and_then(|p| p["volume"].as_array()).unwrap_or_else(|| panic!("{pod}: {summary}"));
        let reference = json!({"name": claim, "namespace": case.ns});
        let volume =
            volumes.iter().find(|v| v["pvcRef"] == reference).unwrap_or_else(|| panic!("{volumes:?}"));
        let figure = |name: &str| volume[name].as_u64().unwrap_or(0);
        assert!(figure("capacityBytes") >= figure("usedBytes") && figure("usedBytes") > 0, "{volume}");
        let labels = format!("{{namespace=\"{}\",persistentvolumeclaim=\"{claim}\"}}", case.ns);
        for name in
            ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"]
        {
            let name = format!("kubelet_volume_stats_{name}{labels} ");
            assert_eq!(metrics.matches(&name).count(), 1, "{name}\n{metrics}");
        }
    }
}

/// A volume for one pod goes to the second when the first is gone.
fn for_one_pod(case: &Case, source: &Value, mounts: &Value) {
    bound(case, "once", source.clone(), json!({"accessModes": ["ReadWriteOncePod"]}));
    let here = json!({"pod": {"nodeName": "node-1"}});
    case.pod("first", claim("once"), mounts.clone(), here.clone());
    case.ready("first");
    case.pod("second", claim("once"), mounts.clone(), here);
    case.event(
        "second",
        &format!(
            "FailedMount: MountVolume.SetUp failed for volume \"once-{}\" : volume uses the ReadWriteOncePod access \
             mode and is already in use by another pod",
            case.ns
        ),
    );
    case.kubectl(&["delete", "pod", "first", "--grace-period=0"]);
    case.ready("second");
}

pub fn block_devices(cluster: &Cluster) {
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

pub fn groups(cluster: &Cluster) {
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
