//! What the status of a pod may become: `ValidatePodStatusUpdate`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::validate::{annotation_changes, ip, specific_annotations};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};
use crate::server::registry::strategy::defaults;

/// Conditions of the node's own.
const CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// A status update keeps spec, owners and class, and what was observed.
pub fn prepare(new: &mut Value, old: &Value) {
    defaults::prepare_status(new, old);
    defaults::keep(&mut new["metadata"], &old["metadata"], "ownerReferences");
    if new["status"].is_null() {
        return;
    }
    let before = &old["status"];
    // The class is decided when the pod is made.
    if is_empty(&new["status"]["qosClass"]) {
        defaults::keep(&mut new["status"], before, "qosClass");
    }
    keep_observed(&mut new["status"], before);
    let mut conditions: Vec<&Value> = items(&before["conditions"]).iter().collect();
    for condition in new["status"].get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let found = conditions.iter().position(|c| c["type"] == condition["type"]);
        if let Some(found) = found {
            keep_observed(condition, conditions.remove(found));
        }
    }
}

/// Who leaves out the generation they saw does not mean zero.
fn keep_observed(new: &mut Value, old: &Value) {
    if new["observedGeneration"].as_i64().unwrap_or_default() == 0 {
        defaults::keep(new, old, "observedGeneration");
    }
}

/// What is wrong with a changed status.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (status, before, path) = (&new["status"], &old["status"], Path::new("status"));
    let metadata = Path::new("metadata");
    let (annotations, was) = (&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    let at = metadata.child("annotations");
    annotation_changes(annotations, was, &at, &mut errors);
    specific_annotations(annotations, &new["spec"], &at, &mut errors);
    for (condition, path) in indexed(&status["conditions"], &metadata.child("conditions")) {
        let kind = text(&condition["type"]);
        if !CONDITIONS.contains(&kind) {
            errors.invalid_all(&path.child("Type"), &kind.into(), names::qualified_name(kind));
        }
    }
    let nominated = &status["nominatedNodeName"];
    if *nominated != before["nominatedNodeName"] {
        errors.optionally_named(&path.child("nominatedNodeName"), nominated, names::dns1123_subdomain);
    }
    errors.immutable(&path.child("qosClass"), &status["qosClass"], &before["qosClass"]);
    let policy = text(&old["spec"]["restartPolicy"]);
    for (field, list) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        if !restarts_all(&old["spec"]) {
            restarts(status, before, field, policy, &old["spec"][list], &mut errors);
        }
    }
    restarts(status, before, "ephemeralContainerStatuses", "Never", &Value::Null, &mut errors);
    addresses(status, &mut errors);
    errors.0
}

/// Some container's end may begin all containers anew.
fn restarts_all(spec: &Value) -> bool {
    let containers = ["initContainers", "containers"].into_iter().flat_map(|list| items(&spec[list]));
    let mut rules = containers.flat_map(|c| items(&c["restartPolicyRules"]));
    rules.any(|rule| rule["action"] == "RestartAllContainers")
}

/// A container that is not to be restarted does not leave the state it ended in.
fn restarts(new: &Value, old: &Value, field: &str, policy: &str, containers: &Value, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    for (was, path) in indexed(&old[field], &Path::new("status").child(field)) {
        let ended = &was["state"]["terminated"];
        let failed = ended["exitCode"].as_i64().unwrap_or_default() != 0;
        let spec = items(containers).iter().find(|c| c["name"] == was["name"]);
        // A container's own policy or rules may restart it.
        let own = spec.is_some_and(|c| {
            matches!(text(&c["restartPolicy"]), "Always" | "OnFailure") || !is_empty(&c["restartPolicyRules"])
        });
        if ended.is_null() || (failed && policy == "OnFailure") || own {
            continue;
        }
        let now = items(&new[field]).iter().filter(|s| s["name"] == was["name"]);
        for _ in now.filter(|s| s["state"]["terminated"].is_null()) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.child("state"), detail));
        }
    }
}

fn addresses(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let hosts = items(&status["hostIPs"]);
    if let Some(first) = hosts.first().filter(|first| text(&first["ip"]) != text(&status["hostIP"])) {
        let at = path.child("hostIPs").index(0).child("ip");
        errors.push(FieldError::invalid(&at, first["ip"].clone(), "must be equal to `hostIP`"));
    }
    for field in ["podIPs", "hostIPs"] {
        let (list, at) = (&status[field], path.child(field));
        indexed(list, &at).for_each(|(address, path)| ip(&path, &address["ip"], errors));
        let all: Vec<&str> = items(list).iter().map(|a| text(&a["ip"])).collect();
        if all.len() < 2 {
            continue;
        }
        let families = all.iter().filter_map(|a| a.parse::<IpAddr>().ok());
        let families: BTreeSet<bool> = families.map(|a| a.is_ipv6()).collect();
        if families.len() != 2 || all.len() > 2 {
            let detail = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(&at, list.clone(), detail));
        }
        let mut seen = BTreeSet::new();
        for (address, path) in indexed(list, &at) {
            if !seen.insert(text(&address["ip"])) {
                errors.push(FieldError::duplicate(&path, address.clone()));
            }
        }
    }
}
