//! One step of a rollout: create, scale and remove replica sets.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::revision::{self, DESIRED_REPLICAS, REVISION};
use super::{Deployments, progress, scaling};
use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::{Error, Next, ignore_not_found, patch};

/// The replica sets of a deployment, told apart.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    fn active(&self) -> Vec<Arc<ReplicaSet>> {
        self.all().into_iter().filter(|rs| scaling::spec_replicas(rs) > 0).collect()
    }
}

/// Takes the next step for a deployment.
pub async fn step(this: &Deployments, d: &Arc<Deployment>, sets: &[Arc<ReplicaSet>]) -> Result<Next, Error> {
    let paused = d.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    if paused || is_scaling(d, sets) {
        return resize(this, d, sets, paused).await;
    }
    if scaling::is_recreate(d) { recreate(this, d, sets).await } else { rolling(this, d, sets).await }
}

/// The deployment was asked for another size since its replica sets were last scaled.
fn is_scaling(d: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    let active = sets.iter().filter(|rs| scaling::spec_replicas(rs) > 0);
    let mut noted =
        active.filter_map(|rs| meta::annotation(&rs.metadata, DESIRED_REPLICAS)?.parse::<i32>().ok());
    noted.any(|n| n != scaling::wanted(d))
}

async fn rolling(this: &Deployments, d: &Arc<Deployment>, sets: &[Arc<ReplicaSet>]) -> Result<Next, Error> {
    let sets = find(this, d, sets, true).await?;
    let scaled = match &sets.new {
        Some(new) => {
            let current = scaling::spec_replicas(new);
            let wanted = scaling::wanted(d);
            let size = if current > wanted { wanted } else { scaling::new_replicas(d, &sets.all(), current) };
            scale(this, d, new, size).await?
        }
        None => false,
    };
    if scaled {
        return finish(this, d, &sets).await;
    }
    for (i, size) in scaling::shrink_old(d, sets.new.as_deref(), &sets.old) {
        scale(this, d, &sets.old[i], size).await?;
    }
    clean_up(this, d, &sets).await?;
    finish(this, d, &sets).await
}

async fn recreate(this: &Deployments, d: &Arc<Deployment>, all: &[Arc<ReplicaSet>]) -> Result<Next, Error> {
    let sets = find(this, d, all, false).await?;
    let mut scaled = false;
    for rs in &sets.old {
        scaled |= scale(this, d, rs, 0).await?;
    }
    if scaled || this.pods_left(&sets.old) {
        return finish(this, d, &sets).await;
    }
    let sets = find(this, d, all, true).await?;
    if let Some(new) = &sets.new {
        scale(this, d, new, scaling::wanted(d)).await?;
    }
    clean_up(this, d, &sets).await?;
    finish(this, d, &sets).await
}

/// Scales without rolling out: the deployment is paused or was asked for another size.
async fn resize(
    this: &Deployments,
    d: &Arc<Deployment>,
    all: &[Arc<ReplicaSet>],
    paused: bool,
) -> Result<Next, Error> {
    let sets = find(this, d, all, false).await?;
    let active = sets.active();
    let latest = || sets.new.clone().or_else(|| sets.old.last().cloned());
    let only = match active.as_slice() {
        [] => latest(),
        [one] => Some(Arc::clone(one)),
        _ => None,
    };
    if let Some(rs) = only {
        scale(this, d, &rs, scaling::wanted(d)).await?;
    } else if sets.new.as_deref().is_some_and(|new| is_saturated(d, new)) {
        for rs in sets.old.iter().filter(|rs| scaling::spec_replicas(rs) > 0) {
            scale(this, d, rs, 0).await?;
        }
    } else if !scaling::is_recreate(d) {
        for (rs, size) in scaling::proportional(d, &active) {
            scale(this, d, &rs, size).await?;
        }
    }
    if paused {
        clean_up(this, d, &sets).await?;
    }
    let status = progress::calculate(d, &sets.all(), sets.new.as_deref());
    this.write_status(d, status).await.map(|()| Next::Done)
}

