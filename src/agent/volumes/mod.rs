//! A pod's volumes on this node: made before its containers, kept up to date while they run, removed
//! with the pod.

mod atomic;
mod claim;
mod empty_dir;
mod error;
mod host_path;
mod local;
mod mounting;
mod ownership;
mod payload;
mod removal;
pub(crate) mod stage;
mod subpath;
mod tear_down;
mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use tokio::sync::Notify;

use super::claims::Hold;
use super::context::Context;
use super::error::Error;
use super::objects::{Reference, Watched, references};
use super::spec::{self, uid};
use empty_dir::Medium;
use error::{Failed, SetUpError, unsupported};
use ownership::Group;
use tear_down::{FIRST_RETRY, LAST_RETRY};

pub(crate) use local::is_local;
pub(crate) use mounting::allows;
pub(crate) use tear_down::{prepare, remove_orphans, tear_down, unmount_all};

/// Where a volume is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// File, directory or block device.
    pub path: PathBuf,
    /// It cannot be written whatever the mount says.
    pub readonly: bool,
    /// It is a block device that containers use as such.
    pub block: bool,
}

impl Source {
    fn mounted(path: impl Into<PathBuf>, readonly: bool) -> Self {
        Self { path: path.into(), readonly, block: false }
    }
}

/// The pod's volumes by name.
pub(crate) type Mounted = BTreeMap<String, Source>;

/// How far the volumes of a pod are.
#[derive(Debug, Default)]
pub(crate) struct SetUp {
    /// All of them, once containers can have them.
    pub mounted: Option<Mounted>,
    /// What is wrong with some. Files that cannot be brought up to date stay as they were.
    pub errors: Vec<SetUpError>,
    /// When to try again, if that may help.
    pub retry: Option<SignedDuration>,
}

/// Who owns the files of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owner {
    /// `fsGroup`.
    group: Option<u32>,
    /// `fsGroupChangePolicy` is `OnRootMismatch`.
    on_root_mismatch: bool,
    /// The user all containers run as, if it is one.
    user: Option<u32>,
}

impl Owner {
    /// How a volume that outlives the pod is given to its group.
    fn group_of_volume(self) -> Option<Group> {
        let on_root_mismatch = self.on_root_mismatch;
        self.group.map(|id| Group { id, on_root_mismatch, read_only: false })
    }
}

/// The volumes of one pod.
pub(crate) struct Volumes {
    context: Arc<Context>,
    wake: Arc<Notify>,
    tokens: token::Tokens,
    config_maps: BTreeMap<String, Arc<Watched<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Watched<Secret>>>,
    /// Volumes that stay as they were made.
    made: Mounted,
    /// Those of claims are in use while these are held.
    holds: Vec<Hold>,
    /// The files of volumes of files, as they were written last.
    written: BTreeMap<String, atomic::Fingerprint>,
    /// How often in a row not all volumes could be had.
    failures: u32,
}

/// A node may not watch claims: it looks whether one is bound.
const CLAIM_RETRY: SignedDuration = SignedDuration::from_secs(10);

impl Volumes {
    /// No volume yet; `wake` is notified when one of them should be brought up to date.
    pub(crate) fn new(context: Arc<Context>, wake: Arc<Notify>) -> Self {
        Self {
            context,
            wake,
            tokens: token::Tokens::default(),
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            made: Mounted::new(),
            holds: Vec::new(),
            written: BTreeMap::new(),
            failures: 0,
        }
    }

