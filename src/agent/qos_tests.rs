use super::*;
use serde_json::{Value, json};

fn spec(value: Value) -> PodSpec {
    serde_json::from_value(value).expect("a spec")
}

fn container(request_cpu: &str, request_memory: &str, limit_cpu: &str, limit_memory: &str) -> Value {
    let list = |cpu: &str, memory: &str| {
        let mut list = json!({});
        for (name, value) in [("cpu", cpu), ("memory", memory)] {
            if !value.is_empty() {
                list[name] = json!(value);
            }
        }
        list
    };
    json!({"name": "c", "resources": {
        "requests": list(request_cpu, request_memory), "limits": list(limit_cpu, limit_memory)}})
}

fn sidecar(mut container: Value) -> Value {
    container["restartPolicy"] = json!("Always");
    container
}

fn pod(containers: &[Value]) -> PodSpec {
    spec(json!({"containers": containers}))
}

#[test]
fn classes() {
    let c = container;
    for (containers, expected) in [
        (vec![c("", "", "", "")], Class::BestEffort),
        (vec![c("1", "1Gi", "1", "1Gi")], Class::Guaranteed),
        (vec![c("", "", "1", "1Gi")], Class::Guaranteed),
        (vec![c("1000m", "1Gi", "1", "1024Mi")], Class::Guaranteed),
        (vec![c("500m", "1Gi", "1", "1Gi")], Class::Burstable),
        (vec![c("1", "1Gi", "1", "1Gi"), c("", "", "", "")], Class::Burstable),
        (vec![c("", "64Mi", "", "")], Class::Burstable),
    ] {
        assert_eq!(class(&pod(&containers)), expected, "{containers:?}");
    }
    let whole = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
    let with = spec(json!({"resources": whole, "containers": [c("", "64Mi", "", "")]}));
    assert_eq!(class(&with), Class::Guaranteed, "what is said of the whole pod decides");
    let decided: Pod =
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "status": {"qosClass": "Burstable"}}))
            .expect("a pod");
    assert_eq!(group_of(&decided), "kubepods/burstable/podu");
    assert_eq!(Class::Guaranteed.group(), "kubepods");
    assert_eq!(group_of(&Pod::default()), "kubepods/besteffort/pod");
}

#[test]
fn cgroup_values() {
    let of = |c: Value| {
        let spec = spec(json!({"containers": [c]}));
        container_resources(&spec, &spec.containers[0])
    };
    let both = of(container("250m", "", "1500m", "64Mi"));
    assert_eq!(both.cpu_shares, Some(256));
    assert_eq!(both.cpu_quota, Some(150_000));
    assert_eq!(both.memory_limit, Some(64 << 20));
    assert!(both.oom_group);
    let none = of(container("", "", "", ""));
    assert_eq!((none.cpu_shares, none.cpu_quota, none.memory_limit), (Some(2), None, None));
    let whole =
        spec(json!({"resources": {"limits": {"memory": "3Gi", "cpu": "1"}}, "containers": [{"name": "c"}]}));
    let own = container_resources(&whole, &whole.containers[0]);
    assert_eq!((own.memory_limit, own.cpu_quota, own.cpu_shares), (Some(3 << 30), Some(100_000), Some(2)));
    let limit = of(container("", "", "100m", ""));
    assert_eq!(limit.cpu_shares, Some(102));
    assert_eq!(of(container("", "", "1m", "")).cpu_quota, Some(1000));
}

#[test]
fn pods_are_limited_only_if_all_their_containers_are() {
    let both = pod(&[container("100m", "", "1", "1Gi"), container("200m", "", "1", "1Gi")]);
    let sum = pod_resources(&both, Some(100));
    assert_eq!(sum.cpu_shares, Some(307));
    assert_eq!(sum.cpu_quota, Some(200_000));
    assert_eq!(sum.memory_limit, Some(2 << 30));
    assert_eq!(sum.pids_limit, Some(100));
    let one = pod_resources(&pod(&[container("", "", "1", "1Gi"), container("", "", "", "")]), None);
    assert_eq!((one.cpu_quota, one.memory_limit, one.pids_limit), (None, None, None));
    let whole =
        spec(json!({"resources": {"limits": {"cpu": "2", "memory": "3Gi"}, "requests": {"cpu": "1"}},
        "containers": [container("100m", "", "", ""), container("", "", "1", "1Gi")]}));
    let whole = pod_resources(&whole, None);
    assert_eq!((whole.cpu_shares, whole.cpu_quota), (Some(1024), Some(200_000)));
    assert_eq!(whole.memory_limit, Some(3 << 30));
}

