//! Statistics, metrics, and who may read them.

use serde_json::Value;

use crate::harness::{Cluster, show};
use crate::{kubectls, pod, until, with_kubectl};

const NODE: &str = "/api/v1/nodes/node-1/proxy";

/// All cases.
pub fn all(cluster: &Cluster) {
    let ns = cluster.namespace("stats");
    let line = "dd if=/dev/zero of=/v/data bs=1024 count=3000; dd if=/dev/zero of=/root/own bs=1024 count=2000; \
                while true; do :; done";
    let busy = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"busy","labels":{{"app":"busy"}}}},"spec":{{
        "terminationGracePeriodSeconds":1,"volumes":[{{"name":"v","emptyDir":{{}}}}],"containers":[
        {{"name":"c","image":"busybox:1.36","command":["sh","-c","{line}"],"volumeMounts":[{{"name":"v","mountPath":"/v"}}],
        "resources":{{"limits":{{"memory":"64Mi","cpu":"500m"}}}}}},
        {{"name":"idle","image":"busybox:1.36","command":["sleep","9999"]}}]}}}}"#
    );
    cluster.apply(&ns, &busy);
    pod(cluster, &ns, "calm", "sleep 9999", "");
    cluster.wait_pod_ready(&ns, "busy");
    cluster.wait_pod_ready(&ns, "calm");
    top(cluster, &ns);
    summary(cluster, &ns);
    metrics(cluster, &ns);
    small_paths(cluster, &ns);
    metrics_api(cluster, &ns);
    door(cluster, &ns);
}

fn raw(cluster: &Cluster, path: &str) -> String {
    cluster.kubectl(&["get", "--raw", path])
}

fn json(cluster: &Cluster, path: &str) -> Value {
    serde_json::from_str(&raw(cluster, path)).expect("JSON")
}

/// `kubectl top`, the first time anybody asks.
fn top(cluster: &Cluster, ns: &str) {
    let containers = cluster.kubectl(&["top", "pod", "-n", ns, "--containers", "--no-headers"]);
    let lines: Vec<Vec<&str>> = containers.lines().map(|l| l.split_whitespace().collect()).collect();
    let names: Vec<&str> = lines.iter().map(|l| l[1]).collect();
    assert_eq!(names, ["c", "idle", "c"], "{containers}");
    let milli = |text: &str| text.trim_end_matches('m').parse::<u32>().expect("CPU");
    assert!((100..=600).contains(&milli(lines[0][2])), "half a processor at most is used\n{containers}");
    assert!(milli(lines[1][2]) < 100, "{containers}");
    for (name, kubectl) in kubectls() {
        let run = |arguments: &[&str]| {
            let output = with_kubectl(cluster, &kubectl, arguments).output().expect("kubectl runs");
            assert!(output.status.success(), "{name} {arguments:?}\n{}", show(&output));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let node = run(&["top", "node"]);
        assert!(node.starts_with("NAME") && node.contains("\nnode-1 "), "{name}\n{node}");
        assert!(!node.contains("<unknown>"), "{name}\n{node}");
        let sorted = run(&["top", "pod", "-A", "--sort-by=cpu", "--no-headers"]);
        assert!(sorted.lines().next().is_some_and(|l| l.contains(" busy ")), "{name}\n{sorted}");
        let chosen = run(&["top", "pod", "-n", ns, "-l", "app=calm", "--no-headers"]);
        assert!(chosen.starts_with("calm ") && chosen.lines().count() == 1, "{name}\n{chosen}");
        let one = run(&["top", "pod", "busy", "-n", ns, "--no-headers"]);
        assert!(one.starts_with("busy "), "{name}\n{one}");
    }
}

fn find<'a>(list: &'a Value, pointer: &str, name: &str) -> &'a Value {
    let all = list.as_array().expect("a list");
    all.iter()
        .find(|item| item.pointer(pointer) == Some(&name.into()))
        .unwrap_or_else(|| panic!("{name} in {list}"))
}

