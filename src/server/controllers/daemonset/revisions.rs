//! ControllerRevisions: the templates a daemon set has had, for updates and for rolling back.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::server::controllers::kit::informer::Informer;
use crate::server::controllers::kit::pod::Pod;
use crate::server::controllers::kit::{Context, Error, ignore_not_found, meta, patch};

/// Label with the hash of a pod's template.
pub const HASH: &str = "controller-revision-hash";

/// What a revision keeps of a daemon set: a patch that brings its template back.
fn data(ds: &DaemonSet) -> Value {
    let template = ds.spec.as_ref().map(|s| &s.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn build(ds: &DaemonSet, number: i64) -> ControllerRevision {
    let data = data(ds);
    let hash = meta::template_hash(&data, ds.status.as_ref().and_then(|s| s.collision_count));
    let mut labels = ds.spec.as_ref().and_then(|s| s.template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(&ds.metadata))),
            namespace: ds.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: ds.metadata.annotations.clone(),
            owner_references: Some(vec![meta::controller_ref(ds)]),
            ..Default::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

fn is_of(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|d| d.0 == *data)
}

/// The hash of the daemon set's present template. Its revision is made or made the newest, and
/// revisions beyond the history limit that no pod has are removed.
pub async fn sync(
    cx: &Context,
    informer: &Informer<ControllerRevision>,
    ds: &DaemonSet,
    pods: &[Arc<Pod>],
) -> Result<String, Error> {
    let mut known = informer.controlled_by(meta::uid(&ds.metadata));
    known.sort_by_key(|r| (r.revision, r.metadata.name.clone()));
    let highest = known.last().map_or(0, |r| r.revision);
    let api: Api<ControllerRevision> = Api::namespaced(cx.client.clone(), meta::namespace(&ds.metadata));
    let wanted = data(ds);
    let current = known.iter().rev().find(|r| is_of(r, &wanted)).cloned();
    let current = match current {
        Some(revision) if revision.revision < highest => {
            let mut newest = ControllerRevision::clone(&revision);
            newest.revision = highest + 1;
            patch::write(&api, revision.as_ref(), &newest, None).await?.map_or(revision, Arc::new)
        }
        Some(revision) => revision,
        None => Arc::new(create(&api, informer, ds, highest + 1).await?),
    };
    let hash = meta::labels(&current.metadata).get(HASH).cloned().unwrap_or_default();
    clean_up(&api, ds, &known, &current, pods).await?;
    Ok(hash)
}

async fn create(
    api: &Api<ControllerRevision>,
    informer: &Informer<ControllerRevision>,
    ds: &DaemonSet,
    number: i64,
) -> Result<ControllerRevision, Error> {
    let revision = build(ds, number);
    match api.create(&PostParams::default(), &revision).await.map_err(Error::api("creating a revision")) {
        Ok(created) => {
            let uid = meta::uid(&created.metadata).to_owned();
            let owner = meta::uid(&ds.metadata).to_owned();
            informer
                .caught_up(|all| all.controlled_by(&owner).iter().any(|r| meta::uid(&r.metadata) == uid))
                .await;
            Ok(created)
        }
        Err(e) if e.reason() == "AlreadyExists" => {
            let other = api.get(meta::name(&revision.metadata)).await.map_err(Error::api("reading a revision"))?;
            if revision.data.is_some() && other.data == revision.data {
                return Ok(other);
            }
            let sets: Api<DaemonSet> = Api::namespaced(api.clone().into_client(), meta::namespace(&ds.metadata));
            let mut next = ds.clone();
            let status = next.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            patch::write(&sets, ds, &next, Some("status")).await?;
            Err(Error::Unfinished("the name of a revision is taken; trying another".into()))
        }
        Err(e) => Err(e),
    }
}

async fn clean_up(
    api: &Api<ControllerRevision>,
    ds: &DaemonSet,
    known: &[Arc<ControllerRevision>],
    current: &ControllerRevision,
    pods: &[Arc<Pod>],
) -> Result<(), Error> {
    let limit = ds.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
    let used = |r: &ControllerRevision| {
        let hash = meta::labels(&r.metadata).get(HASH);
        pods.iter().any(|p| meta::labels(&p.metadata).get(HASH) == hash)
    };
    let old: Vec<_> = known
        .iter()
        .filter(|r| meta::uid(&r.metadata) != meta::uid(&current.metadata) && !used(r))
        .collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    for revision in old.into_iter().take(surplus) {
        let deleted = api.delete(meta::name(&revision.metadata), &DeleteParams::default()).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting an old revision")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_holds_a_patch_that_brings_the_template_back() {
        let ds: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "d", "uid": "u"}, "spec": {"selector": {},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}}}))
        .expect("a daemon set");
        let revision = build(&ds, 4);
        let data = &revision.data.as_ref().expect("data").0;
        assert_eq!(data["spec"]["template"]["$patch"], "replace");
        assert_eq!(data["spec"]["template"]["spec"]["containers"][0]["name"], "c");
        let hash = &meta::labels(&revision.metadata)[HASH];
        assert_eq!(revision.metadata.name, Some(format!("d-{hash}")));
        assert_eq!(revision.revision, 4);
        assert!(is_of(&revision, &super::data(&ds)));
    }
}
