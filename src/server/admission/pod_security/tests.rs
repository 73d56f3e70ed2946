//! The standards, check by check, with upstream's messages.

use serde_json::{Value, json};

use super::super::testing::{Admitted, Request};
use super::checks::{findings, in_detail};
use super::pod::Pod;
use super::policy::{Level, Standard, Version};
use super::*;
use crate::server::auth::testing::Fake;

fn found(level: Level, minor: Option<u32>, spec: Value) -> String {
    let version = minor.map_or(Version::Latest, Version::Minor);
    in_detail(&findings(Standard { level, version }, Pod::new(&json!({"spec": spec}))))
}

fn baseline(spec: Value) -> String {
    found(Level::Baseline, None, spec)
}

/// A container that keeps all rules, changed by `more`.
fn safe(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false,
        "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        container["securityContext"][key] = value.clone();
    }
    container
}

fn with_container(more: Value) -> Value {
    json!({"containers": [{"name": "c", "securityContext": more}]})
}

#[test]
fn baseline_checks() {
    for (spec, expected) in [
        (json!({"containers": [{"name": "c"}], "securityContext": {}}), ""),
        (
            json!({"hostNetwork": true, "hostPID": true, "hostIPC": false, "containers": []}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            with_container(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            with_container(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}})),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            json!({"volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "hostPath": {}}, {"name": "d", "emptyDir": {}}]}),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}]}, {"name": "b", "ports": [{"hostPort": 0}]}]}),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            with_container(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}),
            "",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}, "containers": []}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}},
                "initContainers": [{"name": "i", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}),
            "seccompProfile (pod and container \"i\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced"}, {"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with_container(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(baseline(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn restricted_checks() {
    let one = |container: Value| found(Level::Restricted, None, json!({"containers": [container]}));
    assert_eq!(one(safe(json!({}))), "");
    assert_eq!(
        one(json!({"name": "c"})),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
    for (more, expected) in [
        (json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}), ""),
        (
            json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"runAsNonRoot": false}),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (json!({"runAsUser": 0}), "runAsUser=0 (container \"c\" must not set runAsUser=0)"),
        (
            json!({"seccompProfile": {"type": "Unconfined"}}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(one(safe(more.clone())), expected, "{more}");
    }
    let volumes = json!({"containers": [safe(json!({}))], "volumes": [{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}},
        {"name": "s", "secret": {}}]});
    assert_eq!(
        found(Level::Restricted, None, volumes),
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")"
    );
}

#[test]
fn what_a_pod_says_for_all_its_containers_counts() {
    let spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "Localhost"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]});
    assert_eq!(found(Level::Restricted, None, spec), "");
    let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "c", "securityContext": {"runAsNonRoot": true}}]});
    assert_eq!(found(Level::Restricted, None, windows), "");
    let own_users =
        json!({"hostUsers": false, "containers": [safe(json!({"runAsNonRoot": false, "runAsUser": 0}))]});
    assert_eq!(found(Level::Restricted, None, own_users.clone()), "");
    assert!(found(Level::Restricted, Some(34), own_users).contains("runAsUser=0"));
}

#[test]
fn older_versions_know_less() {
    let plain = json!({"containers": [{"name": "c", "securityContext": {"runAsNonRoot": true}}]});
    assert_eq!(found(Level::Restricted, Some(7), plain.clone()), "");
    assert!(found(Level::Restricted, Some(8), plain.clone()).starts_with("allowPrivilegeEscalation"));
    assert!(!found(Level::Restricted, Some(21), plain.clone()).contains("capabilities"));
    assert!(found(Level::Restricted, Some(22), plain).contains("unrestricted capabilities"));
    let sysctl = |minor| {
        found(
            Level::Baseline,
            Some(minor),
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}),
        )
    };
    assert_eq!((sysctl(31).as_str(), sysctl(32).as_str()), ("forbidden sysctls (net.ipv4.tcp_rmem)", ""));
    let annotated = json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}, "spec": {}});
    let old = Standard { level: Level::Baseline, version: Version::Minor(18) };
    assert_eq!(
        in_detail(&findings(old, Pod::new(&annotated))),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    let apparmor = json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}, "spec": {}});
    let now = Standard { level: Level::Baseline, version: Version::Latest };
    assert_eq!(
        in_detail(&findings(now, Pod::new(&apparmor))),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")"
    );
}

