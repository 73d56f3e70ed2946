//! Table tests of the decisions.

use super::*;
use crate::agent::pod::memory::Past;
use crate::agent::pod::observed::Observed;
use crate::agent::probes::ProbeState;
use crate::runtime::spec::SandboxStatus;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).expect("in range")
}

/// A container of the sandbox: name, attempt, state, exit code; it ended at second 0.
fn container(
    pod: &Pod,
    name: &str,
    attempt: u32,
    state: ContainerState,
    code: Option<i32>,
) -> ContainerStatus {
    let mut labels: std::collections::BTreeMap<String, String> = labels::of_pod(pod);
    labels.insert(labels::CONTAINER_NAME.into(), name.into());
    labels.insert(labels::ATTEMPT.into(), attempt.to_string());
    if let Some(c) = crate::agent::spec::find_container(pod.spec.as_ref().expect("spec"), name) {
        labels.insert(labels::HASH.into(), labels::hash(c));
    }
    ContainerStatus {
        id: format!("{name}-{attempt}"),
        sandbox: "s".into(),
        labels,
        image: "sha256:1".into(),
        state,
        pid: None,
        created_at: at(0).as_millisecond(),
        started_at: Some(at(0).as_millisecond()),
        finished_at: code.map(|_| at(0).as_millisecond()),
        exit_code: code,
        signal: None,
        oom_killed: false,
        log_path: "/dev/null".into(),
        user: None,
        stop_signal: Some("SIGTERM".into()),
    }
}

fn observed(ready: bool, containers: Vec<ContainerStatus>) -> Observed {
    Observed::new(Some(SandboxStatus {
        id: "s".into(),
        labels: Default::default(),
        ready,
        created_at: 0,
        netns: None,
        containers,
    }))
}

fn running(pod: &Pod, name: &str) -> ContainerStatus {
    container(pod, name, 0, ContainerState::Running, None)
}

fn exited(pod: &Pod, name: &str, attempt: u32, code: i32) -> ContainerStatus {
    container(pod, name, attempt, ContainerState::Exited, Some(code))
}

struct Case {
    pod: Pod,
    observed: Observed,
    memory: Memory,
    backoff: Backoff,
    now: Timestamp,
}

impl Case {
    fn new(pod: Pod, observed: Observed) -> Self {
        Self { pod, observed, memory: Memory::default(), backoff: Backoff::default(), now: at(1) }
    }

    fn plan(&self) -> Plan {
        let Self { pod, observed, memory, backoff, now } = self;
        Inputs { pod, observed, memory, backoff, now: *now }.plan()
    }

    /// `name/attempt` of what is started.
    fn starts(&self) -> Vec<String> {
        self.plan().start.iter().map(|s| format!("{}/{}", s.container, s.attempt)).collect()
    }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_all_its_containers() {
    let case = Case::new(pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})), Observed::default());
    let plan = case.plan();
    assert!(plan.create_sandbox && !plan.finish);
    assert_eq!(case.starts(), ["a/0", "b/0"]);
}

#[test]
fn restart_policy_decides_what_runs_again() {
    for (policy, code, expected, finish) in [
        ("Always", 0, vec!["a/1"], false),
        ("Always", 1, vec!["a/1"], false),
        ("OnFailure", 1, vec!["a/1"], false),
        ("OnFailure", 0, vec![], true),
        ("Never", 0, vec![], true),
        ("Never", 3, vec![], true),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "a", 0, code)]));
        assert_eq!(case.starts(), expected, "{policy} {code}");
        assert_eq!(case.plan().finish, finish, "{policy} {code}");
    }
}

#[test]
fn a_pod_with_one_running_container_is_not_finished() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}));
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "a"), exited(&pod, "b", 0, 1)]));
    assert_eq!(case.plan(), Plan::default());
}

#[test]
fn a_crashing_container_waits_with_upstreams_message() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let mut case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "a", 1, 1)]));
    let key = backoff_key(&pod.spec.as_ref().expect("spec").containers[0]);
    case.backoff.next(&key, at(0));
    let plan = case.plan();
    assert!(plan.start.is_empty());
    assert_eq!(plan.wake_at, Some(at(10)));
    assert_eq!(plan.waiting[0].message, "back-off 10s restarting failed container=a pod=p_ns(u)");
    case.now = at(10);
    assert_eq!(case.starts(), ["a/2"]);
}

#[test]
fn init_containers_run_one_by_one() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}));
    assert_eq!(Case::new(pod.clone(), Observed::default()).starts(), ["i/0"]);
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "i")]));
    assert_eq!(case.plan(), Plan::default());
    let case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "i", 0, 0)]));
    assert_eq!(case.starts(), ["j/0"]);
    let case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "i", 0, 1)]));
    assert_eq!(case.starts(), ["i/1"]);
    let done = vec![exited(&pod, "i", 0, 0), exited(&pod, "j", 0, 0)];
    assert_eq!(Case::new(pod.clone(), observed(true, done)).starts(), ["a/0"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let pod = pod(spec);
    let case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "i", 0, 1)]));
    assert!(case.plan().finish);
}

