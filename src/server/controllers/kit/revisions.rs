//! ControllerRevisions: the templates that an owner has had, for updates and for rolling back.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::informer::Informer;
use super::{Context, Error, ignore_not_found, meta, patch};

/// Label with which a revision tells its hash.
pub const HASH: &str = "controller-revision-hash";

/// An owner of revisions.
pub struct Owner<'a> {
    /// Its metadata.
    pub meta: &'a ObjectMeta,
    /// A reference to it.
    pub reference: OwnerReference,
    /// Its present template.
    pub template: &'a PodTemplateSpec,
    /// How often a name was taken.
    pub collisions: Option<i32>,
    /// How many unused revisions are kept.
    pub limit: i32,
}

/// What became of looking for the present revision.
pub enum Found {
    /// The present revision, and all others from the oldest.
    Present(Arc<ControllerRevision>, Vec<Arc<ControllerRevision>>),
    /// Its name is taken by another: the owner's collision count must be raised.
    Collision,
}

/// What a revision keeps: a patch that brings the template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash of a revision.
pub fn hash(revision: &ControllerRevision) -> &str {
    meta::labels(&revision.metadata).get(HASH).map(String::as_str).unwrap_or_default()
}

impl Owner<'_> {
    fn build(&self, number: i64) -> ControllerRevision {
        let data = data(self.template);
        let hash = meta::template_hash(&data, self.collisions);
        let mut labels = self.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(HASH.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", meta::name(self.meta))),
                namespace: self.meta.namespace.clone(),
                labels: Some(labels),
                annotations: self.meta.annotations.clone(),
                owner_references: Some(vec![self.reference.clone()]),
                ..Default::default()
            },
            data: Some(RawExtension(data)),
            revision: number,
        }
    }

    fn api(&self, cx: &Context) -> Api<ControllerRevision> {
        Api::namespaced(cx.client.clone(), meta::namespace(self.meta))
    }

    /// The revision of the present template; it is made, or made the newest, if it is not.
    pub async fn present(
        &self,
        cx: &Context,
        informer: &Informer<ControllerRevision>,
    ) -> Result<Found, Error> {
        let mut known = informer.controlled_by(meta::uid(self.meta));
        known.sort_by_key(|r| (r.revision, r.metadata.name.clone()));
        let highest = known.last().map_or(0, |r| r.revision);
        let wanted = data(self.template);
        let is_present = |r: &&Arc<ControllerRevision>| r.data.as_ref().is_some_and(|d| d.0 == wanted);
        let present = match known.iter().rev().find(is_present).cloned() {
            Some(revision) if revision.revision < highest => {
                let mut newest = ControllerRevision::clone(&revision);
                newest.revision = highest + 1;
                patch::write(&self.api(cx), revision.as_ref(), &newest, None)
                    .await?
                    .map_or(revision, Arc::new)
            }
            Some(revision) => revision,
            None => match self.create(cx, informer, highest + 1).await? {
                Some(created) => Arc::new(created),
                None => return Ok(Found::Collision),
            },
        };
        known.retain(|r| r.metadata.uid != present.metadata.uid);
        Ok(Found::Present(present, known))
    }

    async fn create(
        &self,
        cx: &Context,
        informer: &Informer<ControllerRevision>,
        number: i64,
    ) -> Result<Option<ControllerRevision>, Error> {
        let revision = self.build(number);
        let api = self.api(cx);
        match api.create(&PostParams::default(), &revision).await.map_err(Error::api("creating a revision")) {
            Ok(created) => {
                let owner = meta::uid(self.meta);
                let shows = |r: &Arc<ControllerRevision>| r.metadata.uid == created.metadata.uid;
                informer.caught_up(|all| all.controlled_by(owner).iter().any(shows)).await;
                Ok(Some(created))
            }
            Err(e) if e.reason() == "AlreadyExists" => {
                let name = meta::name(&revision.metadata);
                let other = api.get(name).await.map_err(Error::api("reading a revision"))?;
                let ours =
                    meta::controller_of(&other.metadata).is_some_and(|o| o.uid == meta::uid(self.meta));
                Ok((ours && other.data == revision.data).then_some(other))
            }
            Err(e) => Err(e),
        }
    }

    /// Removes the oldest of `others` beyond the history limit that are not `used`.
    pub async fn clean_up(
        &self,
        cx: &Context,
        others: &[Arc<ControllerRevision>],
        used: impl Fn(&ControllerRevision) -> bool,
    ) -> Result<(), Error> {
        let old: Vec<_> = others.iter().filter(|r| !used(r)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(self.limit).unwrap_or_default());
        for revision in old.into_iter().take(surplus) {
            let deleted = self.api(cx).delete(meta::name(&revision.metadata), &DeleteParams::default()).await;
            ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting an old revision")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_holds_a_patch_that_brings_the_template_back() {
        let template: PodTemplateSpec = serde_json::from_value(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}),
        )
        .expect("a template");
        let meta = ObjectMeta { name: Some("d".into()), ..Default::default() };
        let mut owner = Owner {
            meta: &meta,
            reference: OwnerReference::default(),
            template: &template,
            collisions: None,
            limit: 10,
        };
        let revision = owner.build(4);
        assert_eq!(revision.metadata.name, Some(format!("d-{}", hash(&revision))));
        assert_eq!(revision.revision, 4);
        assert_eq!(
            revision.data.as_ref().map(|d| &d.0["spec"]["template"]["$patch"]),
            Some(&json!("replace"))
        );
        assert_eq!(super::template(&revision).as_ref(), Some(&template));
        owner.collisions = Some(1);
        assert_ne!(owner.build(4).metadata.name, revision.metadata.name);
    }
}