#[test]
fn sums_follow_the_order_in_which_containers_run() {
    let c = |cpu: &str| container(cpu, "", "", "");
    for (init, containers, expected) in [
        (json!([]), json!([c("100m"), c("200m")]), 300),
        (json!([c("500m")]), json!([c("100m")]), 500),
        (json!([c("500m"), c("700m")]), json!([c("100m")]), 700),
        (json!([sidecar(c("100m")), c("500m")]), json!([c("200m")]), 600),
        (json!([c("500m"), sidecar(c("100m"))]), json!([c("200m")]), 500),
        (json!([sidecar(c("100m")), sidecar(c("100m"))]), json!([c("200m")]), 400),
    ] {
        let told = format!("{init} {containers}");
        let spec = spec(json!({"initContainers": init, "containers": containers}));
        assert_eq!(total(&spec, Ask::Requests, "cpu"), expected, "{told}");
    }
    let mut spec = spec(
        json!({"containers": [container("1", "", "2", "")], "overhead": {"cpu": "250m", "memory": "1Mi"}}),
    );
    assert_eq!(total(&spec, Ask::Requests, "cpu"), 1250);
    assert_eq!(total(&spec, Ask::Limits, "cpu"), 2250);
    assert_eq!(total(&spec, Ask::Limits, "memory"), 0, "overhead limits nothing by itself");
    spec.overhead = None;
    assert_eq!(total(&spec, Ask::Limits, "ephemeral-storage"), 0);
}

#[test]
fn oom_scores() {
    let gib = 1 << 30;
    let score = |r: &str, l: &str| {
        let spec = pod(&[container(r, r, l, l)]);
        oom_score_adj(&spec, &spec.containers[0], 8 * gib)
    };
    assert_eq!(score("", ""), 1000);
    assert_eq!(score("1Gi", "1Gi"), -997);
    assert_eq!(score("1Gi", "2Gi"), 875);
    assert_eq!(score("8Gi", "9Gi"), 3);
    assert_eq!(score("1", "1Gi"), 999);
    let critical = spec(json!({"priority": 2_000_001_000, "priorityClassName": "system-node-critical",
        "containers": [container("", "", "", "")]}));
    assert_eq!(oom_score_adj(&critical, &critical.containers[0], gib), -997);
    let side = spec(json!({"initContainers": [sidecar(container("", "1Gi", "", ""))],
        "containers": [container("", "4Gi", "", "")]}));
    let init = side.init_containers.clone().expect("init containers");
    assert_eq!(oom_score_adj(&side, &init[0], 8 * gib), 500, "as the containers it serves");
    assert_eq!(oom_score_adj(&side, &side.containers[0], 8 * gib), 500);
    let whole = spec(json!({"resources": {"requests": {"memory": "3Gi"}},
        "containers": [container("", "1Gi", "", ""), container("", "", "", "")]}));
    assert_eq!(oom_score_adj(&whole, &whole.containers[0], 8 * gib), 750, "1 GiB and half of the other 2");
}

#[test]
fn huge_pages_have_two_names() {
    assert_eq!((kernel_name(2 << 20), binary(2 << 20)), ("2MB".to_owned(), "2Mi".to_owned()));
    assert_eq!((kernel_name(1 << 30), binary(1 << 30)), ("1GB".to_owned(), "1Gi".to_owned()));
    assert_eq!((kernel_name(64 << 10), binary(64 << 10)), ("64KB".to_owned(), "64Ki".to_owned()));
}
