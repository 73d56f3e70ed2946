//! Statuses as upstream shows them.

use super::*;
use crate::agent::pod::memory;
use crate::runtime::spec::SandboxStatus;
use serde_json::{Value, json};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).expect("in range")
}

fn pod(spec: Value, status: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
    serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).expect("a pod")
}

fn container(
    name: &str,
    attempt: u32,
    state: spec::ContainerState,
    code: Option<i32>,
) -> spec::ContainerStatus {
    let labels = [
        (labels::CONTAINER_NAME, name.to_owned()),
        (labels::ATTEMPT, attempt.to_string()),
        (labels::IMAGE, "docker.io/library/x:1".to_owned()),
        (labels::IMAGE_ID, "docker.io/library/x@sha256:1".to_owned()),
    ];
    spec::ContainerStatus {
        id: format!("{name}-{attempt}"),
        sandbox: "s".into(),
        labels: labels.map(|(k, v)| (k.to_owned(), v)).into(),
        image: "sha256:1".into(),
        state,
        pid: None,
        created_at: at(0).as_millisecond(),
        started_at: Some(at(0).as_millisecond()),
        finished_at: code.map(|_| at(5).as_millisecond()),
        exit_code: code,
        signal: None,
        oom_killed: false,
        log_path: "/dev/null".into(),
        user: None,
        stop_signal: Some("SIGTERM".into()),
    }
}

fn observed(containers: Vec<spec::ContainerStatus>) -> Observed {
    Observed::new(Some(SandboxStatus {
        id: "s".into(),
        labels: Default::default(),
        ready: true,
        created_at: 0,
        netns: None,
        containers,
    }))
}

fn status(pod: &Pod, observed: &Observed, memory: &Memory, ended: bool) -> PodStatus {
    let node_addresses = &["10.0.0.1".parse().expect("an address")];
    Inputs { pod, observed, memory, node_addresses, ended, now: at(9) }.status()
}

fn condition(status: &PodStatus, type_: &str) -> (String, Option<String>, Option<String>) {
    let all = status.conditions.as_deref().expect("conditions");
    let c = all.iter().find(|c| c.type_ == type_).expect("the condition");
    (c.status.clone(), c.reason.clone(), c.message.clone())
}

#[test]
fn before_anything_runs() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}), json!({}));
    let s = status(&pod, &Observed::default(), &Memory::default(), false);
    assert_eq!(s.phase.as_deref(), Some("Pending"));
    assert_eq!(s.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(s.host_ip.as_deref(), Some("10.0.0.1"));
    let c = &s.container_statuses.as_ref().expect("statuses")[0];
    let state = c.state.clone().expect("state");
    assert_eq!(state.waiting.expect("waiting").reason.as_deref(), Some("ContainerCreating"));
    assert_eq!((c.ready, c.started, c.restart_count, c.image.as_str()), (false, Some(false), 0, "x"));
    assert_eq!(condition(&s, "PodReadyToStartContainers").0, "False");
    assert_eq!(condition(&s, "Initialized").0, "True");
    let message = Some("containers with unready status: [a]".to_owned());
    assert_eq!(condition(&s, "Ready"), ("False".into(), Some("ContainersNotReady".into()), message));
    assert_eq!(condition(&s, "PodScheduled").0, "True");
}

#[test]
fn running_and_ready() {
    let old = json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"},
        {"type": "example.com/gate", "status": "True"}]});
    let pod = pod(
        json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "example.com/gate"}]}),
        old,
    );
    let memory = Memory { addresses: vec!["10.42.0.5".parse().expect("an address")], ..Memory::default() };
    let s =
        status(&pod, &observed(vec![container("a", 2, spec::ContainerState::Running, None)]), &memory, false);
    assert_eq!(s.phase.as_deref(), Some("Running"));
    assert_eq!(s.pod_ip.as_deref(), Some("10.42.0.5"));
    let c = &s.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!((c.ready, c.started, c.restart_count), (true, Some(true), 2));
    assert_eq!(c.container_id.as_deref(), Some("kedge://a-2"));
    assert_eq!(
        (c.image.as_str(), c.image_id.as_str()),
        ("docker.io/library/x:1", "docker.io/library/x@sha256:1")
    );
    assert_eq!(condition(&s, "Ready").0, "True");
    let conditions = s.conditions.expect("conditions");
    let scheduled =
        conditions.iter().find(|c| c.type_ == "PodScheduled").and_then(|c| c.last_transition_time.clone());
    assert_eq!(scheduled.map(|t| t.0.as_second()), Some(7), "unchanged conditions keep their time");
    assert!(conditions.iter().any(|c| c.type_ == "example.com/gate"), "others' conditions stay");
}

#[test]
fn a_readiness_gate_that_is_missing() {
    let pod =
        pod(json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "g"}]}), json!({}));
    let s = status(
        &pod,
        &observed(vec![container("a", 0, spec::ContainerState::Running, None)]),
        &Memory::default(),
        false,
    );
    let message = "corresponding condition of pod readiness gate \"g\" does not exist.".to_owned();
    assert_eq!(
        condition(&s, "Ready"),
        ("False".into(), Some("ReadinessGatesNotReady".into()), Some(message))
    );
    assert_eq!(condition(&s, "ContainersReady").0, "True");
}

