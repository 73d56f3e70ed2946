//! PodPreset: what the presets of a namespace inject into its new pods.
//!
//! Kubernetes had it up to 1.19: presets whose selector matches are merged into all containers; a pod
//! that has something else at the same place is left as it is, and an event says so.

use serde_json::{Value, json};

use super::{Attributes, Notice, Operation, Plugin};
use crate::api::{LabelSelector, Meta, MetaMut, Status};

const PRESETS: &str = "podpresets.settings.k8s.io";
const PREFIX: &str = "podpreset.admission.kubernetes.io";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct PodPreset;

impl Plugin for PodPreset {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        let meta = Meta::of(pod);
        if meta.annotation(MIRROR).is_some() || meta.annotation(&format!("{PREFIX}/exclude")) == Some("true")
        {
            return Ok(());
        }
        let all = attributes.reader.list(PRESETS, attributes.namespace);
        let matching: Vec<Value> = all.iter().map(|p| p.value()).filter(|p| selects(p, meta)).collect();
        if matching.is_empty() {
            return Ok(());
        }
        match inject(pod, &matching) {
            Ok(injected) => {
                if let Some(pod) = attributes.object.as_deref_mut() {
                    *pod = injected;
                }
            }
            Err(conflicts) => {
                let notice = notice(&matching, &conflicts);
                if !attributes.notices.contains(&notice) {
                    attributes.notices.push(notice);
                }
            }
        }
        Ok(())
    }
}

fn selects(preset: &Value, pod: Meta<'_>) -> bool {
    let selector = &preset["spec"]["selector"];
    let empty = json!({});
    let selector = if selector.is_null() { &empty } else { selector };
    LabelSelector::from_value(selector).is_ok_and(|s| s.matches(|key| pod.label(key)))
}

fn notice(presets: &[Value], conflicts: &[String]) -> Notice {
    let names: Vec<&str> = presets.iter().map(|p| Meta::of(p).name()).collect();
    let why = match conflicts {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Notice {
        component: "podpreset",
        kind: "Warning",
        reason: "PodPresetConflict",
        message: format!("conflict occurred while applying podpresets: {}: {why}", names.join(",")),
    }
}

/// The pod with everything the presets give; the conflicts if there are some.
fn inject(pod: &Value, presets: &[Value]) -> Result<Value, Vec<String>> {
    let mut pod = pod.clone();
    let mut conflicts = Vec::new();
    let volumes = Merge { what: "volumes", list: "volumes", keys: &[("name", "")], place: "in pod spec" };
    volumes.put_into(&mut pod["spec"], presets, &mut conflicts);
    for list in ["containers", "initContainers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let env = Merge { what: "env", list: "env", keys: &[("name", "")], place: " in container" };
            env.put_into(container, presets, &mut conflicts);
            let keys = &[("name", ""), ("mountPath", "mount path ")];
            let mounts = Merge { what: "volume mounts", list: "volumeMounts", keys, place: " in container" };
            mounts.put_into(container, presets, &mut conflicts);
            append(container, "envFrom", presets);
        }
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    for preset in presets {
        let meta = Meta::of(preset);
        let key = format!("{PREFIX}/podpreset-{}", meta.name());
        MetaMut::of(&mut pod).set_annotation(&key, meta.resource_version());
    }
    Ok(pod)
}

fn items<'a>(object: &'a Value, list: &str) -> &'a [Value] {
    object[list].as_array().map_or(&[], Vec::as_slice)
}

