//! One file of a static pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration, Volume};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::agent::mirrors::{HASH, SEEN, SOURCE};
use crate::api::{FieldValidation, GroupVersionKind, Schemas, names};

/// Why a file defines no static pod.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(super) struct Error(String);

/// Priorities of the classes that every cluster has; others need the API server.
const CLASSES: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// The pod that `text` (YAML or JSON) defines on the node `node`, with kubelet's additions.
pub(super) fn parse(text: &str, node: &str) -> Result<Pod, Error> {
    let kind = GroupVersionKind::new("", "v1", "Pod");
    let schema = Schemas::builtin().get(&kind).ok_or_else(|| Error("the kind Pod is not known".into()))?;
    let decoded = schema.decode("application/yaml", text.as_bytes(), FieldValidation::Strict);
    let (mut value, _) = decoded.map_err(|status| Error(status.message))?;
    schema.default(&mut value);
    let pod = serde_json::from_value::<Pod>(value.clone()).map_err(|e| Error(e.to_string()))?;
    check(&pod)?;
    complete(pod, &value, node)
}

fn complete(mut pod: Pod, value: &Value, node: &str) -> Result<Pod, Error> {
    let digest = Sha256::digest(format!("{node}\0{value}"));
    let meta = &mut pod.metadata;
    let given = meta.uid.take().filter(|u| !u.is_empty());
    let hash = given.unwrap_or_else(|| hex::encode(&digest[..16]));
    let name = format!("{}-{}", meta.name.clone().unwrap_or_default(), node.to_lowercase());
    let wrong = names::dns1123_subdomain(&name);
    if !wrong.is_empty() {
        return Err(Error(format!(
            "metadata.name: with the node's name it is {name:?}: {}",
            wrong.join("; ")
        )));
    }
    meta.name = Some(name);
    meta.namespace =
        Some(meta.namespace.take().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into()));
    meta.uid = Some(hash.clone());
    meta.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()));
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(SOURCE.into(), "file".into());
    annotations.insert(HASH.into(), hash);
    annotations.insert(SEEN.into(), Timestamp::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    let class = spec.priority_class_name.as_deref();
    if let Some((_, priority)) = CLASSES.iter().find(|(name, _)| class == Some(*name)) {
        spec.priority = spec.priority.or(Some(*priority));
    }
    let everything = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
    }
    pod.status = None;
    Ok(pod)
}

/// What the API server would refuse; it may not be there to say so.
fn check(pod: &Pod) -> Result<(), Error> {
    if pod.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(Error("metadata.name: Required value".into()));
    }
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.containers.is_empty() {
        return Err(Error("spec.containers: Required value".into()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (path, container) in spec
        .containers
        .iter()
        .map(|c| ("spec.containers", c))
        .chain(spec.init_containers.iter().flatten().map(|c| ("spec.initContainers", c)))
    {
        let wrong = names::dns1123_label(&container.name);
        if !wrong.is_empty() {
            return Err(Error(format!("{path}: name {:?}: {}", container.name, wrong.join("; "))));
        }
        if !seen.insert(&container.name) {
            return Err(Error(format!("{path}: Duplicate value: {:?}", container.name)));
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            return Err(Error(format!("{path}: container {:?} has no image", container.name)));
        }
    }
    match reference(&spec) {
        Some(what) => Err(Error(format!("static pods may not reference {what}"))),
        None => Ok(()),
    }
}

/// What of the API the pod refers to, which a static pod must be able to do without (as upstream).
fn reference(spec: &PodSpec) -> Option<&'static str> {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if spec.service_account_name.as_deref().is_some_and(|s| !s.is_empty()) {
        return Some("serviceaccounts");
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        return Some("ephemeral containers");
    }
    for source in containers().flat_map(|c| c.env_from.iter().flatten()) {
        if source.config_map_ref.is_some() {
            return Some("configmaps");
        }
        if source.secret_ref.is_some() {
            return Some("secrets");
        }
    }
    for source in containers().flat_map(|c| c.env.iter().flatten()).filter_map(|e| e.value_from.as_ref()) {
        if source.config_map_key_ref.is_some() {
            return Some("configmaps");
        }
        if source.secret_key_ref.is_some() {
            return Some("secrets");
        }
    }
    if spec.image_pull_secrets.as_ref().is_some_and(|s| !s.is_empty()) {
        return Some("secrets");
    }
    spec.volumes.iter().flatten().find_map(volume)
}