    /// Makes all volumes, or brings them up to date. One that cannot be had does not hold up the others.
    pub(crate) async fn set_up(&mut self, pod: &Pod, addresses: &[IpAddr]) -> SetUp {
        self.watch_all(pod);
        let (mut mounted, mut errors, mut missing) = (Mounted::new(), Vec::new(), false);
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let source = match self.one(pod, volume, addresses).await {
                Ok(source) => Some(source),
                Err(failed) => {
                    errors.push(failed.of(&volume.name));
                    self.former(pod, volume)
                }
            };
            missing |= source.is_none();
            mounted.extend(source.map(|s| (volume.name.clone(), s)));
        }
        let retry = self.retry_after(&errors);
        SetUp { mounted: (!missing).then_some(mounted), errors, retry }
    }

    /// The pause before the next try. What is watched brings itself to notice.
    fn retry_after(&mut self, errors: &[SetUpError]) -> Option<SignedDuration> {
        if errors.is_empty() {
            self.failures = 0;
            return None;
        }
        let pause = FIRST_RETRY * 2i32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let claims = errors.iter().any(|e| matches!(e, SetUpError::Claim { .. }));
        Some(pause.min(if claims { CLAIM_RETRY } else { LAST_RETRY }))
    }

    /// A volume of files as it was made before: what becomes of its ConfigMap does not take it from the pod.
    fn former(&self, pod: &Pod, volume: &Volume) -> Option<Source> {
        let (plugin, in_memory) = payload::plugin(volume)?;
        let path = self.context.paths.volume(uid(pod), plugin, &volume.name);
        let there = atomic::is_written(&path) && (!in_memory || mounting::is_mount_point(&path));
        there.then(|| Source::mounted(path, true))
    }

    /// When a token has to be renewed.
    pub(crate) fn refresh_at(&self) -> Option<Timestamp> {
        self.tokens.refresh_at()
    }

    /// Nothing of the pod will run again: nothing is watched or renewed for it any more.
    pub(crate) fn release(&mut self) {
        let (context, wake) = (Arc::clone(&self.context), Arc::clone(&self.wake));
        *self = Self::new(context, wake);
    }

    /// Watches the ConfigMaps and Secrets that the pod's volumes and environments name for as long as the pod
    /// is here: a container that starts again finds them at hand, one that waits is told of them.
    fn watch_all(&mut self, pod: &Pod) {
        let ns = spec::namespace(pod);
        for reference in references(pod) {
            match reference {
                Reference::ConfigMap(name) => drop(self.watch_config_map(ns, name)),
                Reference::Secret(name) => drop(self.watch_secret(ns, name)),
            };
        }
    }

    async fn one(&mut self, pod: &Pod, volume: &Volume, addresses: &[IpAddr]) -> Result<Source, Failed> {
        if let Some(source) = self.made.get(&volume.name) {
            return Ok(source.clone());
        }
        if let Some((plugin, in_memory)) = payload::plugin(volume) {
            let files = self.files(pod, volume, addresses).await?;
            let path = self.context.paths.volume(uid(pod), plugin, &volume.name);
            return self.write(pod, volume, path, in_memory, files).await;
        }
        let source = self.steady(pod, volume).await?;
        self.made.insert(volume.name.clone(), source.clone());
        Ok(source)
    }

    /// A volume that does not change while the pod is here.
    async fn steady(&mut self, pod: &Pod, volume: &Volume) -> Result<Source, Failed> {
        let (owner, spec) = (owner(pod), pod.spec.clone().unwrap_or_default());
        if let Some(host) = &volume.host_path {
            let (path, type_) = (PathBuf::from(&host.path), host.type_.clone().unwrap_or_default());
            let source = Source::mounted(&path, false);
            blocking(move || host_path::check(&path, &type_)).await?;
            return Ok(source);
        }
        if let Some(empty) = &volume.empty_dir {
            let path = self.context.paths.volume(uid(pod), "empty-dir", &volume.name);
            let medium = Medium::of(empty, &spec, self.memory())?;
            let source = Source::mounted(&path, false);
            blocking(move || empty_dir::set_up(&path, medium, owner.group).map_err(|e| e.to_string()))
                .await?;
            return Ok(source);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let wanted = claim::Wanted {
                volume: &volume.name,
                claim: &claim.claim_name,
                read_only: claim.read_only.unwrap_or(false),
                ephemeral: false,
            };
            return self.claim(pod, &wanted).await;
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{}", spec::name(pod), volume.name);
            let wanted =
                claim::Wanted { volume: &volume.name, claim: &claim, read_only: false, ephemeral: true };
            return self.claim(pod, &wanted).await;
        }
        Err(unsupported(volume).into())
    }

    /// The volume bound to a claim, the pod's until it needs its volumes no more.
    async fn claim(&mut self, pod: &Pod, wanted: &claim::Wanted<'_>) -> Result<Source, Failed> {
        let (source, hold) = claim::source(&self.context, pod, wanted, &self.wake).await?;
        self.holds.push(hold);
        Ok(source)
    }

    /// Bytes of memory that pods of this node may use.
    fn memory(&self) -> u64 {
        u64::try_from(self.context.allocatable.memory).unwrap_or(0)
    }

    async fn write(
        &mut self,
        pod: &Pod,
        volume: &Volume,
        path: PathBuf,
        in_memory: bool,
        files: atomic::Files,
    ) -> Result<Source, Failed> {
        let source = Source::mounted(&path, true);
        let fingerprint = atomic::fingerprint(&files);
        if self.written.get(&volume.name) == Some(&fingerprint) {
            return Ok(source);
        }
        let (group, size) = (owner(pod).group, self.memory());
        let write = move || -> Result<(), Error> {
            let medium = if in_memory { Medium::Memory(size) } else { Medium::Disk };
            empty_dir::set_up(&path, medium, group)?;
            atomic::write(&path, &files, group)
        };
        blocking(move || write().map_err(|e| e.to_string())).await?;
        self.written.insert(volume.name.clone(), fingerprint);
        Ok(source)
    }
}

/// Runs what may take long, such as a walk over a volume, beside the tasks of the agent.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(format!("it was given up: {e}")))
}

/// The pod's `fsGroup`, and the user all its containers run as.
fn owner(pod: &Pod) -> Owner {
    let Some(spec) = &pod.spec else { return Owner::default() };
    let shared = spec.security_context.clone().unwrap_or_default();
    let users: Vec<Option<i64>> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(shared.run_as_user))
        .collect();
    let same = users.first().copied().flatten().filter(|u| users.iter().all(|o| *o == Some(*u)));
    let id = |value: i64| u32::try_from(value).ok();
    Owner {
        group: shared.fs_group.and_then(id),
        on_root_mismatch: shared.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
        user: same.and_then(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_owner_of_files() {
        let owner_of =
            |spec: serde_json::Value| owner(&serde_json::from_value(json!({"spec": spec})).expect("a pod"));
        let container =
            |user: serde_json::Value| json!({"name": "c", "securityContext": {"runAsUser": user}});
        let both = |a: serde_json::Value, b: serde_json::Value| {
            owner_of(json!({"initContainers": [container(a)], "containers": [container(b)]})).user
        };
        assert_eq!(both(json!(7), json!(7)), Some(7));
        assert_eq!(both(json!(7), json!(8)), None);
        assert_eq!(both(json!(7), json!(null)), None, "one says nothing");
        let pod = json!({"securityContext": {"runAsUser": 5, "fsGroup": 6,
            "fsGroupChangePolicy": "OnRootMismatch"}, "containers": [{"name": "c"}]});
        assert_eq!(owner_of(pod), Owner { group: Some(6), on_root_mismatch: true, user: Some(5) });
    }
}