/// The new replica set has all pods it shall have.
fn is_saturated(d: &Deployment, rs: &ReplicaSet) -> bool {
    let wanted = scaling::wanted(d);
    let noted = meta::annotation(&rs.metadata, DESIRED_REPLICAS).and_then(|n| n.parse::<i32>().ok());
    scaling::spec_replicas(rs) == wanted && noted == Some(wanted) && scaling::available(rs) == wanted
}

async fn finish(this: &Deployments, d: &Arc<Deployment>, sets: &Sets) -> Result<Next, Error> {
    let status = progress::rollout(d, &sets.all(), sets.new.as_deref());
    let again = progress::recheck(d, &status);
    this.write_status(d, status).await?;
    Ok(again.map_or(Next::Done, Next::After))
}

/// Tells new and old replica sets apart; updates the new one's annotations, or creates it.
async fn find(
    this: &Deployments,
    d: &Arc<Deployment>,
    all: &[Arc<ReplicaSet>],
    create: bool,
) -> Result<Sets, Error> {
    let found = revision::find_new(d, all);
    let old = revision::others(all, found.as_ref());
    let next = revision::next_revision(&old);
    let new = match found {
        Some(rs) => {
            let mut wanted = ReplicaSet::clone(&rs);
            revision::annotate(d, &mut wanted, next, true);
            if let (Some(spec), Some(from)) = (&mut wanted.spec, &d.spec) {
                spec.min_ready_seconds = from.min_ready_seconds;
            }
            let rs = match patch::write(&this.api(d), rs.as_ref(), &wanted, None).await? {
                Some(written) => Arc::new(written),
                None => rs,
            };
            let name = meta::name(&rs.metadata);
            note_revision(this, d, &rs, "FoundNewReplicaSet", format!("Found new replica set \"{name}\""))
                .await?;
            Some(rs)
        }
        None if create => Some(create_new(this, d, &old, next).await?),
        None => None,
    };
    Ok(Sets { new, old })
}

async fn create_new(
    this: &Deployments,
    d: &Arc<Deployment>,
    old: &[Arc<ReplicaSet>],
    next: i64,
) -> Result<Arc<ReplicaSet>, Error> {
    let mut rs = revision::build(d, next);
    let size = scaling::new_replicas(d, old, 0);
    if let Some(spec) = &mut rs.spec {
        spec.replicas = Some(size);
    }
    revision::annotate_size(d, &mut rs);
    let name = meta::name(&rs.metadata).to_owned();
    let api: Api<ReplicaSet> = this.api(d);
    let created =
        match api.create(&PostParams::default(), &rs).await.map_err(Error::api("creating a replica set")) {
            Ok(created) => created,
            Err(e) if e.reason() == "AlreadyExists" => return collide(this, d, &api, &name).await,
            Err(e) if e.is_namespace_terminating() => return Err(e),
            Err(e) => {
                let message = format!("Failed to create new replica set \"{name}\": {}", e.message());
                this.cx.recorder.warning(d.as_ref(), "ReplicaSetCreateError", message.clone());
                if progress::deadline(d).is_some() {
                    let mut status = d.status.clone().unwrap_or_default();
                    progress::set(&mut status, "Progressing", "False", "ReplicaSetCreateError", message);
                    this.write_status(d, status).await?;
                }
                return Err(e);
            }
        };
    if size > 0 {
        let message = format!("Scaled up replica set {name} from 0 to {size}");
        this.cx.recorder.normal(d.as_ref(), "ScalingReplicaSet", message);
    }
    let created = Arc::new(created);
    note_revision(this, d, &created, "NewReplicaSetCreated", format!("Created new replica set \"{name}\""))
        .await?;
    Ok(created)
}

