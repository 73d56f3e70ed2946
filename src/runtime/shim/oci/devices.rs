//! Which devices a container may use.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxResources,
};

use super::{Inputs, invalid};
use crate::runtime::error::Error;

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
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![rule]));
    Ok(Some(resources))
}

/// All devices of the host, for privileged containers.
pub fn all() -> Vec<LinuxDevice> {
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
        let typ = match kind {
            k if k.is_char_device() => LinuxDeviceType::C,
            k if k.is_block_device() => LinuxDeviceType::B,
            _ => continue,
        };
        let Ok(meta) = entry.metadata() else { continue };
        if name == "console" || name == "ptmx" {
            continue;
        }
        let device = LinuxDeviceBuilder::default()
            .path(path)
            .typ(typ)
            .major(major(meta.rdev()) as i64)
            .minor(minor(meta.rdev()) as i64)
            .file_mode(meta.mode() & 0o7777)
            .uid(meta.uid())
            .gid(meta.gid())
            .build();
        found.extend(device);
    }
}
