//! How containers are restarted, and what a resize does to them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::{FieldError, Path};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const RULES: usize = 20;
const EXIT_CODES: usize = 255;

/// `validateContainerRestartPolicy`
pub fn policy(container: &Value, path: &Path, errors: &mut Errors) {
    let (policy, rules) = (&container["restartPolicy"], &container["restartPolicyRules"]);
    let at = path.child("restartPolicy");
    if policy.is_null() {
        if !items(rules).is_empty() {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&at, detail));
        }
    } else if !POLICIES.contains(&text(policy)) {
        errors.push(FieldError::not_supported(&at, policy.clone(), &POLICIES));
    }
    let at = path.child("restartPolicyRules");
    if items(rules).len() > RULES {
        errors.push(FieldError::too_many(&at, items(rules).len(), RULES));
    }
    for (rule, path) in indexed(rules, &at) {
        let actions = ["Restart", "RestartAllContainers"];
        if !actions.contains(&text(&rule["action"])) {
            let action = text(&rule["action"]);
            errors.push(FieldError::not_supported(&path.child("action"), action, &actions));
        }
        exit_codes(&rule["exitCodes"], &path.child("exitCodes"), errors);
    }
}

fn exit_codes(codes: &Value, path: &Path, errors: &mut Errors) {
    if codes.is_null() {
        return errors.push(FieldError::required(path, "must be specified"));
    }
    let operators = ["In", "NotIn"];
    if !operators.contains(&text(&codes["operator"])) {
        let operator = text(&codes["operator"]);
        errors.push(FieldError::not_supported(&path.child("operator"), operator, &operators));
    }
    let values = items(&codes["values"]).len();
    if values > EXIT_CODES {
        errors.push(FieldError::too_many(&path.child("values"), values, EXIT_CODES));
    }
}

/// `validateResizePolicy`
pub fn resize_policy(list: &Value, path: &Path, restart_policy: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (item, at) in indexed(list, path) {
        let (name, policy) = (&item["resourceName"], &item["restartPolicy"]);
        if !seen.insert(text(name)) {
            errors.push(FieldError::duplicate(&at, name.clone()));
        }
        errors.one_of(path, name, &["cpu", "memory"]);
        errors.one_of(path, policy, &["NotRequired", "RestartContainer"]);
        if restart_policy == "Never" && !is_empty(policy) && policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, policy.clone(), detail));
        }
    }
}
