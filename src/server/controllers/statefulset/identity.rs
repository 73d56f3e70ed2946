//! The identity of a stateful pod: its name, host name and claims follow from its ordinal. Pure
//! functions.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod as FullPod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::podcontrol;
use crate::server::controllers::kit::revisions::HASH;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The first ordinal.
pub fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()?.start).unwrap_or_default()
}

/// How many pods are wanted.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// The ordinal in a pod's name, if the name is of this set.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let (name, ordinal) = pod.rsplit_once('-')?;
    let ordinal = ordinal.parse().ok().filter(|o: &i32| *o >= 0)?;
    (name == meta::name(&set.metadata)).then_some(ordinal)
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", meta::name(&template.metadata), meta::name(&set.metadata))
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// What becomes of claims: deleted with the set, deleted when the set shrinks.
pub fn retention(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let delete = |what: Option<&String>| what.is_some_and(|w| w == "Delete");
    policy.map_or((false, false), |p| (delete(p.when_deleted.as_ref()), delete(p.when_scaled.as_ref())))
}

/// The claims of an ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
    let one = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.labels.get_or_insert_default().extend(selector.clone());
        if retention(set).0 {
            let owner = OwnerReference { controller: Some(true), ..meta::controller_ref(set) };
            claim.metadata.owner_references = Some(vec![owner]);
        }
        claim.status = None;
        claim
    };
    templates(set).iter().map(one).collect()
}

/// The pod of an ordinal, from a template of a revision.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> FullPod {
    let set_name = meta::name(&set.metadata);
    let name = format!("{set_name}-{ordinal}");
    let namespace = meta::namespace(&set.metadata);
    let mut pod = podcontrol::from_template(Some(template), namespace, "", meta::controller_ref(set));
    pod.metadata.generate_name = Some(format!("{set_name}-"));
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(HASH.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    let volumes = spec.volumes.get_or_insert_default();
    for template in templates(set) {
        let volume = meta::name(&template.metadata);
        volumes.retain(|v| v.name != volume);
        volumes.push(Volume {
            name: volume.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: Some(false),
            }),
            ..Default::default()
        });
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
    pod
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A stateful set of these spec fields.
    pub fn set(change: Value) -> StatefulSet {
        let mut set = json!({"metadata": {"name": "db", "namespace": "n", "uid": "u", "generation": 1}, "spec": {
            "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}]}}}});
        json_patch::merge(&mut set, &json!({"spec": change}));
        serde_json::from_value(set).expect("a stateful set")
    }

    #[test]
    fn name_host_name_and_claims_follow_from_the_ordinal() {
        let s = set(json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}));
        let template = s.spec.as_ref().map(|s| s.template.clone()).expect("a template");
        let pod = pod(&s, &template, "db-1", 2);
        assert_eq!(pod.metadata.name.as_deref(), Some("db-2"));
        let spec = pod.spec.expect("a spec");
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-2"), Some("db")));
        let volume = spec.volumes.and_then(|v| v.into_iter().next()).expect("a volume");
        assert_eq!(volume.persistent_volume_claim.map(|c| c.claim_name), Some("data-db-2".to_owned()));
        let claim = claims(&s, 2).remove(0);
        assert_eq!(claim.metadata.name.as_deref(), Some("data-db-2"));
        assert!(claim.metadata.owner_references.is_some());
        assert_eq!(meta::labels(&claim.metadata)["app"], "db");
    }

    #[test]
    fn ordinals_are_read_from_names() {
        let s = set(json!({}));
        for (name, expected) in
            [("db-0", Some(0)), ("db-12", Some(12)), ("web-1", None), ("db-x", None), ("db", None)]
        {
            assert_eq!(ordinal(&s, name), expected, "{name}");
        }
    }
}
