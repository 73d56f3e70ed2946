//! Which devices a container may use.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxResources,
};

use super::{Inputs, invalid};
use crate::runtime::error::Error;
use crate::runtime::spec::ContainerSpec;

/// Rules of the `devices` controller: all of them for privileged containers, else none but the few
/// that libcontainer adds itself (null, zero, full, random, urandom, tty, ptmx, pts).
pub fn rules(inputs: &Inputs) -> Result<Option<LinuxResources>, Error> {
    // Without the controller there is nothing to write to, and libcontainer would fail.
    if !inputs.cgroups.is_v2() && inputs.cgroups.dir("devices", "").is_none() {
        return Ok(None);
    }
    let rule: LinuxDeviceCgroup = LinuxDeviceCgroupBuilder::default()
        .allow(inputs.spec.privileged)
        .typ(LinuxDeviceType::A)
        .access("rwm")
        .build()
        .map_err(invalid)?;
    let mut rules = vec![rule];
    for asked in asked_for(inputs.spec)? {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(asked.typ)
            .major(asked.major)
            .minor(asked.minor)
            .access(if asked.readonly { "r" } else { "rwm" });
        rules.push(rule.build().map_err(invalid)?);
    }
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    Ok(Some(resources))
}

/// A device of the host that a container asked for.
pub struct Asked {
    /// Block or character device.
    pub typ: LinuxDeviceType,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// It may not be written.
    pub readonly: bool,
    node: LinuxDevice,
}

/// The devices a container asked for.
///
/// # Errors
/// One of them is no device.
pub fn asked_for(spec: &ContainerSpec) -> Result<Vec<Asked>, Error> {
    let mut all = Vec::new();
    for device in &spec.devices {
        let meta = fs::metadata(&device.source).map_err(Error::io("read", &device.source))?;
        let typ = device_type(meta.file_type())
            .ok_or_else(|| Error::Invalid(format!("{} is not a device", device.source.display())))?;
        let node = node(&device.target, typ, &meta);
        all.push(Asked {
            typ,
            major: major(meta.rdev()) as i64,
            minor: minor(meta.rdev()) as i64,
            readonly: device.readonly,
            node: node.map_err(invalid)?,
        });
    }
    Ok(all)
}

/// The nodes that are made in a container beside those every container has.
pub fn nodes(inputs: &Inputs) -> Result<Option<Vec<LinuxDevice>>, Error> {
    let mut nodes = if inputs.spec.privileged { all() } else { Vec::new() };
    let asked = asked_for(inputs.spec)?;
    nodes.retain(|n| !asked.iter().any(|a| a.node.path() == n.path()));
    nodes.extend(asked.into_iter().map(|a| a.node));
    Ok((!nodes.is_empty()).then_some(nodes))
}

fn device_type(kind: fs::FileType) -> Option<LinuxDeviceType> {
    match kind {
        k if k.is_char_device() => Some(LinuxDeviceType::C),
        k if k.is_block_device() => Some(LinuxDeviceType::B),
        _ => None,
    }
}

fn node(path: &Path, typ: LinuxDeviceType, meta: &fs::Metadata) -> Result<LinuxDevice, OciSpecError> {
    LinuxDeviceBuilder::default()
        .path(path)
        .typ(typ)
        .major(major(meta.rdev()) as i64)
        .minor(minor(meta.rdev()) as i64)
        .file_mode(meta.mode() & 0o7777)
        .uid(meta.uid())
        .gid(meta.gid())
        .build()
}

/// All devices of the host, for privileged containers.
fn all() -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found);
    found
}

fn collect(dir: &Path, found: &mut Vec<LinuxDevice>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            // Containers have their own of these.
            if !["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"].iter().any(|n| name == *n) {
                collect(&path, found);
            }
            continue;
        }
        let Some(typ) = device_type(kind) else {
            continue;
        };
        let Ok(meta) = entry.metadata() else { continue };
        if name == "console" || name == "ptmx" {
            continue;
        }
        found.extend(node(&path, typ, &meta));
    }
}
