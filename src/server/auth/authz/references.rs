//! Which other objects a pod names: what its node may read.

use serde_json::Value;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Secrets.
    Secret,
    /// ConfigMaps.
    ConfigMap,
    /// PersistentVolumeClaims.
    Claim,
}

/// Whether the pod names this object of its namespace.
pub fn names(pod: &Value, kind: Kind, name: &str) -> bool {
    found(pod, kind, &|value| value == name)
}

/// Whether the pod names any object of this kind.
pub fn any(pod: &Value, kind: Kind) -> bool {
    found(pod, kind, &|value| !value.is_empty())
}

/// Whether the pod names trust bundles of the cluster.
pub fn trust_bundles(pod: &Value) -> bool {
    let sources = items(&pod["spec"]["volumes"]).flat_map(|v| items(&v["projected"]["sources"]));
    sources.into_iter().any(|s| s.get("clusterTrustBundle").is_some_and(|b| !b.is_null()))
}

fn found(pod: &Value, kind: Kind, wanted: &dyn Fn(&str) -> bool) -> bool {
    let spec = &pod["spec"];
    let is = |value: &Value| value.as_str().is_some_and(wanted);
    match kind {
        Kind::Secret => {
            items(&spec["imagePullSecrets"]).any(|s| is(&s["name"]))
                || environment(spec, "secretKeyRef", "secretRef").any(is)
                || items(&spec["volumes"]).any(|v| secret_of_volume(v, wanted))
        }
        Kind::ConfigMap => {
            environment(spec, "configMapKeyRef", "configMapRef").any(is)
                || items(&spec["volumes"]).any(|v| {
                    is(&v["configMap"]["name"])
                        || items(&v["projected"]["sources"]).any(|s| is(&s["configMap"]["name"]))
                })
        }
        Kind::Claim => {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            items(&spec["volumes"]).any(|v| {
                let ephemeral = v.get("ephemeral").and(v["name"].as_str());
                is(&v["persistentVolumeClaim"]["claimName"])
                    || ephemeral.is_some_and(|volume| wanted(&format!("{pod_name}-{volume}")))
            })
        }
    }
}

/// The names of secrets that a persistent volume's driver needs on the node, with their namespaces.
pub fn secrets_of_volume(volume: &Value) -> impl Iterator<Item = (Option<&str>, &str)> {
    const FIELDS: [&str; 5] =
        ["secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef", "userSecretRef"];
    let sources = volume["spec"].as_object().into_iter().flatten().map(|(_, source)| source);
    sources.flat_map(|source| {
        let by_reference = FIELDS
            .into_iter()
            .filter_map(move |f| Some((source[f]["namespace"].as_str(), source[f]["name"].as_str()?)));
        let by_name = source["secretName"].as_str().map(|name| (source["secretNamespace"].as_str(), name));
        by_reference.chain(by_name)
    })
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Names of objects that containers' environments name.
fn environment<'a>(spec: &'a Value, key: &'static str, all: &'static str) -> impl Iterator<Item = &'a Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(&spec[list]))
        .flat_map(move |container| {
            let single = items(&container["env"]).map(move |e| &e["valueFrom"][key]["name"]);
            single.chain(items(&container["envFrom"]).map(move |e| &e[all]["name"]))
        })
}

/// The volume itself, a source of it, or a driver's `…SecretRef` names the secret.
fn secret_of_volume(volume: &Value, wanted: &dyn Fn(&str) -> bool) -> bool {
    let is = |value: &Value| value.as_str().is_some_and(wanted);
    if is(&volume["secret"]["secretName"])
        || items(&volume["projected"]["sources"]).any(|s| is(&s["secret"]["name"]))
    {
        return true;
    }
    volume.as_object().into_iter().flatten().any(|(_, source)| {
        is(&source["secretRef"]["name"])
            || is(&source["nodePublishSecretRef"]["name"])
            || is(&source["secretName"])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_a_pod_names_objects_in_counts() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "s1"}}, {"configMapRef": {"name": "c1"}}]}],
        "containers": [{"env": [
            {"name": "A", "value": "x"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "s3"}},
            {"name": "b", "configMap": {"name": "c3"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "s4"}}, {"configMap": {"name": "c4"}}]}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "v1"}},
            {"name": "e", "ephemeral": {}},
            {"name": "f", "csi": {"nodePublishSecretRef": {"name": "s5"}}},
        ]}});
        for name in ["pull", "s1", "s2", "s3", "s4", "s5"] {
            assert!(names(&pod, Kind::Secret, name), "{name}");
            assert!(!names(&pod, Kind::ConfigMap, name), "{name}");
        }
        for name in ["c1", "c2", "c3", "c4"] {
            assert!(names(&pod, Kind::ConfigMap, name), "{name}");
            assert!(!names(&pod, Kind::Secret, name), "{name}");
        }
        assert!(
            names(&pod, Kind::Claim, "v1")
                && names(&pod, Kind::Claim, "p-e")
                && !names(&pod, Kind::Claim, "p-d")
        );
        assert!(!names(&json!({}), Kind::Secret, ""));
    }
}