fn summary(cluster: &Cluster, ns: &str) {
    let path = format!("{NODE}/stats/summary");
    let written = |summary: &Value| {
        let busy = find(&summary["pods"], "/podRef/name", "busy").clone();
        let number = |pointer: &str| busy.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        number("/volume/0/usedBytes") >= 3_000_000 && number("/containers/0/rootfs/usedBytes") >= 2_000_000
    };
    // What is on disk is counted at most once a minute.
    let text =
        until(cluster, &["get", "--raw", &path], |text| written(&serde_json::from_str(text).expect("JSON")));
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let node = &all["node"];
    assert_eq!(node["nodeName"], "node-1");
    for pointer in [
        "/cpu/usageCoreNanoSeconds",
        "/cpu/usageNanoCores",
        "/memory/workingSetBytes",
        "/memory/availableBytes",
        "/fs/capacityBytes",
        "/fs/inodesFree",
        "/runtime/imageFs/usedBytes",
        "/runtime/containerFs/availableBytes",
        "/rlimit/maxpid",
        "/rlimit/curproc",
    ] {
        assert!(node.pointer(pointer).and_then(Value::as_u64).is_some_and(|n| n > 0), "{pointer}\n{node:#}");
    }
    assert_eq!(node["network"]["name"], "eth0", "{node:#}");
    let part = |name: &str| find(&node["systemContainers"], "/name", name);
    assert!(part("kubelet")["memory"]["rssBytes"].as_u64().is_some_and(|n| n > 0));
    assert!(part("pods")["cpu"]["usageCoreNanoSeconds"].as_u64().is_some_and(|n| n > 0), "{node:#}");
    let busy = find(&all["pods"], "/podRef/name", "busy");
    assert_eq!(busy["podRef"]["namespace"], ns);
    let container = find(&busy["containers"], "/name", "c");
    let memory = &container["memory"];
    let (available, working_set) = (memory["availableBytes"].as_u64(), memory["workingSetBytes"].as_u64());
    assert_eq!(available.expect("limited") + working_set.expect("there"), 64 << 20);
    assert!(container["cpu"]["usageNanoCores"].as_u64().is_some_and(|n| n > 50_000_000), "{container:#}");
    assert!(container["logs"]["usedBytes"].as_u64().is_some(), "{container:#}");
    assert_eq!(busy["network"]["interfaces"][0]["name"], "eth0", "{busy:#}");
    assert!(busy["ephemeral-storage"]["usedBytes"].as_u64().is_some_and(|n| n > 5_000_000), "{busy:#}");
    assert!(busy["process_stats"]["process_count"].as_u64().is_some_and(|n| n >= 2), "{busy:#}");
    let some = json(cluster, &format!("{path}?only_cpu_and_memory=true"));
    let busy = find(&some["pods"], "/podRef/name", "busy");
    assert!(busy["volume"].is_null() && busy["memory"]["workingSetBytes"].as_u64().is_some(), "{busy:#}");
}

fn metrics(cluster: &Cluster, ns: &str) {
    let resource = raw(cluster, &format!("{NODE}/metrics/resource"));
    for start in [
        format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"{ns}\",pod=\"busy\"}} "),
        format!("container_start_time_seconds{{container=\"idle\",namespace=\"{ns}\",pod=\"busy\"}} "),
        format!("pod_memory_working_set_bytes{{namespace=\"{ns}\",pod=\"calm\"}} "),
        "node_memory_working_set_bytes ".to_owned(),
        "resource_scrape_error 0".to_owned(),
    ] {
        assert!(resource.lines().any(|l| l.starts_with(&start)), "{start}\n{resource}");
    }
    let cadvisor = raw(cluster, &format!("{NODE}/metrics/cadvisor"));
    let of = format!("namespace=\"{ns}\",pod=\"busy\"");
    for (name, label) in [
        ("container_cpu_usage_seconds_total", "container=\"c\""),
        ("container_memory_working_set_bytes", "container=\"c\""),
        ("container_cpu_cfs_throttled_periods_total", "container=\"c\""),
        ("container_spec_memory_limit_bytes", "container=\"c\""),
        ("container_network_receive_bytes_total", "interface=\"eth0\""),
        ("container_fs_usage_bytes", "container=\"c\""),
    ] {
        let matches = |l: &&str| l.starts_with(&format!("{name}{{")) && l.contains(&of) && l.contains(label);
        assert!(cadvisor.lines().any(|l| matches(&l)), "{name}\n{cadvisor}");
    }
    let own = raw(cluster, &format!("{NODE}/metrics"));
    let value = |name: &str| {
        let line = own
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}\n{own}"));
        line.parse::<f64>().expect("a number")
    };
    assert!(value("kubelet_running_pods") >= 2.0);
    assert!(value("kubelet_running_containers{container_state=\"running\"}") >= 3.0);
    assert!(value("kubelet_pod_start_duration_seconds_count") >= 2.0);
    assert!(value("process_resident_memory_bytes") > 0.0);
    let probes = raw(cluster, &format!("{NODE}/metrics/probes"));
    assert!(probes.contains("# TYPE prober_probe_total counter"), "{probes}");
}