#[test]
fn a_crash_loop_shows_the_last_end() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    let mut memory = Memory::default();
    memory.waiting.insert("a".into(), ("CrashLoopBackOff".into(), "back-off".into()));
    let mut seen = observed(vec![container("a", 1, spec::ContainerState::Exited, Some(3))]);
    seen.messages.insert("a-1".into(), "last words".into());
    let s = status(&pod, &seen, &memory, false);
    assert_eq!(s.phase.as_deref(), Some("Running"));
    let c = &s.container_statuses.as_ref().expect("statuses")[0];
    let waiting = c.state.clone().and_then(|s| s.waiting).expect("waiting");
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = c.last_state.clone().and_then(|s| s.terminated).expect("terminated");
    assert_eq!(
        (last.exit_code, last.reason.as_deref(), last.message.as_deref()),
        (3, Some("Error"), Some("last words"))
    );
}

#[test]
fn phases_of_pods_that_end() {
    for (policy, code, oom, expected, reason) in [
        ("Never", 0, false, "Succeeded", "Completed"),
        ("OnFailure", 0, false, "Succeeded", "Completed"),
        ("Never", 2, false, "Failed", "Error"),
        ("Never", 137, true, "Failed", "OOMKilled"),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}), json!({}));
        let mut end = container("a", 0, spec::ContainerState::Exited, Some(code));
        end.oom_killed = oom;
        let s = status(&pod, &observed(vec![end]), &Memory::default(), true);
        assert_eq!(s.phase.as_deref(), Some(expected), "{policy} {code}");
        let c = &s.container_statuses.as_ref().expect("statuses")[0];
        assert_eq!(
            c.state.clone().and_then(|s| s.terminated).and_then(|t| t.reason).as_deref(),
            Some(reason)
        );
        let why = if expected == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        assert_eq!(condition(&s, "Ready"), ("False".into(), Some(why.into()), None));
    }
}

#[test]
fn a_terminal_phase_is_final() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({"phase": "Failed", "reason": "Evicted"}));
    let s = status(
        &pod,
        &observed(vec![container("a", 0, spec::ContainerState::Running, None)]),
        &Memory::default(),
        false,
    );
    assert_eq!((s.phase.as_deref(), s.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

#[test]
fn what_was_rejected_stays_so() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    let verdict = memory::Verdict { reason: "OutOfcpu".into(), message: "Pod was rejected: m".into() };
    let memory = Memory { failed: Some(verdict), rejected: true, ..Memory::default() };
    let first = status(&pod, &Observed::default(), &memory, true);
    assert_eq!((first.phase.as_deref(), first.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert_eq!((&first.container_statuses, &first.conditions), (&None, &None), "as kubelet tells it");
    let known = Pod { status: Some(first.clone()), ..pod };
    assert_eq!(status(&known, &Observed::default(), &Memory::default(), true), first, "after a restart too");
}

#[test]
fn deadline_exceeded_is_a_failure() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    let verdict = memory::Verdict { reason: "DeadlineExceeded".into(), message: "m".into() };
    let memory = Memory { failed: Some(verdict), ..Memory::default() };
    let s = status(&pod, &Observed::default(), &memory, true);
    assert_eq!(
        (s.phase.as_deref(), s.reason.as_deref(), s.message.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"), Some("m"))
    );
}

#[test]
fn init_containers_hold_the_pod_pending() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let pod = pod(spec, json!({}));
    let s = status(
        &pod,
        &observed(vec![container("i", 0, spec::ContainerState::Running, None)]),
        &Memory::default(),
        false,
    );
    assert_eq!(s.phase.as_deref(), Some("Pending"));
    assert_eq!(condition(&s, "Initialized").1.as_deref(), Some("ContainersNotInitialized"));
    let c = &s.container_statuses.as_ref().expect("statuses")[0];
    let reason = c.state.clone().and_then(|s| s.waiting).and_then(|w| w.reason);
    assert_eq!(reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn after_a_reboot_what_ran_is_known_to_have_ended() {
    let old = json!({"containerStatuses": [{"name": "a", "image": "x", "imageID": "", "ready": true, "restartCount": 3,
        "containerID": "kedge://a-3", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        "podIP": "10.42.0.9"});
    let pod = pod(json!({"containers": [{"name": "a"}]}), old);
    let mut memory = Memory::default();
    memory.adopt(&pod, &Observed::default(), at(9));
    assert_eq!(memory.past("a").and_then(|p| p.ended).map(|e| e.0), Some(255));
    assert_eq!(memory.addresses.len(), 1);
    let fresh = observed(vec![container("a", 4, spec::ContainerState::Running, None)]);
    let s = status(&pod, &fresh, &memory, false);
    let c = &s.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(c.restart_count, 4);
    let last = c.last_state.clone().and_then(|s| s.terminated).expect("last state");
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some("Unknown"), 255));
}
