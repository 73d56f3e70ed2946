//! Priority: a pod's priority is that of its class.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::api::Status;

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
const PREEMPT: &str = "PreemptLowerPriority";
/// The classes of the cluster's own pods.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The classes that are created at start, of apiVersion `scheduling.k8s.io/v1`.
pub fn system_classes() -> Vec<Value> {
    let class = |(name, value, description): (&str, i64, &str)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "globalDefault": false, "description": description, "preemptionPolicy": PREEMPT,
        })
    };
    SYSTEM.map(class).into()
}

/// The plugin.
pub struct Priority;

struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(value: &Value) -> Self {
        Self {
            name: value["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            value: value["value"].as_i64().unwrap_or_default(),
            preemption: value["preemptionPolicy"].as_str().unwrap_or(PREEMPT).to_owned(),
        }
    }
}

impl Plugin for Priority {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("pods") {
            return Ok(());
        }
        if attributes.operation == Operation::Update {
            keep(attributes);
        }
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        let spec = &pod["spec"];
        let class = match spec["priorityClassName"].as_str().filter(|n| !n.is_empty()) {
            Some(name) => find(attributes, name)?,
            None => default(attributes),
        };
        if let Some(given) = spec["priority"].as_i64().filter(|given| *given != class.value) {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; \
                 priority admission controller computed {} from the given PriorityClass name",
                class.value
            )));
        }
        if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != class.preemption) {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                 priority admission controller computed {} from the given PriorityClass name",
                class.preemption
            )));
        }
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let spec = &mut pod["spec"];
        if !class.name.is_empty() {
            spec["priorityClassName"] = json!(class.name);
        }
        spec["priority"] = json!(class.value);
        spec["preemptionPolicy"] = json!(class.preemption);
        Ok(())
    }

    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        let Some(class) = attributes.object.as_deref().filter(|_| attributes.is(CLASSES)) else {
            return Ok(());
        };
        if class["globalDefault"].as_bool() != Some(true) {
            return Ok(());
        }
        let all = attributes.reader.list(CLASSES, None);
        let other = all.iter().find(|c| c.name() != attributes.name && c.value()["globalDefault"] == true);
        match other {
            Some(other) => Err(attributes.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            ))),
            None => Ok(()),
        }
    }
}

/// An update that does not say what the plugin once set means no change.
fn keep(attributes: &mut Attributes<'_>) {
    let (Some(pod), Some(old)) = (attributes.object.as_deref_mut(), attributes.old) else { return };
    for field in ["priority", "preemptionPolicy"] {
        let before = &old["spec"][field];
        if pod["spec"][field].is_null() && !before.is_null() {
            pod["spec"][field] = before.clone();
        }
    }
}

fn find(attributes: &Attributes<'_>, name: &str) -> Result<Class, Status> {
    if let Some(class) = attributes.reader.get(CLASSES, None, name) {
        return Ok(Class::of(&class.value()));
    }
    // The cluster's own may be asked for before they are created.
    let system = SYSTEM.iter().find(|(system, ..)| *system == name);
    system
        .map(|(name, value, _)| Class {
            name: (*name).to_owned(),
            value: *value,
            preemption: PREEMPT.to_owned(),
        })
        .ok_or_else(|| attributes.forbidden(format!("no PriorityClass with name {name} was found")))
}

/// The class of pods that name none: of those marked so the one with the lowest value, or else 0.
fn default(attributes: &Attributes<'_>) -> Class {
    let marked = attributes
        .reader
        .list(CLASSES, None)
        .into_iter()
        .map(|c| c.value())
        .filter(|c| c["globalDefault"] == true);
    let lowest = marked.map(|c| Class::of(&c)).min_by_key(|c| c.value);
    lowest.unwrap_or(Class { name: String::new(), value: 0, preemption: PREEMPT.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

    fn admit(classes: &[Value], spec: Value) -> Result<Value, String> {
        let fake = Fake::default();
        for class in classes {
            fake.put(CLASSES, class.clone());
        }
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        let admitted = Request::create("Pod", "pods").admit(&Priority, &fake, pod);
        admitted.map(|pod| pod["spec"].clone()).map_err(|status| status.message)
    }

    #[test]
    fn a_pod_gets_the_priority_of_its_class() {
        assert_eq!(
            admit(&[], json!({})).unwrap(),
            json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
        );
        let system = admit(&[], json!({"priorityClassName": "system-node-critical"})).unwrap();
        assert_eq!(system["priority"], 2_000_001_000);
        let default = json!({"metadata": {"name": "low"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
        let spec = admit(&[default], json!({})).unwrap();
        assert_eq!(spec, json!({"priorityClassName": "low", "priority": 7, "preemptionPolicy": "Never"}));
        let unknown = admit(&[], json!({"priorityClassName": "x"})).unwrap_err();
        assert_eq!(unknown, "pods \"p\" is forbidden: no PriorityClass with name x was found");
        let given = admit(&[], json!({"priority": 5})).unwrap_err();
        assert!(
            given.contains("the integer value of priority (5) must not be provided in pod spec"),
            "{given}"
        );
        assert!(admit(&[], json!({"priority": 0})).is_ok());
    }

    #[test]
    fn an_update_keeps_what_it_does_not_say() {
        let old = json!({"metadata": {"name": "p"}, "spec": {"priority": 7, "preemptionPolicy": "Never"}});
        let request = Request {
            operation: Operation::Update,
            old: Some(old.clone()),
            ..Request::create("Pod", "pods")
        };
        let new = json!({"metadata": {"name": "p"}, "spec": {"priority": 7}});
        assert_eq!(request.admit(&Priority, &Fake::default(), new).unwrap(), old);
    }

    #[test]
    fn one_class_at_most_is_the_default() {
        let fake = Fake::default();
        fake.put(CLASSES, json!({"metadata": {"name": "low"}, "value": 7, "globalDefault": true}));
        let request = Request::of("scheduling.k8s.io", "PriorityClass", "priorityclasses");
        let class = |name: &str| json!({"metadata": {"name": name}, "globalDefault": true});
        assert!(
            request
                .admit(&Priority, &fake, class("other"))
                .unwrap_err()
                .message
                .contains("PriorityClass low is already marked")
        );
        request.admit(&Priority, &fake, class("low")).unwrap();
    }
}
