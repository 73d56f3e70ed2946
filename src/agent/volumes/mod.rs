//! A pod's volumes on this node: made before its containers, kept up to date while they run, removed
//! with the pod.

mod atomic;
mod claim;
mod directory;
mod local;
mod mounting;
mod payload;
pub(crate) mod subpath;
mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use tokio::sync::Notify;

use super::context::Context;
use super::error::Error;
use super::objects::Watched;
use super::spec::uid;

pub(crate) use local::is_local;

/// Where a volume is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// File or directory.
    pub path: PathBuf,
    /// It cannot be written whatever the mount says.
    pub readonly: bool,
}

/// The pod's volumes by name.
pub(crate) type Mounted = BTreeMap<String, Source>;

/// A volume that cannot be had now; the text is the event's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {problem}")]
pub(crate) struct SetUpError {
    /// The volume's name.
    pub volume: String,
    /// What is wrong.
    pub problem: String,
}

/// Who owns the files of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    /// `fsGroup`.
    pub group: Option<u32>,
    /// The user all containers run as, if it is one.
    pub user: Option<u32>,
}

/// The volumes of one pod.
pub(crate) struct Volumes {
    context: Arc<Context>,
    wake: Arc<Notify>,
    tokens: token::Tokens,
    config_maps: BTreeMap<String, Arc<Watched<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Watched<Secret>>>,
    claims: BTreeMap<String, Source>,
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
            claims: BTreeMap::new(),
        }
    }

    /// Makes all volumes, or brings them up to date.
    pub(crate) async fn set_up(&mut self, pod: &Pod, addresses: &[IpAddr]) -> Result<Mounted, SetUpError> {
        let mut mounted = Mounted::new();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let source = self.one(pod, volume, addresses).await.map_err(|problem| {
                let volume = volume.name.clone();
                SetUpError { volume, problem }
            })?;
            mounted.insert(volume.name.clone(), source);
        }
        Ok(mounted)
    }

    /// When a token has to be renewed.
    pub(crate) fn refresh_at(&self) -> Option<Timestamp> {
        self.tokens.refresh_at()
    }

    async fn one(&mut self, pod: &Pod, volume: &Volume, addresses: &[IpAddr]) -> Result<Source, String> {
        let owner = owner(pod);
        if let Some(host) = &volume.host_path {
            directory::check_host_path(&host.path, host.type_.as_deref().unwrap_or_default())?;
            return Ok(Source { path: host.path.clone().into(), readonly: false });
        }
        if let Some(empty) = &volume.empty_dir {
            let path = self.context.paths.volume(uid(pod), "empty-dir", &volume.name);
            directory::empty_dir(&path, empty, owner).map_err(|e| e.to_string())?;
            return Ok(Source { path, readonly: false });
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let source = self.claim(pod, &claim.claim_name).await?;
            return Ok(Source { readonly: claim.read_only.unwrap_or(false), ..source });
        }
        if volume.ephemeral.is_some() {
            return self.claim(pod, &format!("{}-{}", super::spec::name(pod), volume.name)).await;
        }
        let Some((plugin, in_memory, files)) = self.files(pod, volume, addresses).await? else {
            return Err("this kind of volume is not supported on this node".into());
        };
        let path = self.context.paths.volume(uid(pod), plugin, &volume.name);
        let write = || {
            std::fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
            if in_memory {
                mounting::tmpfs(&path, None)?;
            }
            atomic::write(&path, &files, owner.group)
        };
        write().map_err(|e| e.to_string())?;
        Ok(Source { path, readonly: true })
    }

    /// A claim's volume does not move while a pod uses it: it is looked up once.
    async fn claim(&mut self, pod: &Pod, name: &str) -> Result<Source, String> {
        if let Some(source) = self.claims.get(name) {
            return Ok(source.clone());
        }
        let source = claim::source(&self.context.client, pod, name).await?;
        self.claims.insert(name.to_owned(), source.clone());
        Ok(source)
    }
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
    Owner { group: shared.fs_group.and_then(id), user: same.and_then(id) }
}

/// Unmounts and removes all that is left of a pod below its directory.
pub(crate) fn tear_down(pod_directory: &Path) -> Result<(), Error> {
    mounting::unmount_below(pod_directory)?;
    match std::fs::remove_dir_all(pod_directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", pod_directory)(e)),
        _ => Ok(()),
    }
}

/// Unmounts the volumes of all pods of an installation, for `kedge killall`.
pub(crate) fn unmount_all(pods: &Path) -> Result<(), Error> {
    mounting::unmount_below(pods)
}
