//! PodSecurity: the pod security standards that a namespace's labels ask for.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>. Follows
//! `k8s.io/pod-security-admission` v1.36; nothing is exempt. Modes `enforce` and `warn` are in force;
//! labels of mode `audit` are checked only.

mod baseline;
mod checks;
mod pod;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::api::{Meta, Status};
use pod::Pod;
use policy::{Level, Policy, Standard};

/// Subresources that do not change what a pod may do.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// Where workloads have their pod template.
const TEMPLATES: [(&str, &str); 8] = [
    ("replicationcontrollers", "/spec/template"),
    ("podtemplates", "/template"),
    ("replicasets.apps", "/spec/template"),
    ("deployments.apps", "/spec/template"),
    ("statefulsets.apps", "/spec/template"),
    ("daemonsets.apps", "/spec/template"),
    ("jobs.batch", "/spec/template"),
    ("cronjobs.batch", "/spec/jobTemplate/spec/template"),
];
/// So many pods of a namespace are looked at when its policy changes.
const PODS_CHECKED: usize = 3000;

/// The plugin.
pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn validate(&self, attributes: &Attributes<'_>, warnings: &mut Vec<String>) -> Result<(), Status> {
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        let resource = attributes.resource.group_resource().to_string();
        match resource.as_str() {
            "namespaces" if attributes.subresource.is_none() => namespace(attributes, object, warnings),
            "pods" => pod(attributes, object, warnings),
            workload => {
                let template = TEMPLATES.iter().find(|(name, _)| *name == workload);
                let template = template.and_then(|(_, at)| object.pointer(at));
                if let (Some(template), None) = (template, attributes.subresource) {
                    warn(attributes, template, warnings);
                }
                Ok(())
            }
        }
    }
}

/// The policy of the request's namespace.
fn policy(attributes: &Attributes<'_>) -> Option<Policy> {
    let namespace = attributes.reader.get("namespaces", None, attributes.namespace?)?;
    Some(Policy::of(&namespace.value()).0)
}

/// Warns of a template whose pods would not be allowed, or would be warned of.
fn warn(attributes: &Attributes<'_>, template: &Value, warnings: &mut Vec<String>) {
    let Some(policy) = policy(attributes) else { return };
    let findings = checks::findings(policy.warn, Pod::new(template));
    if !findings.is_empty() {
        warnings.push(format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            checks::in_detail(&findings)
        ));
    }
}

fn pod(attributes: &Attributes<'_>, object: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    if attributes.subresource.is_some_and(|s| HARMLESS.contains(&s)) {
        return Ok(());
    }
    if attributes.operation == Operation::Update && !attributes.old.is_some_and(|old| matters(object, old)) {
        return Ok(());
    }
    let Some(policy) = policy(attributes) else { return Ok(()) };
    let findings = checks::findings(policy.enforce, Pod::new(object));
    if !findings.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, checks::in_detail(&findings));
        return Err(attributes.forbidden(why));
    }
    warn(attributes, object, warnings);
    Ok(())
}

/// Whether a change of a pod may change what it may do: other images, other containers.
fn matters(new: &Value, old: &Value) -> bool {
    let list = |pod: &Value, field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    let differs = |field: &str| {
        let (new, old) = (list(new, field), list(old, field));
        new.len() != old.len() || new.iter().zip(&old).any(|(n, o)| n["image"] != o["image"])
    };
    let before = list(old, "ephemeralContainers");
    let added = |container: &Value| {
        let known = before.iter().find(|old| old["name"] == container["name"]);
        known.is_none_or(|old| old["image"] != container["image"])
    };
    differs("containers") || differs("initContainers") || list(new, "ephemeralContainers").iter().any(added)
}

/// A namespace's labels must be sound; pods that a stricter policy would refuse are told.
fn namespace(attributes: &Attributes<'_>, object: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    let (policy, errors) = Policy::of(object);
    let before = attributes.old.map(Policy::of);
    let known = before.as_ref().is_some_and(|(_, old)| *old == errors);
    if !errors.is_empty() && !known {
        return Err(Status::invalid(&attributes.resource.group_kind(), attributes.name, &errors));
    }
    let (Some((old, _)), new) = (before, policy.enforce) else { return Ok(()) };
    let relaxed = new.version == old.enforce.version && new.level <= old.enforce.level;
    if new.level != Level::Privileged && new != old.enforce && !relaxed {
        existing_pods(attributes, new, warnings);
    }
    Ok(())
}

/// Warns of the pods that are there already and violate the new policy.
fn existing_pods(attributes: &Attributes<'_>, policy: Standard, warnings: &mut Vec<String>) {
    let pods = attributes.reader.list("pods", Some(attributes.name));
    // One pod of each owner first: the others are like it.
    let (mut first, mut alike, mut owners) = (Vec::new(), Vec::new(), HashSet::new());
    for pod in &pods {
        let value = pod.value();
        let owner = Meta::of(&value).controller().map(|o| o.uid().to_owned());
        let new = owner.is_none_or(|uid| owners.insert(uid));
        if new { first.push(value) } else { alike.push(value) }
    }
    let total = pods.len();
    // The first name, and how many more there are, of each complaint.
    let mut complaints: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.iter().chain(&alike).take(PODS_CHECKED) {
        let findings = checks::findings(policy, Pod::new(pod));
        if findings.is_empty() {
            continue;
        }
        let name = Meta::of(pod).name().to_owned();
        let entry = complaints.entry(checks::in_short(&findings)).or_insert_with(|| (name.clone(), 0));
        entry.1 += 1;
        entry.0 = entry.0.clone().min(name);
    }
    if total > PODS_CHECKED {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_CHECKED} of {total} existing pods"
        ));
    }
    if !complaints.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{}\" violate the new PodSecurity enforce level \"{policy}\"",
            attributes.name
        ));
    }
    let mut told: Vec<String> = complaints
        .into_iter()
        .map(|(what, (name, count))| match count {
            1 => format!("{name}: {what}"),
            2 => format!("{name} (and 1 other pod): {what}"),
            more => format!("{name} (and {} other pods): {what}", more - 1),
        })
        .collect();
    told.sort();
    warnings.append(&mut told);
}