#[test]
fn a_sidecar_starts_first_and_keeps_nothing_alive() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}],
    });
    let pod = pod(spec);
    assert_eq!(Case::new(pod.clone(), Observed::default()).starts(), ["s/0"]);
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "s")]));
    assert_eq!(case.starts(), ["a/0"]);
    let case = Case::new(pod.clone(), observed(true, vec![exited(&pod, "s", 0, 1), running(&pod, "a")]));
    assert_eq!(case.starts(), ["s/1"], "restarted whatever the pod's policy");
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "s"), exited(&pod, "a", 0, 0)]));
    assert!(case.plan().finish);
}

#[test]
fn a_lost_sandbox_is_made_again_and_counts_go_on() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let mut case =
        Case::new(pod.clone(), observed(false, vec![exited(&pod, "i", 0, 0), exited(&pod, "a", 4, 137)]));
    let plan = case.plan();
    assert!(plan.create_sandbox);
    assert_eq!(case.starts(), ["i/1"], "init containers run again");
    case.memory.absorb(&case.observed.clone(), at(1));
    case.observed = observed(true, vec![exited(&pod, "i", 1, 0)]);
    assert_eq!(case.starts(), ["a/5"]);
}

#[test]
fn what_ended_for_good_is_not_started_in_a_new_sandbox() {
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]});
    let pod = pod(spec);
    let ended = vec![exited(&pod, "a", 0, 0), exited(&pod, "b", 0, 137)];
    let case = Case::new(pod.clone(), observed(false, ended));
    assert_eq!(case.starts(), ["b/1"]);
    let mut case = Case::new(pod.clone(), Observed::default());
    for name in ["a", "b"] {
        let past = Past { ended: Some((0, at(0))), ..Past::default() };
        case.memory.history.insert(name.into(), past);
    }
    let plan = case.plan();
    assert!(plan.finish && !plan.create_sandbox);
}

#[test]
fn nothing_is_initialised_again_for_what_ended_for_good() {
    let spec =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let pod = pod(spec);
    let ended = vec![exited(&pod, "i", 0, 0), exited(&pod, "a", 0, 1)];
    assert!(Case::new(pod.clone(), observed(true, ended.clone())).plan().finish);
    assert!(Case::new(pod.clone(), observed(false, ended)).plan().finish, "its sandbox was given up");
}

#[test]
fn rules_of_a_container_come_before_the_policy() {
    let rule = |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"},
        {"name": "b", "restartPolicy": "Never", "restartPolicyRules": rule("Restart")}]});
    let mut one = pod(spec);
    let ended =
        |pod: &Pod, code: i32| vec![exited(pod, "i", 0, 0), running(pod, "a"), exited(pod, "b", 0, code)];
    assert_eq!(Case::new(one.clone(), observed(true, ended(&one, 42))).starts(), ["b/1"]);
    assert!(Case::new(one.clone(), observed(true, ended(&one, 1))).starts().is_empty());
    let all = serde_json::from_value(rule("RestartAllContainers")).expect("rules");
    one.spec.as_mut().expect("spec").containers[1].restart_policy_rules = Some(all);
    let mut case = Case::new(one.clone(), observed(true, ended(&one, 42)));
    assert_eq!(case.plan(), Plan { restart_all: true, ..Plan::default() });
    case.memory.begin_anew(&case.observed.clone());
    case.observed = observed(true, vec![]);
    assert_eq!(case.starts(), ["i/1"], "all begin anew in the same sandbox");
    case.observed = observed(true, vec![exited(&one, "i", 1, 0)]);
    assert_eq!(case.starts(), ["a/1", "b/1"]);
}

#[test]
fn failed_probes_and_changed_images_end_the_container() {
    let spec = json!({"containers": [
        {"name": "a", "image": "x", "livenessProbe": {"terminationGracePeriodSeconds": 3}}]});
    let pod = pod(spec);
    let mut case = Case::new(pod.clone(), observed(true, vec![running(&pod, "a")]));
    let failed = ProbeState { started: true, ready: true, failed: Some(ProbeKind::Liveness) };
    case.memory.probes.insert("a-0".into(), failed);
    let kill = &case.plan().kill[0];
    assert_eq!(kill.message, "Container a failed liveness probe, will be restarted");
    assert_eq!(kill.grace, Some(3));
    case.pod.spec.as_mut().expect("spec").restart_policy = Some("Never".into());
    assert_eq!(case.plan().kill[0].message, "Container a failed liveness probe");
    case.pod.spec.as_mut().expect("spec").restart_policy = None;
    case.memory.probes.clear();
    let containers = &mut case.pod.spec.as_mut().expect("spec").containers;
    containers[0].image = Some("y".into());
    assert_eq!(case.plan().kill[0].message, "Container a definition changed, will be restarted");
}

#[test]
fn an_ephemeral_container_starts_once() {
    let spec = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    let pod = pod(spec);
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "a")]));
    assert_eq!(case.starts(), ["e/0"]);
    let case = Case::new(pod.clone(), observed(true, vec![running(&pod, "a"), exited(&pod, "e", 0, 1)]));
    assert_eq!(case.plan(), Plan::default());
}