/// The name is taken: by our own replica set that the cache does not show yet, or by another one, in
/// which case the next try uses another hash.
async fn collide(
    this: &Deployments,
    d: &Arc<Deployment>,
    api: &Api<ReplicaSet>,
    name: &str,
) -> Result<Arc<ReplicaSet>, Error> {
    let other = api.get(name).await.map_err(Error::api("reading a replica set"))?;
    let ours = meta::controller_of(&other.metadata).is_some_and(|o| o.uid == meta::uid(&d.metadata));
    let template = other.spec.as_ref().and_then(|s| s.template.as_ref());
    if ours && revision::same_template(template, revision::template(d)) {
        return Ok(Arc::new(other));
    }
    let mut status = d.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
    this.write_status(d, status).await?;
    Err(Error::Unfinished(format!("the name of replica set {name} is taken; trying another")))
}

/// Writes the number of the new replica set to the deployment, and the first Progressing condition.
async fn note_revision(
    this: &Deployments,
    d: &Arc<Deployment>,
    rs: &ReplicaSet,
    reason: &str,
    message: String,
) -> Result<(), Error> {
    let number = revision::revision(&rs.metadata).to_string();
    let news = reason == "NewReplicaSetCreated";
    let known = d.status.as_ref().and_then(|s| progress::condition(s, "Progressing")).is_some();
    let mut noted = Deployment::clone(d);
    noted.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), number.clone());
    // Along with the status: a change of the annotations themselves would be a new generation.
    let renumbered = patch::write(&this.api(d), d.as_ref(), &noted, Some("status")).await?;
    if progress::deadline(d).is_some() && (news || !known) {
        let base = renumbered.unwrap_or_else(|| Deployment::clone(d));
        let mut status = base.status.clone().unwrap_or_default();
        progress::set(&mut status, "Progressing", "True", reason, message);
        this.write_status(&base, status).await?;
        // What follows would work on an outdated copy; the change brings us back.
        return Err(Error::Unfinished("the deployment was written; continuing with its new version".into()));
    }
    match renumbered {
        Some(_) => {
            Err(Error::Unfinished("the deployment was written; continuing with its new version".into()))
        }
        None => Ok(()),
    }
}

/// Gives a replica set another size. Tells whether it had to.
async fn scale(this: &Deployments, d: &Deployment, rs: &Arc<ReplicaSet>, size: i32) -> Result<bool, Error> {
    let before = scaling::spec_replicas(rs);
    let mut wanted = ReplicaSet::clone(rs);
    let noted = revision::annotate_size(d, &mut wanted);
    if before == size && (!noted || size == 0) {
        return Ok(false);
    }
    if let Some(spec) = &mut wanted.spec {
        spec.replicas = Some(size);
    }
    patch::write(&this.api(d), rs.as_ref(), &wanted, None).await?;
    if before != size {
        let direction = if before < size { "up" } else { "down" };
        let name = meta::name(&rs.metadata);
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        this.cx.recorder.normal(d, "ScalingReplicaSet", message);
    }
    Ok(before != size)
}

/// Removes the oldest replica sets beyond the history limit once a rollout is complete.
async fn clean_up(this: &Deployments, d: &Deployment, sets: &Sets) -> Result<(), Error> {
    let limit = d.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
    let complete = d.status.as_ref().is_some_and(|s| progress::is_complete(d, s));
    if !complete || limit == i32::MAX {
        return Ok(());
    }
    let mut old: Vec<_> = sets.old.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none()).collect();
    old.sort_by_key(|rs| revision::revision(&rs.metadata));
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    for rs in old.into_iter().take(surplus) {
        let status = rs.status.clone().unwrap_or_default();
        let busy = status.replicas != 0
            || scaling::spec_replicas(rs) != 0
            || rs.metadata.generation > status.observed_generation;
        if busy {
            continue;
        }
        let api: Api<ReplicaSet> = this.api(d);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: rs.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::background()
        };
        let deleted = api.delete(meta::name(&rs.metadata), &params).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting an old replica set")))?;
    }
    Ok(())
}
