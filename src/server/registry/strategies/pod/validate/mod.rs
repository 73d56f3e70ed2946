//! What a pod must look like: `ValidatePodSpec` of `pkg/apis/core/validation`.

mod container;
mod environment;
mod probe;
mod volume;

pub use container::resource_name;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

/// All that is wrong with a pod's spec.
pub fn pod(pod: &Value, path: &Path) -> Vec<FieldError> {
    spec(&pod["spec"], path)
}

/// All that is wrong with the spec of a pod template.
pub fn template(template: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let metadata = path.child("metadata");
    errors.labels(&metadata.child("labels"), &template["metadata"]["labels"]);
    for key in template["metadata"]["annotations"].as_object().into_iter().flatten().map(|(k, _)| k) {
        errors.invalid_all(
            &metadata.child("annotations"),
            &key.as_str().into(),
            names::qualified_name(&key.to_lowercase()),
        );
    }
    errors.0.extend(spec(&template["spec"], &path.child("spec")));
    if !is_empty(&template["spec"]["ephemeralContainers"]) {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&path.child("spec").child("ephemeralContainers"), detail));
    }
    errors.0
}

fn spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let volumes = volume::validate(&spec["volumes"], &path.child("volumes"), &mut errors);
    containers(spec, path, &volumes, &mut errors);
    errors.one_of(&path.child("restartPolicy"), &spec["restartPolicy"], &["Always", "Never", "OnFailure"]);
    dns(spec, path, &mut errors);
    security(spec, path, &mut errors);
    errors.labels(&path.child("nodeSelector"), &spec["nodeSelector"]);
    errors.optionally_named(
        &path.child("serviceAccountName"),
        &spec["serviceAccountName"],
        names::dns1123_subdomain,
    );
    errors.optionally_named(&path.child("nodeName"), &spec["nodeName"], names::dns1123_subdomain);
    errors.within(
        &path.child("activeDeadlineSeconds"),
        &spec["activeDeadlineSeconds"],
        1,
        i64::from(i32::MAX),
    );
    errors.optionally_named(&path.child("hostname"), &spec["hostname"], names::dns1123_label);
    errors.optionally_named(&path.child("subdomain"), &spec["subdomain"], names::dns1123_label);
    errors.optionally_named(
        &path.child("priorityClassName"),
        &spec["priorityClassName"],
        names::dns1123_subdomain,
    );
    errors.optionally_named(
        &path.child("runtimeClassName"),
        &spec["runtimeClassName"],
        names::dns1123_subdomain,
    );
    tolerations(&spec["tolerations"], &path.child("tolerations"), &mut errors);
    pull_secrets(spec, path, &mut errors);
    spread(spec, path, &mut errors);
    host_aliases(spec, path, &mut errors);
    errors.0
}

fn containers(spec: &Value, path: &Path, volumes: &BTreeSet<String>, errors: &mut Errors) {
    let at = path.child("containers");
    if items(&spec["containers"]).is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    let host_network = spec["hostNetwork"].as_bool() == Some(true);
    let mut context =
        container::Context { volumes, host_network, names: BTreeSet::new(), host_ports: BTreeSet::new() };
    for (item, path) in indexed(&spec["containers"], &at) {
        container::validate(item, &path, container::Role::Main, &mut context, errors);
    }
    for (item, path) in indexed(&spec["initContainers"], &path.child("initContainers")) {
        container::validate(item, &path, container::Role::Init, &mut context, errors);
    }
    for (item, path) in indexed(&spec["ephemeralContainers"], &path.child("ephemeralContainers")) {
        container::validate(item, &path, container::Role::Ephemeral, &mut context, errors);
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut Errors) {
    const POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let policy = &spec["dnsPolicy"];
    errors.one_of(&path.child("dnsPolicy"), policy, &POLICIES);
    let (config, at) = (&spec["dnsConfig"], path.child("dnsConfig"));
    let servers = items(&config["nameservers"]);
    if text(policy) == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is \"None\"";
            errors.push(FieldError::required(&at, detail));
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is \"None\"";
            errors.push(FieldError::required(&at.child("nameservers"), detail));
        }
    }
    if servers.len() > 3 {
        let value = config["nameservers"].clone();
        errors.push(FieldError::invalid(
            &at.child("nameservers"),
            value,
            "must not have more than 3 nameservers",
        ));
    }
    for (server, path) in indexed(&config["nameservers"], &at.child("nameservers")) {
        ip(&path, server, errors);
    }
}

/// An address must be one.
pub fn ip(path: &Path, value: &Value, errors: &mut Errors) {
    if text(value).parse::<std::net::IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(path, value.clone(), detail));
    }
}

fn security(spec: &Value, path: &Path, errors: &mut Errors) {
    let (context, at) = (&spec["securityContext"], path.child("securityContext"));
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        errors.within(&at.child(field), &context[field], 0, i64::from(i32::MAX));
    }
    for (group, path) in indexed(&context["supplementalGroups"], &at.child("supplementalGroups")) {
        errors.within(&path, group, 0, i64::from(i32::MAX));
    }
    let mut seen = BTreeSet::new();
    for (sysctl, path) in indexed(&context["sysctls"], &at.child("sysctls")) {
        let name = text(&sysctl["name"]);
        if errors.required(&path.child("name"), &sysctl["name"]) && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
}

fn tolerations(list: &Value, path: &Path, errors: &mut Errors) {
    for (toleration, path) in indexed(list, path) {
        let (key, operator, effect) =
            (&toleration["key"], text(&toleration["operator"]), &toleration["effect"]);
        errors.optionally_named(&path.child("key"), key, names::qualified_name);
        let at = path.child("operator");
        if is_empty(key) && operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at, operator, detail));
        }
        if !toleration["tolerationSeconds"].is_null() && text(effect) != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect.clone(), detail));
        }
        match operator {
            "" | "Equal" => {
                let value = &toleration["value"];
                errors.invalid_all(&at, value, names::label_value(text(value)));
            }
            "Exists" if !is_empty(&toleration["value"]) => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&at, toleration["value"].clone(), detail));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(&at, other, &["Equal", "Exists"])),
        }
        errors.optionally_one_of(
            &path.child("effect"),
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
    }
}

fn pull_secrets(spec: &Value, path: &Path, errors: &mut Errors) {
    for (secret, path) in indexed(&spec["imagePullSecrets"], &path.child("imagePullSecrets")) {
        if secret["name"].is_null() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
    }
}

fn spread(spec: &Value, path: &Path, errors: &mut Errors) {
    for (item, path) in indexed(&spec["topologySpreadConstraints"], &path.child("topologySpreadConstraints"))
    {
        if item["maxSkew"].as_i64().unwrap_or_default() <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                item["maxSkew"].clone(),
                "must be greater than zero",
            ));
        }
        errors.required(&path.child("topologyKey"), &item["topologyKey"]);
        let policies = ["DoNotSchedule", "ScheduleAnyway"];
        errors.optionally_one_of(&path.child("whenUnsatisfiable"), &item["whenUnsatisfiable"], &policies);
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (alias, path) in indexed(&spec["hostAliases"], &path.child("hostAliases")) {
        ip(&path.child("ip"), &alias["ip"], errors);
        for (name, path) in indexed(&alias["hostnames"], &path.child("hostnames")) {
            errors.invalid_all(&path, name, names::dns1123_subdomain(text(name)));
        }
    }
}
