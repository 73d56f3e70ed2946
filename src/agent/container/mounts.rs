//! A container's mounts: its volumes, and the files kubelet manages.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;

use super::{ConfigError, Request, termination_path};
use crate::agent::expand::{expand, missing};
use crate::agent::volumes::stage::Stage;
use crate::agent::volumes::{Source, allows};
use crate::runtime::spec::{Device, Mount, MountKind, Propagation};

/// The mounts in order: managed files first, so that volumes may cover them.
pub(super) async fn mounts(
    request: &Request<'_>,
    lookup: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Vec<Mount>, ConfigError> {
    let paths = &request.context.paths;
    let targets: Vec<&str> =
        request.container.volume_mounts.iter().flatten().map(|m| m.mount_path.as_str()).collect();
    let mut all = Vec::new();
    // kubelet's own file can be written whatever the root file system is, containerd's cannot.
    let context = request.container.security_context.as_ref();
    let readonly = context.and_then(|s| s.read_only_root_filesystem).unwrap_or(false);
    for (source, target, readonly) in [
        (paths.hosts(request.uid()), "/etc/hosts", false),
        (paths.resolv_conf(request.uid()), "/etc/resolv.conf", readonly),
        (paths.pod(request.uid()).join("hostname"), "/etc/hostname", readonly),
    ] {
        if !targets.contains(&target) && source.exists() {
            all.push(bind(&source, target, readonly));
        }
    }
    let stage = Stage::new(paths, request.uid(), &request.container.name);
    // What a former attempt may have left when it was interrupted.
    stage.clear().await.map_err(|e| ConfigError(e.to_string()))?;
    let widest = propagations(request).max().unwrap_or_default();
    let mut volumes: Vec<(usize, &VolumeMount)> =
        request.container.volume_mounts.iter().flatten().enumerate().collect();
    // Parents before what is mounted inside them.
    volumes.sort_by_key(|(_, m)| m.mount_path.trim_end_matches('/').matches('/').count());
    for (index, mount) in volumes {
        all.push(Placed { request, stage: &stage, index, mount }.mount(lookup, widest)?);
    }
    if let Some(mount) = termination_log(request)? {
        all.push(mount);
    }
    Ok(all)
}

fn bind(source: &Path, target: &str, readonly: bool) -> Mount {
    Mount {
        source: source.to_path_buf(),
        target: target.into(),
        readonly,
        kind: MountKind::Bind,
        ..Mount::default()
    }
}

/// How mounts travel through a volume mount.
fn propagation(mount: &VolumeMount) -> Propagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::Private,
    }
}

fn propagations<'a>(request: &'a Request<'_>) -> impl Iterator<Item = Propagation> + 'a {
    request.container.volume_mounts.iter().flatten().map(propagation)
}

/// The block devices that the container uses as such (`volumeDevices`).
pub(super) fn devices(request: &Request<'_>) -> Result<Vec<Device>, ConfigError> {
    let wanted = request.container.volume_devices.iter().flatten();
    wanted
        .map(|device| {
            let volume = find(request, &device.name)?;
            Ok(Device {
                source: volume.path.clone(),
                target: device.device_path.clone().into(),
                readonly: volume.readonly,
            })
        })
        .collect()
}

fn find<'a>(request: &'a Request<'_>, name: &str) -> Result<&'a Source, ConfigError> {
    request.volumes.get(name).ok_or_else(|| {
        let container = &request.container.name;
        ConfigError(format!("cannot find volume \"{name}\" to mount into container \"{container}\""))
    })
}

/// A volume mount with its place in the list.
struct Placed<'a> {
    request: &'a Request<'a>,
    stage: &'a Stage,
    index: usize,
    mount: &'a VolumeMount,
}

impl Placed<'_> {
    /// What the runtime is to mount. `widest` is the widest propagation of the container's mounts, which the
    /// runtime applies to all that it takes from shared mounts: those that want less get a mount that gives less.
    fn mount(
        &self,
        lookup: &(dyn Fn(&str) -> Option<String> + Sync),
        widest: Propagation,
    ) -> Result<Mount, ConfigError> {
        let volume = find(self.request, &self.mount.name)?;
        let sub_path = self.sub_path(lookup)?;
        if !volume.path.exists() {
            // Only a hostPath without a type may be missing; it becomes a directory, as containerd makes it.
            let made = DirBuilder::new().recursive(true).mode(0o755).create(&volume.path);
            made.map_err(|e| ConfigError(format!("cannot make {}: {e}", volume.path.display())))?;
        }
        let mut source = match sub_path {
            Some(sub_path) => self.prepare(&volume.path, &sub_path)?,
            None => volume.path.clone(),
        };
        let propagation = propagation(self.mount);
        allows(&source, propagation)
            .map_err(|e| ConfigError(format!("failed to generate container spec: {e}")))?;
        if propagation < widest {
            let staged = self.stage.propagating(self.index, &source, propagation);
            source = staged.map_err(|e| ConfigError(e.to_string()))?;
        }
        let target = match self.mount.mount_path.as_str() {
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let readonly = self.mount.read_only.unwrap_or(false) || volume.readonly;
        // Every kernel that runs containers here can do it (mount_setattr, 5.12).
        let wanted = self.mount.recursive_read_only.as_deref();
        let recursive_readonly = readonly && matches!(wanted, Some("IfPossible" | "Enabled"));
        Ok(Mount { propagation, recursive_readonly, ..bind(&source, &target, readonly) })
    }

    fn sub_path(
        &self,
        lookup: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<Option<String>, ConfigError> {
        let Some(expression) = self.mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
            return Ok(self.mount.sub_path.clone().filter(|s| !s.is_empty()));
        };
        let unknown = missing(expression, &|n| lookup(n));
        match &unknown[..] {
            [] => Ok(Some(expand(expression, &|n| lookup(n))).filter(|s| !s.is_empty())),
            [one] => Err(ConfigError(format!("missing value for {one:?}"))),
            several => {
                let all: Vec<_> = several.iter().map(|n| format!("missing value for {n:?}")).collect();
                Err(ConfigError(format!("[{}]", all.join(", "))))
            }
        }
    }

    fn prepare(&self, volume: &Path, sub_path: &str) -> Result<PathBuf, ConfigError> {
        let staged = self.stage.sub_path(self.index, volume, sub_path);
        staged.map_err(|refused| ConfigError(refused.message(&self.mount.name, &self.request.container.name)))
    }
}

/// The file that the container may leave its last words in.
fn termination_log(request: &Request<'_>) -> Result<Option<Mount>, ConfigError> {
    let file = request.context.paths.termination_log(request.uid(), &request.container.name, request.attempt);
    let fail =
        |e: std::io::Error| ConfigError(format!("cannot make the termination log {}: {e}", file.display()));
    if let Some(parent) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(fail)?;
    }
    // Whatever user the container runs as must be able to write it.
    let made =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o666).open(&file).map_err(fail)?;
    rustix::fs::fchmod(&made, rustix::fs::Mode::from(0o666)).map_err(|e| fail(e.into()))?;
    Ok(Some(bind(&file, termination_path(request.container), false)))
}