fn namespace(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": labels}})
}

fn run(request: &Request<'_>, labels: Value, object: Value) -> Result<Admitted, String> {
    let fake = Fake::default();
    fake.put("namespaces", namespace(labels));
    for (name, owner) in [("x-1", "x"), ("x-2", "x"), ("y", "")] {
        let owners = if owner.is_empty() { json!([]) } else { json!([{"uid": owner, "controller": true}]) };
        fake.put("pods", json!({"metadata": {"name": name, "namespace": "a", "ownerReferences": owners}, "spec": {"hostNetwork": true}}));
    }
    request.run(&PodSecurity, &fake, object).map_err(|status| status.message)
}

#[test]
fn pods_are_refused_and_workloads_warned_of() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"});
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
    let create = Request::create("Pod", "pods");
    assert_eq!(
        run(&create, labels.clone(), pod.clone()).err().as_deref(),
        Some(
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.30\": host namespaces (hostNetwork=true)"
        )
    );
    assert!(run(&create, json!({}), pod.clone()).is_ok_and(|a| a.warnings.is_empty()));
    let warned = json!({"pod-security.kubernetes.io/warn": "baseline"});
    let expected = ["would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"];
    assert_eq!(run(&create, warned.clone(), pod.clone()).unwrap().warnings, expected);
    let deployment =
        json!({"metadata": {"name": "d", "namespace": "a"}, "spec": {"template": {"spec": spec}}});
    let workload = Request::of("apps", "Deployment", "deployments");
    assert_eq!(run(&workload, warned, deployment.clone()).unwrap().warnings, expected);
    // Enforcing warns of workloads too, and does not refuse them.
    assert_eq!(run(&workload, labels.clone(), deployment).unwrap().warnings.len(), 1);
    // A pod that is there stays as long as its images do.
    let mut update =
        Request { operation: Operation::Update, old: Some(pod.clone()), ..Request::create("Pod", "pods") };
    assert!(run(&update, labels.clone(), pod.clone()).is_ok());
    let mut other = pod.clone();
    other["spec"]["containers"][0]["image"] = json!("j");
    assert!(run(&update, labels.clone(), other.clone()).is_err());
    update.subresource = Some("status");
    assert!(run(&update, labels, other).is_ok());
}

#[test]
fn a_stricter_namespace_names_its_pods() {
    let update = |old: Value| Request {
        operation: Operation::Update,
        old: Some(namespace(old)),
        resource: crate::server::registry::Resource::new("", "v1", "Namespace", "namespaces").cluster(),
        ..Request::create("Namespace", "namespaces")
    };
    let enforce = |level: &str| json!({"pod-security.kubernetes.io/enforce": level});
    let admitted = run(&update(json!({})), json!({}), namespace(enforce("baseline"))).unwrap();
    assert_eq!(
        admitted.warnings,
        [
            "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "x-1 (and 2 other pods): host namespaces"
        ]
    );
    let relaxed = run(&update(enforce("restricted")), json!({}), namespace(enforce("baseline"))).unwrap();
    assert!(relaxed.warnings.is_empty());
    let wrong = run(&update(json!({})), json!({}), namespace(enforce("strict"))).err().unwrap();
    assert_eq!(
        wrong,
        "Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": \
         must be one of privileged, baseline, restricted"
    );
    // What was wrong already may stay wrong.
    assert!(run(&update(enforce("strict")), json!({}), namespace(enforce("strict"))).is_ok());
}
