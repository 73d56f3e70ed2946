//! What pods have on disk. Directories are walked when somebody asks, and not again for a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use parking_lot::Mutex;

use super::node::Node;
use super::pods::Pod;
use crate::agent::context::Context;
use crate::agent::disk::{self, FsStats, PodDisk, Usage};
use crate::agent::spec::{is_terminal, namespace, uid};

/// How long what was counted is told again: kubelet counts volumes once a minute too.
const FRESH: Duration = Duration::from_secs(60);

/// Space in use and what is left of the file system it is on.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct Space {
    /// When it was measured.
    pub at: Timestamp,
    /// In use by what this is about.
    pub used: Usage,
    /// The file system.
    pub fs: FsStats,
}

/// A volume of a pod.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// The claim it is of: namespace and name.
    pub claim: Option<(String, String)>,
    /// What is in it.
    pub space: Space,
}

/// What was counted, and when.
#[derive(Clone)]
struct Counted {
    since: Instant,
    at: Timestamp,
    disk: Arc<PodDisk>,
}

/// Remembers what was counted, by pod.
#[derive(Default)]
pub(super) struct Disk(Mutex<HashMap<String, Counted>>);

impl Disk {
    async fn counted(&self, context: &Context, pod: &core::Pod) -> Counted {
        let key = uid(pod);
        if let Some(known) = self.0.lock().get(key).filter(|c| c.since.elapsed() < FRESH) {
            return known.clone();
        }
        let disk = Arc::new(disk::usage(context, pod).await);
        let counted = Counted { since: Instant::now(), at: Timestamp::now(), disk };
        let mut all = self.0.lock();
        all.retain(|_, c| c.since.elapsed() < FRESH);
        all.insert(key.to_owned(), counted.clone());
        counted
    }

    /// Fills in what a pod and its containers have on disk.
    pub(super) async fn of_pod(&self, context: &Context, pod: &mut Pod) {
        let Some(spec) = context.pods.find(&pod.namespace, &pod.name, Some(&pod.uid)) else { return };
        let counted = self.counted(context, &spec).await;
        let Some(fs) = node_filesystem(context) else { return };
        let space = |used: Usage| Space { at: counted.at, used, fs };
        for container in &mut pod.containers {
            if let Some(found) = counted.disk.containers.get(&container.name) {
                container.rootfs = Some(space(found.rootfs));
                container.logs = Some(space(found.logs));
            }
        }
        pod.volumes = volumes(context, &spec, &counted);
        let containers = counted.disk.containers.values().map(disk::ContainerDisk::total);
        // Volumes in memory, and claims, are not on the node's disk.
        let volumes = pod.volumes.iter().filter(|v| v.claim.is_none() && v.space.fs.device == fs.device);
        let all = containers.chain(volumes.map(|v| v.space.used)).chain([counted.disk.managed]);
        pod.ephemeral = Some(space(all.sum()));
    }

    /// Fills in the machine's file systems.
    pub(super) async fn of_node(&self, context: &Context, node: &mut Node) {
        let Some(fs) = node_filesystem(context) else { return };
        let at = Timestamp::now();
        node.fs = Some(Space { at, used: used(&fs), fs });
        let bytes = context.images.list().await.iter().map(|i| i.size).sum();
        node.images = Some(Space { at, used: Usage { bytes, inodes: fs.inodes_used() }, fs });
    }

    /// The volumes of claims that pods here use.
    pub(super) async fn claims(&self, context: &Context) -> Vec<Volume> {
        let mut all = Vec::new();
        let has_claims = |pod: &core::Pod| {
            let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
            let claims = |v: &core::Volume| v.persistent_volume_claim.is_some() || v.ephemeral.is_some();
            !is_terminal(pod) && volumes.into_iter().any(claims)
        };
        for pod in context.pods.all().iter().filter(|p| has_claims(p)) {
            let counted = self.counted(context, pod).await;
            all.extend(volumes(context, pod, &counted).into_iter().filter(|v| v.claim.is_some()));
        }
        all
    }
}

/// A file system's own use.
fn used(fs: &FsStats) -> Usage {
    Usage { bytes: fs.used, inodes: fs.inodes_used() }
}

fn node_filesystem(context: &Context) -> Option<FsStats> {
    disk::filesystem(&context.settings.data_dir).ok()
}

/// The volumes that were counted, and claims, which are a file system each.
fn volumes(context: &Context, pod: &core::Pod, counted: &Counted) -> Vec<Volume> {
    let mut all = Vec::new();
    let in_use = context.claims.of(uid(pod));
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let claim = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone());
        let claim = claim.or_else(|| {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
        });
        let measured = counted.disk.volumes.get(&volume.name);
        let path = match &claim {
            Some(_) => in_use.iter().find(|u| u.volume == volume.name).map(|u| u.path.clone()),
            None => disk::volume_directory(context, uid(pod), &volume.name),
        };
        // A block device is no file system, and has no figures.
        let Some(fs) = path.filter(|p| p.is_dir()).and_then(|path| disk::filesystem(&path).ok()) else {
            continue;
        };
        let used = if claim.is_some() { used(&fs) } else { measured.copied().unwrap_or_default() };
        let claim = claim.map(|name| (namespace(pod).to_owned(), name));
        all.push(Volume { name: volume.name.clone(), claim, space: Space { at: counted.at, used, fs } });
    }
    all
}
