//! A container's mounts: its volumes, and the files kubelet manages.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::VolumeMount;

use super::{ConfigError, Request, termination_path};
use crate::agent::expand::{expand, missing};
use crate::agent::volumes;
use crate::runtime::spec::{Mount, MountKind, Propagation};

/// The mounts in order: managed files first, so that volumes may cover them.
pub(super) async fn mounts(
    request: &Request<'_>,
    lookup: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Vec<Mount>, ConfigError> {
    let paths = &request.context.paths;
    let targets: Vec<&str> =
        request.container.volume_mounts.iter().flatten().map(|m| m.mount_path.as_str()).collect();
    let mut all = Vec::new();
    for (source, target) in [
        (paths.hosts(request.uid()), "/etc/hosts"),
        (paths.resolv_conf(request.uid()), "/etc/resolv.conf"),
        (paths.pod(request.uid()).join("hostname"), "/etc/hostname"),
    ] {
        if !targets.contains(&target) && source.exists() {
            all.push(bind(&source, target, false));
        }
    }
    let mut volumes: Vec<(usize, &VolumeMount)> =
        request.container.volume_mounts.iter().flatten().enumerate().collect();
    // Parents before what is mounted inside them.
    volumes.sort_by_key(|(_, m)| m.mount_path.trim_end_matches('/').matches('/').count());
    for (index, mount) in volumes {
        all.push(volume(request, index, mount, lookup)?);
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
        propagation: Propagation::Private,
    }
}

fn volume(
    request: &Request<'_>,
    index: usize,
    mount: &VolumeMount,
    lookup: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Mount, ConfigError> {
    let volume = request.volumes.get(&mount.name).ok_or_else(|| {
        ConfigError(format!(
            "cannot find volume \"{}\" to mount into container \"{}\"",
            mount.name, request.container.name
        ))
    })?;
    let sub_path = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(expression) => {
            let unknown = missing(expression, &|n| lookup(n));
            if !unknown.is_empty() {
                let text = format!("missing value for \"{}\"", unknown.join("\", \""));
                return Err(ConfigError(text));
            }
            Some(expand(expression, &|n| lookup(n)))
        }
        None => mount.sub_path.clone().filter(|s| !s.is_empty()),
    };
    let source = match sub_path {
        Some(sub_path) => {
            let place = request.context.paths.subpaths(request.uid()).join(&mount.name);
            let place = place.join(&request.container.name).join(index.to_string());
            volumes::subpath::prepare(&volume.path, &sub_path, &place).map_err(|e| {
                ConfigError(format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {e}",
                    mount.name, request.container.name
                ))
            })?
        }
        None => volume.path.clone(),
    };
    let target = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    let readonly = mount.read_only.unwrap_or(false) || volume.readonly;
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::Private,
    };
    Ok(Mount { propagation, ..bind(&source, &target, readonly) })
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