fn volume(volume: &Volume) -> Option<&'static str> {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let mut sources = projected.filter_map(|s| {
        let known = [
            (s.config_map.is_some(), "configmaps"),
            (s.secret.is_some(), "secrets"),
            (s.service_account_token.is_some(), "serviceaccounts"),
            (s.cluster_trust_bundle.is_some(), "clustertrustbundles"),
        ];
        known.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
    });
    let own = [
        (volume.config_map.is_some(), "configmaps"),
        (volume.secret.is_some(), "secrets"),
        (volume.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        (volume.ephemeral.is_some(), "persistentvolumeclaims"),
    ];
    own.into_iter().find(|(is, _)| *is).map(|(_, what)| what).or_else(|| sources.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::mirrors::{annotation, is_static};

    const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  priorityClassName: system-node-critical\n  containers:\n  - {name: c, image: nginx, ports: [{containerPort: 80}]}\n";

    #[test]
    fn a_file_becomes_a_pod_of_this_node() {
        let pod = parse(GOOD, "Node-1").expect("a pod");
        assert!(is_static(&pod));
        let meta = &pod.metadata;
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("web-node-1"), Some("default")));
        assert_eq!(meta.uid.as_deref(), annotation(&pod, HASH));
        assert_eq!(meta.uid.as_ref().map(String::len), Some(32));
        let spec = pod.spec.clone().expect("a spec");
        assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
        assert_eq!(spec.priority, Some(2_000_001_000));
        assert_eq!(spec.tolerations.expect("tolerations")[0].effect.as_deref(), Some("NoExecute"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"), "defaults are applied");
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(
            parse(GOOD, "Node-1").expect("a pod").metadata.uid,
            meta.uid,
            "the same file, the same pod"
        );
        assert_ne!(parse(&GOOD.replace("nginx", "httpd"), "Node-1").expect("a pod").metadata.uid, meta.uid);
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"j","namespace":"kube-system","uid":"mine"},
            "spec":{"containers":[{"name":"c","image":"x:1"}]}}"#;
        let pod = parse(json, "n").expect("a pod");
        assert_eq!(
            (pod.metadata.uid.as_deref(), pod.metadata.namespace.as_deref()),
            (Some("mine"), Some("kube-system"))
        );
    }

    #[test]
    fn a_bad_file_is_told_what_is_wrong_with_it() {
        let with = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
        for (text, expected) in [
            ("kind: [", "yaml"),
            ("apiVersion: v1\nkind: Service\nmetadata: {name: p}\n", "Service"),
            (&*with("{containers: [{name: c, image: x, imagee: y}]}"), "imagee"),
            (&*with("{containers: []}"), "spec.containers: Required value"),
            (&*with("{containers: [{name: c}]}"), "container \"c\" has no image"),
            (&*with("{containers: [{name: C_, image: x}]}"), "spec.containers: name \"C_\""),
            (
                &*with("{containers: [{name: c, image: x}], volumes: [{name: v, secret: {secretName: s}}]}"),
                "static pods may not reference secrets",
            ),
            (&*with("{serviceAccountName: x, containers: [{name: c, image: x}]}"), "serviceaccounts"),
        ] {
            let told = parse(text, "n").expect_err("refused").to_string();
            assert!(told.contains(expected), "{told:?} does not tell {expected:?}");
        }
    }
}
