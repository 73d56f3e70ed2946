//! The fields of a spec, in upstream's order: `ValidatePodSpec`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Scope, affinity, container, network, resources, scheduling, security, volume, windows};
use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, text};

/// All that is wrong with the spec of a pod of this name, or of a template.
pub fn validate(spec: &Value, pod: Option<&str>, path: &Path, errors: &mut Errors) {
    let grace = path.child("terminationGracePeriodSeconds");
    if spec["terminationGracePeriodSeconds"].is_null() {
        errors.push(FieldError::required(&grace, ""));
    }
    let mut scope = Scope::new(spec, pod);
    scope.volumes = volume::validate(spec, pod, &path.child("volumes"), errors);
    resource_claims(spec, &path.child("resourceClaims"), errors);
    container::lists(&scope, path, errors);
    resources::of_pod(&scope, &path.child("resources"), errors);
    network::host_ports(&scope, path, errors);
    let policies = ["Always", "OnFailure", "Never"];
    errors.one_of(&path.child("restartPolicy"), &spec["restartPolicy"], &policies);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), &spec["dnsPolicy"], &policies);
    errors.labels(&path.child("nodeSelector"), &spec["nodeSelector"]);
    security::of_pod(&scope, &path.child("securityContext"), errors);
    affinity::validate(&spec["affinity"], &path.child("affinity"), errors);
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::readiness_gates(spec, &path.child("readinessGates"), errors);
    scheduling::scheduling_gates(spec, &path.child("schedulingGates"), errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    windows::host_process(&scope, path, errors);
    host_users(&scope, path, errors);
    named(spec, path, errors);
    windows::operating_system(&scope, path, errors);
}

/// Fields that are names, bounds or lists on their own.
fn named(spec: &Value, path: &Path, errors: &mut Errors) {
    let subdomain = names::dns1123_subdomain as fn(&str) -> Vec<String>;
    for field in ["serviceAccountName", "nodeName"] {
        errors.optionally_named(&path.child(field), &spec[field], subdomain);
    }
    let deadline = &spec["activeDeadlineSeconds"];
    errors.within(&path.child("activeDeadlineSeconds"), deadline, 1, i64::from(i32::MAX));
    for field in ["hostname", "subdomain"] {
        errors.optionally_named(&path.child(field), &spec[field], names::dns1123_label);
    }
    network::hostname_override(spec, &path.child("hostnameOverride"), errors);
    scheduling::tolerations(&spec["tolerations"], &path.child("tolerations"), errors);
    network::host_aliases(spec, &path.child("hostAliases"), errors);
    errors.optionally_named(&path.child("priorityClassName"), &spec["priorityClassName"], subdomain);
    let (class, at) = (&spec["runtimeClassName"], path.child("runtimeClassName"));
    if !class.is_null() {
        errors.invalid_all(&at, class, subdomain(text(class)));
    }
    if !spec["preemptionPolicy"].is_null() {
        let policies = ["PreemptLowerPriority", "Never"];
        errors.one_of(&path.child("preemptionPolicy"), &spec["preemptionPolicy"], &policies);
    }
    if !spec["overhead"].is_null() {
        let overhead = json!({"limits": spec["overhead"]});
        resources::validate(&overhead, &BTreeSet::new(), &path.child("overhead"), errors);
    }
}

fn resource_claims(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (claim, path) in indexed(&spec["resourceClaims"], path) {
        let (name, at) = (&claim["name"], path.child("name"));
        if is_empty(name) {
            errors.push(FieldError::required(&at, ""));
        } else if !seen.insert(text(name)) {
            errors.push(FieldError::duplicate(&at, name.clone()));
        } else {
            errors.invalid_all(&at, name, names::dns1123_label(text(name)));
        }
        let (by_name, by_template) = (&claim["resourceClaimName"], &claim["resourceClaimTemplateName"]);
        let detail = match (by_name.is_null(), by_template.is_null()) {
            (false, false) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (true, true) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(detail) = detail {
            errors.push(FieldError::invalid(&path, claim.clone(), detail));
        }
        for (field, value) in [("resourceClaimName", by_name), ("resourceClaimTemplateName", by_template)] {
            if !value.is_null() {
                errors.invalid_all(&path.child(field), value, names::dns1123_subdomain(text(value)));
            }
        }
    }
}

/// A user namespace of its own goes with no namespace of the host's.
fn host_users(scope: &Scope<'_>, path: &Path, errors: &mut Errors) {
    if scope.spec["hostUsers"] != false {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if scope.flag(field) {
            errors.push(FieldError::forbidden(&path.child(shown), "when `pod.Spec.HostUsers` is false"));
        }
    }
}