fn append(container: &mut Value, list: &str, presets: &[Value]) {
    let mut all = items(container, list).to_vec();
    for item in presets.iter().flat_map(|preset| items(&preset["spec"], list)) {
        // The plugin is asked again after webhooks have changed the pod.
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    if !all.is_empty() {
        container[list] = json!(all);
    }
}

/// How one list of a preset goes into the same list elsewhere.
struct Merge {
    /// What a conflict calls it.
    what: &'static str,
    list: &'static str,
    /// Fields by which items are known, the main one first, and what a conflict says before the value.
    keys: &'static [(&'static str, &'static str)],
    place: &'static str,
}

impl Merge {
    /// Adds what is not there; what is there must be the same.
    fn put_into(&self, object: &mut Value, presets: &[Value], conflicts: &mut Vec<String>) {
        let mut all = items(object, self.list).to_vec();
        let before = all.len();
        for preset in presets {
            for item in items(&preset["spec"], self.list) {
                let mut known = false;
                for (i, (key, word)) in self.keys.iter().enumerate() {
                    let Some(found) = all.iter().find(|other| other[*key] == item[*key]) else { continue };
                    known |= i == 0;
                    if found != item {
                        conflicts.push(format!(
                            "merging {} for {} has a conflict on {word}{}: \n{item}\ndoes not match\n{found}\n{}",
                            self.what,
                            Meta::of(preset).name(),
                            item[*key].as_str().unwrap_or_default(),
                            self.place
                        ));
                    }
                }
                if !known {
                    all.push(item.clone());
                }
            }
        }
        if all.len() > before {
            object[self.list] = json!(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Admitted, Request};
    use super::*;
    use crate::server::auth::testing::Fake;

    fn preset(name: &str, spec: Value) -> Value {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"role": "frontend"}});
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec})
    }

    fn admit(presets: &[Value], pod: Value) -> Admitted {
        let fake = Fake::default();
        presets.iter().for_each(|p| fake.put(PRESETS, p.clone()));
        Request::create("Pod", "pods").run(&PodPreset, &fake, pod).unwrap()
    }

    fn pod(container: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "a", "labels": {"role": "frontend"}},
            "spec": {"containers": [container], "initContainers": [{"name": "i"}]}})
    }

    fn database() -> Value {
        preset(
            "allow-database",
            json!({"env": [{"name": "DB_PORT", "value": "6379"}],
            "envFrom": [{"configMapRef": {"name": "etcd"}}], "volumes": [{"name": "cache", "emptyDir": {}}],
            "volumeMounts": [{"mountPath": "/cache", "name": "cache"}]}),
        )
    }

    #[test]
    fn a_matching_preset_goes_into_every_container() {
        let admitted =
            admit(&[database()], pod(json!({"name": "c", "env": [{"name": "OWN", "value": "1"}]})));
        let spec = &admitted.object["spec"];
        assert_eq!(
            spec["containers"][0]["env"],
            json!([{"name": "OWN", "value": "1"}, {"name": "DB_PORT", "value": "6379"}])
        );
        for list in ["containers", "initContainers"] {
            assert_eq!(spec[list][0]["volumeMounts"], json!([{"mountPath": "/cache", "name": "cache"}]));
            assert_eq!(spec[list][0]["envFrom"], json!([{"configMapRef": {"name": "etcd"}}]));
        }
        assert_eq!(spec["volumes"], json!([{"name": "cache", "emptyDir": {}}]));
        let annotations = &admitted.object["metadata"]["annotations"];
        assert_eq!(annotations, &json!({"podpreset.admission.kubernetes.io/podpreset-allow-database": "1"}));
        assert!(admitted.notices.is_empty());
        assert_eq!(admit(&[database()], admitted.object.clone()).object, admitted.object);
    }

    #[test]
    fn equal_things_are_no_conflict_and_others_leave_the_pod_alone() {
        let same = pod(json!({"name": "c", "env": [{"name": "DB_PORT", "value": "6379"}]}));
        assert!(admit(&[database()], same).notices.is_empty());
        let own = pod(json!({"name": "c", "env": [{"name": "DB_PORT", "value": "1"}],
            "volumeMounts": [{"mountPath": "/cache", "name": "mine"}]}));
        let admitted = admit(&[database()], own.clone());
        assert_eq!(admitted.object, own);
        let notice = &admitted.notices[0];
        assert_eq!(
            (notice.component, notice.kind, notice.reason),
            ("podpreset", "Warning", "PodPresetConflict")
        );
        assert_eq!(
            notice.message,
            "conflict occurred while applying podpresets: allow-database: [merging env for allow-database has a conflict \
             on DB_PORT: \n{\"name\":\"DB_PORT\",\"value\":\"6379\"}\ndoes not match\n{\"name\":\"DB_PORT\",\"value\":\"1\"}\n \
             in container, merging volume mounts for allow-database has a conflict on mount path /cache: \n\
             {\"mountPath\":\"/cache\",\"name\":\"cache\"}\ndoes not match\n{\"mountPath\":\"/cache\",\"name\":\"mine\"}\n \
             in container]"
        );
        let two = [
            preset("a", json!({"env": [{"name": "X", "value": "1"}]})),
            preset("b", json!({"env": [{"name": "X", "value": "2"}]})),
        ];
        assert_eq!(admit(&two, pod(json!({"name": "c"}))).notices.len(), 1);
    }

    #[test]
    fn other_excluded_and_mirror_pods_stay_as_they_are() {
        let mut other = pod(json!({"name": "c"}));
        other["metadata"]["labels"] = json!({"role": "backend"});
        let mut excluded = pod(json!({"name": "c"}));
        excluded["metadata"]["annotations"] = json!({"podpreset.admission.kubernetes.io/exclude": "true"});
        let mut mirror = pod(json!({"name": "c"}));
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        for pod in [other, excluded, mirror] {
            assert_eq!(admit(&[database()], pod.clone()).object, pod);
        }
    }
}