fn small_paths(cluster: &Cluster, ns: &str) {
    for path in ["healthz", "healthz/ping", "healthz/syncloop"] {
        assert_eq!(raw(cluster, &format!("{NODE}/{path}")), "ok", "{path}");
    }
    let pods = json(cluster, &format!("{NODE}/pods"));
    assert_eq!(find(&pods["items"], "/metadata/name", "calm")["metadata"]["namespace"], ns);
    let running = json(cluster, &format!("{NODE}/runningpods/"));
    let names = &find(&running["items"], "/metadata/name", "busy")["spec"]["containers"];
    assert_eq!(names.as_array().map(Vec::len), Some(2), "{running:#}");
    let config = &json(cluster, &format!("{NODE}/configz"))["kubeletconfig"];
    assert_eq!(
        (&config["containerLogMaxFiles"], &config["kind"]),
        (&3.into(), &"KubeletConfiguration".into())
    );
    let list = raw(cluster, &format!("{NODE}/logs/pods/"));
    assert!(list.contains(&format!("{ns}_busy_")), "{list}");
    let missing = cluster.kubectl_fails(&["get", "--raw", &format!("{NODE}/nothing")]);
    assert!(missing.contains("the server could not find the requested resource"), "{missing}");
    let ran = cluster.kubectl(&[
        "create",
        "--raw",
        &format!("{NODE}/run/{ns}/calm/c?cmd=echo+hello"),
        "-f",
        "/dev/null",
    ]);
    assert_eq!(ran, "hello\n");
}

fn metrics_api(cluster: &Cluster, ns: &str) {
    let nodes = json(cluster, "/apis/metrics.k8s.io/v1beta1/nodes");
    assert_eq!(
        (&nodes["kind"], &nodes["items"][0]["metadata"]["name"]),
        (&"NodeMetricsList".into(), &"node-1".into())
    );
    let pods =
        json(cluster, &format!("/apis/metrics.k8s.io/v1beta1/namespaces/{ns}/pods?labelSelector=app%3Dbusy"));
    let busy = &pods["items"][0];
    assert_eq!(
        (pods["items"].as_array().map(Vec::len), &busy["metadata"]["labels"]["app"]),
        (Some(1), &"busy".into())
    );
    assert!(busy["window"].as_str().is_some_and(|w| w.ends_with('s')), "{busy:#}");
    let one = json(cluster, &format!("/apis/metrics.k8s.io/v1beta1/namespaces/{ns}/pods/busy"));
    assert_eq!((&one["kind"], &one["containers"][1]["name"]), (&"PodMetrics".into(), &"idle".into()));
    let missing = cluster.kubectl_fails(&["get", "pods.metrics.k8s.io", "none", "-n", ns]);
    assert!(missing.contains("pods \"none\" not found"), "{missing}");
    let table = cluster.kubectl(&["get", "pods.metrics.k8s.io", "-n", ns]);
    let head: Vec<&str> = table.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    let resources =
        cluster.kubectl(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers", "-o", "name"]);
    assert_eq!(resources, "nodes.metrics.k8s.io\npods.metrics.k8s.io\n");
    let explained = cluster.kubectl(&["explain", "pods.containers", "--api-version=metrics.k8s.io/v1beta1"]);
    assert!(explained.contains("usage"), "{explained}");
    for verb in ["list", "get"] {
        let allowed = ["auth", "can-i", verb, "pods.metrics.k8s.io", "-n", ns, "--as=someone"];
        cluster.kubectl_fails(&allowed);
    }
    cluster.kubectl(&["create", "rolebinding", "looks", "-n", ns, "--clusterrole=view", "--user=someone"]);
    until(cluster, &["auth", "can-i", "list", "pods.metrics.k8s.io", "-n", ns, "--as=someone"], |t| {
        t == "yes\n"
    });
}

/// Tokens and what they may read.
fn door(cluster: &Cluster, ns: &str) {
    let curl = |path: &str, token: &str| {
        let header =
            if token.is_empty() { String::new() } else { format!("-H 'Authorization: Bearer {token}'") };
        cluster.host.sh(&format!("curl -ks -w ' %{{http_code}}' {header} https://127.0.0.1:10250{path}"))
    };
    assert_eq!(curl("/metrics", ""), "Unauthorized 401");
    assert_eq!(curl("/pods", "wrong"), "Unauthorized 401");
    cluster.kubectl(&["create", "serviceaccount", "monitor", "-n", ns]);
    let token = cluster.kubectl(&["create", "token", "monitor", "-n", ns]);
    let token = token.trim();
    let user = format!("system:serviceaccount:{ns}:monitor");
    assert_eq!(
        curl("/metrics/cadvisor", token),
        format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[metrics])\n 403")
    );
    assert_eq!(
        curl("/runningpods/", token),
        format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])\n 403")
    );
    cluster.kubectl(&[
        "create",
        "clusterrole",
        &format!("{ns}-stats"),
        "--verb=get",
        "--resource=nodes/stats,nodes/healthz",
    ]);
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        &format!("{ns}-stats"),
        &format!("--clusterrole={ns}-stats"),
        &format!("--serviceaccount={ns}:monitor"),
    ]);
    assert!(curl("/stats/summary", token).ends_with(" 200"));
    assert_eq!(curl("/healthz", token), "ok 200");
    assert!(curl(&format!("/containerLogs/{ns}/busy/c"), token).ends_with("subresource(s)=[proxy])\n 403"));
}
