//! Revisions of a deployment: which replica set is the new one, what number it has, and which
//! annotations travel with it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::scaling;
use crate::server::controllers::kit::meta::{self, Labels};

/// Number of a revision.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers a replica set had before it was rolled back to.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the deployment was asked for when the replica set was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods the deployment could have had then.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Label by which the pods of one template are told from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The revision number in an object's annotations; 0 without.
pub fn revision(meta: &ObjectMeta) -> i64 {
    meta::annotation(meta, REVISION).and_then(|r| r.parse().ok()).unwrap_or_default()
}

fn without_hash(template: Option<&PodTemplateSpec>) -> PodTemplateSpec {
    let mut template = template.cloned().unwrap_or_default();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        if meta.labels.as_ref().is_some_and(Labels::is_empty) {
            meta.labels = None;
        }
        if *meta == ObjectMeta::default() {
            template.metadata = None;
        }
    }
    template
}

/// Whether two templates make the same pods.
pub fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    without_hash(a) == without_hash(b)
}

/// The template of a deployment.
pub fn template(d: &Deployment) -> Option<&PodTemplateSpec> {
    Some(&d.spec.as_ref()?.template)
}

/// The oldest replica set that has the deployment's template.
pub fn find_new(d: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    let has = |rs: &&Arc<ReplicaSet>| {
        same_template(rs.spec.as_ref().and_then(|s| s.template.as_ref()), template(d))
    };
    sets.iter()
        .filter(has)
        .min_by_key(|rs| (rs.metadata.creation_timestamp.clone(), rs.metadata.name.clone()))
        .cloned()
}

/// The replica sets beside the new one, oldest first.
pub fn others(sets: &[Arc<ReplicaSet>], new: Option<&Arc<ReplicaSet>>) -> Vec<Arc<ReplicaSet>> {
    let uid = new.map(|rs| meta::uid(&rs.metadata));
    let mut old: Vec<_> = sets.iter().filter(|rs| Some(meta::uid(&rs.metadata)) != uid).cloned().collect();
    old.sort_by_key(|rs| (rs.metadata.creation_timestamp.clone(), rs.metadata.name.clone()));
    old
}

/// The number the new replica set has to have: one more than the highest of the others.
pub fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|rs| revision(&rs.metadata)).max().unwrap_or_default() + 1
}

/// Sets the annotations of the new replica set: those of the deployment and its number.
pub fn annotate(d: &Deployment, rs: &mut ReplicaSet, next: i64, existed: bool) {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    for (key, value) in d.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = annotations.get(REVISION).cloned();
    let number: i64 = before.as_deref().and_then(|r| r.parse().ok()).unwrap_or_default();
    if number >= next {
        return;
    }
    annotations.insert(REVISION.to_owned(), next.to_string());
    if let Some(before) = before.filter(|_| existed) {
        let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.split(',').any(|r| r == before) {
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&before);
        }
    }
}

/// Notes what the deployment was asked for. Tells whether that is news.
pub fn annotate_size(d: &Deployment, rs: &mut ReplicaSet) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    let wanted = scaling::wanted(d);
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, wanted), (MAX_REPLICAS, wanted + scaling::fenceposts(d).0)] {
        changed |= annotations.insert(key.to_owned(), value.to_string()) != Some(value.to_string());
    }
    changed
}

/// The replica set for a deployment's template, without a size.
pub fn build(d: &Deployment, next: i64) -> ReplicaSet {
    let collisions = d.status.as_ref().and_then(|s| s.collision_count);
    let mut template = template(d).cloned().unwrap_or_default();
    let hash = meta::template_hash(&template, collisions);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let spec = d.spec.as_ref();
    let mut selector = spec.map(|s| s.selector.clone()).unwrap_or_default();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut rs = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(&d.metadata))),
            namespace: d.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_ref(d)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.and_then(|s| s.min_ready_seconds),
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(d, &mut rs, next, false);
    rs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "annotations": {
                "kubernetes.io/change-cause": "why", REVISION: "7",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}}
        }))
        .expect("a deployment")
    }

    #[test]
    fn a_replica_set_is_named_and_labelled_by_its_templates_hash() {
        let d = deployment();
        let rs = build(&d, 3);
        let hash = meta::labels(&rs.metadata)[HASH_LABEL].clone();
        assert_eq!(rs.metadata.name, Some(format!("web-{hash}")));
        let spec = rs.spec.as_ref().expect("a spec");
        assert_eq!(spec.selector.match_labels.as_ref().map(|l| &l[HASH_LABEL]), Some(&hash));
        assert_eq!(revision(&rs.metadata), 3);
        assert_eq!(meta::annotation(&rs.metadata, "kubernetes.io/change-cause"), Some("why"));
        assert_eq!(meta::annotation(&rs.metadata, NOT_COPIED[0]), None);
        assert!(same_template(spec.template.as_ref(), template(&d)));
        assert!(find_new(&d, &[Arc::new(rs)]).is_some());
    }

    #[test]
    fn another_collision_count_gives_another_name() {
        let mut d = deployment();
        let first = build(&d, 1).metadata.name;
        d.status.get_or_insert_default().collision_count = Some(1);
        assert_ne!(build(&d, 1).metadata.name, first);
    }

    #[test]
    fn rolling_back_renumbers_and_keeps_the_old_number() {
        let d = deployment();
        let mut rs = build(&d, 1);
        annotate(&d, &mut rs, 3, true);
        assert_eq!(revision(&rs.metadata), 3);
        assert_eq!(meta::annotation(&rs.metadata, REVISION_HISTORY), Some("1"));
        annotate(&d, &mut rs, 5, true);
        assert_eq!(meta::annotation(&rs.metadata, REVISION_HISTORY), Some("1,3"));
        annotate(&d, &mut rs, 5, true);
        assert_eq!(meta::annotation(&rs.metadata, REVISION_HISTORY), Some("1,3"));
        let another = Arc::new(rs.clone());
        assert_eq!(next_revision(&[another]), 6);
    }

    #[test]
    fn the_size_is_noted_once() {
        let d = deployment();
        let mut rs = build(&d, 1);
        assert!(annotate_size(&d, &mut rs));
        assert!(!annotate_size(&d, &mut rs));
        assert_eq!(meta::annotation(&rs.metadata, MAX_REPLICAS), Some("2"));
    }
}
