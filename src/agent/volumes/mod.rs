//! A pod's volumes on this node: made before its containers, kept up to date while they run, removed
//! with the pod.

mod atomic;
mod claim;
mod empty_dir;
mod host_path;
mod local;
mod mounting;
mod ownership;
mod payload;
mod removal;
pub(crate) mod stage;
mod subpath;
mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use serde::Serialize;
use tokio::sync::Notify;

use super::context::Context;
use super::error::Error;
use super::objects::{Reference, Watched, references};
use super::spec::{self, uid};
use empty_dir::Medium;
use ownership::Group;

pub(crate) use local::is_local;
pub(crate) use mounting::allows;

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

/// A volume that cannot be had now; the text is the event's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetUpError {
    /// A step of making it failed.
    #[error("{step} failed for volume \"{volume}\" : {problem}")]
    Step {
        /// Upstream's name of the step.
        step: &'static str,
        /// Name of the volume, or of the PersistentVolume.
        volume: String,
        /// What is wrong.
        problem: String,
    },
    /// Its claim cannot be used.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], \
         failed to process volumes=[{volume}]: {problem}"
    )]
    Claim {
        /// The volume's name.
        volume: String,
        /// What is wrong.
        problem: String,
    },
}

impl SetUpError {
    /// The event's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Step { step, .. } if step.starts_with("MapVolume") => "FailedMapVolume",
            _ => "FailedMount",
        }
    }
}

/// Why one volume cannot be had, before its name is added.
enum Failed {
    SetUp(String),
    Claim(String),
    Step { step: &'static str, volume: String, problem: String },
}

impl From<String> for Failed {
    fn from(problem: String) -> Self {
        Self::SetUp(problem)
    }
}

impl Failed {
    fn of(self, volume: &str) -> SetUpError {
        let volume = volume.to_owned();
        match self {
            Self::SetUp(problem) => SetUpError::Step { step: "MountVolume.SetUp", volume, problem },
            Self::Claim(problem) => SetUpError::Claim { volume, problem },
            Self::Step { step, volume, problem } => SetUpError::Step { step, volume, problem },
        }
    }
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
    /// The files of volumes of files, as they were written last.
    written: BTreeMap<String, atomic::Fingerprint>,
}

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
            written: BTreeMap::new(),
        }
    }

    /// Makes all volumes, or brings them up to date. One that cannot be had does not hold up the others.
    pub(crate) async fn set_up(
        &mut self,
        pod: &Pod,
        addresses: &[IpAddr],
    ) -> Result<Mounted, Vec<SetUpError>> {
        self.watch_all(pod);
        let (mut mounted, mut errors) = (Mounted::new(), Vec::new());
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            match self.one(pod, volume, addresses).await {
                Ok(source) => {
                    mounted.insert(volume.name.clone(), source);
                }
                Err(failed) => errors.push(failed.of(&volume.name)),
            }
        }
        if errors.is_empty() { Ok(mounted) } else { Err(errors) }
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
        if let Some((plugin, in_memory, files)) = self.files(pod, volume, addresses).await? {
            let path = self.context.paths.volume(uid(pod), plugin, &volume.name);
            return self.write(pod, volume, path, in_memory, files).await;
        }
        let source = self.steady(pod, volume).await?;
        self.made.insert(volume.name.clone(), source.clone());
        Ok(source)
    }

    /// A volume that does not change while the pod is here.
    async fn steady(&self, pod: &Pod, volume: &Volume) -> Result<Source, Failed> {
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
            return claim::source(&self.context, pod, &wanted).await;
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{}", spec::name(pod), volume.name);
            let wanted =
                claim::Wanted { volume: &volume.name, claim: &claim, read_only: false, ephemeral: true };
            return claim::source(&self.context, pod, &wanted).await;
        }
        Err(unsupported(volume).into())
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

/// What a volume is that this node cannot have: the one field that names its source.
fn unsupported(volume: &impl Serialize) -> String {
    const ASIDE: [&str; 10] = [
        "name",
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut fields = value.as_object().into_iter().flatten();
    let Some((kind, source)) = fields.find(|(k, _)| !ASIDE.contains(&k.as_str())) else {
        return "the volume has no source".into();
    };
    if kind == "csi" {
        let driver = source["driver"].as_str().unwrap_or_default();
        return format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {driver} not found in the \
             list of registered CSI drivers"
        );
    }
    format!(
        "volumes of kind {kind} are not supported by this node: mount it on the node and name the directory in a \
         hostPath volume or in a local PersistentVolume"
    )
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

/// Makes the directory of all pods ready: volumes that containers share mounts through must lie on a
/// shared mount.
///
/// # Errors
/// The directory cannot be made. That mounts cannot be shared is only told.
pub(crate) fn prepare(pods: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(pods).map_err(Error::io("make", pods))?;
    if let Err(error) = mounting::share(pods) {
        tracing::warn!(%error, "mountPropagation: Bidirectional will not work with volumes of pods");
    }
    Ok(())
}

/// Unmounts and removes all that is left of a pod below a directory of its own.
///
/// # Errors
/// What could not be unmounted or removed; nothing is removed below a mount.
pub(crate) async fn tear_down(directory: &Path) -> Result<(), Error> {
    let directory = directory.to_path_buf();
    let work = move || {
        mounting::unmount_below(&directory)?;
        removal::remove(&directory)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::Other(format!("removing a pod's files was given up: {e}"))))
}

/// Unmounts the volumes of all pods of an installation, for `kedge killall`.
pub(crate) fn unmount_all(pods: &Path) -> Result<(), Error> {
    mounting::unmount_below(pods)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PersistentVolumeSpec;
    use serde_json::json;

    #[test]
    fn what_is_not_supported_is_named() {
        let of = |source: serde_json::Value| {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
            unsupported(&serde_json::from_value::<Volume>(volume).expect("a volume"))
        };
        for (source, start) in [
            (json!({"nfs": {"server": "s", "path": "/"}}), "volumes of kind nfs are not supported"),
            (json!({"image": {"reference": "r"}}), "volumes of kind image are not supported"),
            (
                json!({"csi": {"driver": "d.io"}}),
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name d.io not found",
            ),
            (json!({}), "the volume has no source"),
        ] {
            assert!(of(source.clone()).starts_with(start), "{source}: {}", of(source.clone()));
        }
        let volume: PersistentVolumeSpec = serde_json::from_value(json!({"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "volumeMode": "Filesystem",
            "iscsi": {"targetPortal": "t", "iqn": "i", "lun": 0}}))
        .expect("a volume");
        assert!(unsupported(&volume).starts_with("volumes of kind iscsi"), "{}", unsupported(&volume));
    }

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

    #[test]
    fn errors_are_upstreams_events() {
        let error = Failed::SetUp("configmap \"c\" not found".into()).of("v");
        assert_eq!(
            error.to_string(),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"c\" not found"
        );
        let error = Failed::Claim("error processing PVC ns/c: PVC is not bound".into()).of("v");
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            (
                "FailedMount",
                "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], \
                 failed to process volumes=[v]: error processing PVC ns/c: PVC is not bound"
            )
        );
    }
}
