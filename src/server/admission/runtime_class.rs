//! RuntimeClass: a pod's class exists, and gives it its overhead and where it may run.
//!
//! <https://kubernetes.io/docs/concepts/containers/runtime-class/>

use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::api::Status;
use crate::api::field::quote;
use crate::api::quota::amounts;

const CLASSES: &str = "runtimeclasses.node.k8s.io";
const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const UNFOUNDED: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// The plugin.
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(class) = class_of(attributes)? else { return Ok(()) };
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let why = set_overhead(pod, &class).err().or_else(|| set_scheduling(pod, &class).err());
        why.map_or(Ok(()), |why| Err(attributes.forbidden(why)))
    }

    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref().filter(|_| concerns(attributes)) else { return Ok(()) };
        let class = class_of(attributes)?.unwrap_or_default();
        let (defined, given) = (&class["overhead"], &pod["spec"]["overhead"]);
        if defined.is_null() {
            return if given.is_null() { Ok(()) } else { Err(attributes.forbidden(UNFOUNDED)) };
        }
        let same = amounts(&defined["podFixed"]) == amounts(given);
        if same { Ok(()) } else { Err(attributes.forbidden(MISMATCH)) }
    }
}

fn concerns(attributes: &Attributes<'_>) -> bool {
    attributes.is("pods") && attributes.operation == Operation::Create
}

/// The class that a new pod names.
fn class_of(attributes: &Attributes<'_>) -> Result<Option<Value>, Status> {
    let pod = attributes.object.as_deref().filter(|_| concerns(attributes));
    let Some(name) = pod.and_then(|p| p["spec"]["runtimeClassName"].as_str()) else { return Ok(None) };
    match attributes.reader.get(CLASSES, None, name) {
        Some(class) => Ok(Some(class.value())),
        None => Err(attributes.forbidden(format!("pod rejected: RuntimeClass {} not found", quote(name)))),
    }
}

fn set_overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    if class["overhead"].is_null() {
        return Ok(());
    }
    let fixed = &class["overhead"]["podFixed"];
    let given = &pod["spec"]["overhead"];
    if !given.is_null() && amounts(fixed) != amounts(given) {
        return Err(MISMATCH.to_owned());
    }
    if fixed.is_object() {
        pod["spec"]["overhead"] = fixed.clone();
    }
    Ok(())
}

fn set_scheduling(pod: &mut Value, class: &Value) -> Result<(), String> {
    let scheduling = &class["scheduling"];
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        match pod["spec"]["nodeSelector"].get(key) {
            Some(own) if own != wanted => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    text(wanted),
                    text(own)
                ));
            }
            Some(_) => {}
            None => pod["spec"]["nodeSelector"][key.as_str()] = wanted.clone(),
        }
    }
    let more = scheduling["tolerations"].as_array().cloned().unwrap_or_default();
    if !more.is_empty() {
        let mut all = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        all.extend(more);
        pod["spec"]["tolerations"] = json!(merged(&all));
    }
    Ok(())
}

/// The tolerations without those that another covers.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let covered = kept.iter().any(|k| covers(k, one))
            || all[i + 1..].iter().any(|later| later != one && covers(later, one));
        if !covered {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let text = |toleration: &Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
    let operator = text(wide, "operator");
    if text(wide, "key") != text(narrow, "key") && !(text(wide, "key").is_empty() && operator == "Exists") {
        return false;
    }
    let effect = text(wide, "effect");
    if !effect.is_empty() && effect != text(narrow, "effect") {
        return false;
    }
    if let (Some(seconds), "NoExecute") = (wide["tolerationSeconds"].as_i64(), effect.as_str())
        && narrow["tolerationSeconds"].as_i64().is_none_or(|s| s > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "Equal" | "" => text(narrow, "operator") == "Equal" && text(wide, "value") == text(narrow, "value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

    fn admit(class: Value, spec: Value) -> Result<Value, String> {
        let fake = Fake::default();
        let mut full = json!({"metadata": {"name": "kata"}, "handler": "kata"});
        class.as_object().unwrap().iter().for_each(|(k, v)| full[k] = v.clone());
        fake.put(CLASSES, full);
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        let admitted = Request::create("Pod", "pods").admit(&RuntimeClass, &fake, pod);
        admitted.map(|pod| pod["spec"].clone()).map_err(|status| status.message)
    }

    #[test]
    fn a_class_gives_overhead_and_place() {
        let class = json!({"overhead": {"podFixed": {"cpu": "100m"}}, "scheduling": {"nodeSelector": {"kata": "yes"},
            "tolerations": [{"key": "kata", "operator": "Exists"}]}});
        let named = json!({"runtimeClassName": "kata", "tolerations": [{"key": "kata", "operator": "Equal", "value": "x"}]});
        assert_eq!(
            admit(class.clone(), named).unwrap(),
            json!({"runtimeClassName": "kata", "overhead": {"cpu": "100m"}, "nodeSelector": {"kata": "yes"},
                "tolerations": [{"key": "kata", "operator": "Exists"}]})
        );
        let given = json!({"runtimeClassName": "kata", "overhead": {"cpu": "0.1"}});
        assert!(admit(class.clone(), given).is_ok());
        let other = json!({"runtimeClassName": "kata", "overhead": {"cpu": "1"}});
        assert!(admit(class.clone(), other).unwrap_err().ends_with(MISMATCH));
        let elsewhere = json!({"runtimeClassName": "kata", "nodeSelector": {"kata": "no"}});
        assert_eq!(
            admit(class, elsewhere).unwrap_err(),
            "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; \
             pod.spec.nodeSelector[kata] = no"
        );
    }

    #[test]
    fn a_missing_class_and_an_overhead_of_ones_own_are_refused() {
        assert_eq!(
            admit(json!({}), json!({"runtimeClassName": "gvisor"})).unwrap_err(),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found"
        );
        assert!(admit(json!({}), json!({"overhead": {"cpu": "1"}})).unwrap_err().ends_with(UNFOUNDED));
        assert!(admit(json!({}), json!({"runtimeClassName": "kata"})).is_ok());
    }

    #[test]
    fn wider_tolerations_cover_narrower_ones() {
        let all = json!({"operator": "Exists"});
        let key = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let longer = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        assert!(covers(&all, &key) && !covers(&key, &all) && covers(&longer, &key) && !covers(&key, &longer));
        assert_eq!(merged(&[key.clone(), longer.clone(), key]), [longer]);
    }
}
