//! The mounts of a container: the kernel's file systems, the sandbox's, and those asked for.

use std::io;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount as OciMount, MountBuilder};

use super::{Inputs, invalid};
use crate::runtime::cgroup::Cgroups;
use crate::runtime::error::Error;
use crate::runtime::rootfs::ImageConfig;
use crate::runtime::shim::in_root::InRoot;
use crate::runtime::shim::late::is_late;
use crate::runtime::spec::{ContainerSpec, Mount, MountKind, Propagation};

fn mount(typ: &str, source: &Path, target: &str, options: &[&str]) -> Result<OciMount, Error> {
    MountBuilder::default()
        .destination(target)
        .typ(typ)
        .source(source)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
        .map_err(invalid)
}

/// All mounts, in order. Mounts asked for replace defaults at the same place.
pub fn mounts(inputs: &Inputs) -> Result<Vec<OciMount>, Error> {
    let mut all = defaults(inputs)?;
    // Parents before children, else in the order given.
    let asked = inputs.spec.mounts.iter().filter(|m| !is_late(inputs.spec, &m.target));
    let mut asked: Vec<&Mount> = asked.collect();
    // Nor is anything put below what replaces a default, such as the host's `/sys/fs/cgroup`.
    all.retain(|m| !asked.iter().any(|asked| m.destination().starts_with(&asked.target)));
    asked.sort_by_key(|m| m.target.components().count());
    for m in asked {
        all.push(asked_for(m)?);
    }
    Ok(all)
}

/// The mounts asked for, and the image's volumes as far as these leave them alone. Their content is the
/// image's: a mount of its own is all they need to be written to when the root file system cannot be.
pub fn image_volumes(spec: &ContainerSpec, image: &ImageConfig, root: &InRoot) -> io::Result<Vec<Mount>> {
    let mut mounts = spec.mounts.clone();
    for volume in image.volumes.iter().filter(|_| spec.readonly_rootfs) {
        let names = Path::new(volume).components().filter(|c| matches!(c, Component::Normal(_)));
        let target = Path::new("/").join(names.collect::<PathBuf>());
        if target == Path::new("/") || spec.mounts.iter().any(|m| target.starts_with(&m.target)) {
            continue;
        }
        root.make_dirs(&target)?;
        mounts.push(Mount { source: root.place(&target)?, target, ..Mount::default() });
    }
    Ok(mounts)
}

fn defaults(inputs: &Inputs) -> Result<Vec<OciMount>, Error> {
    let named = |name: &'static str| Path::new(name);
    let sys: &[&str] = if inputs.spec.privileged {
        &["nosuid", "noexec", "nodev", "rw"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let mut all = vec![
        mount("proc", named("proc"), "/proc", &["nosuid", "noexec", "nodev"])?,
        mount("tmpfs", named("tmpfs"), "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "devpts",
            named("devpts"),
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("mqueue", named("mqueue"), "/dev/mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("sysfs", named("sysfs"), "/sys", sys)?,
        mount("bind", inputs.shm, "/dev/shm", &["rbind", "rw", "nosuid", "noexec", "nodev"])?,
    ];
    all.extend(cgroups(inputs)?);
    Ok(all)
}

/// `/sys/fs/cgroup`, so that programs can read their limits. With version 1 the container's own
/// groups are bound read-only: mounting the hierarchies themselves would leave them writable.
fn cgroups(inputs: &Inputs) -> Result<Vec<OciMount>, Error> {
    let mode = if inputs.spec.privileged { "rw" } else { "ro" };
    let target = "/sys/fs/cgroup";
    let Cgroups::V1(mounts) = inputs.cgroups else {
        let options = ["nosuid", "noexec", "nodev", "relatime", mode];
        return Ok(vec![mount("cgroup", Path::new("cgroup"), target, &options)?]);
    };
    let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"];
    let mut all = vec![mount("tmpfs", Path::new("tmpfs"), target, &options)?];
    for controller in ["cpu", "cpuacct", "memory", "pids"] {
        let Some(point) = mounts.get(controller) else {
            continue;
        };
        let source = if inputs.spec.privileged { point.clone() } else { point.join(inputs.cgroup) };
        if source.is_dir() {
            let options = ["bind", "nosuid", "noexec", "nodev", mode];
            all.push(mount("bind", &source, &format!("{target}/{controller}"), &options)?);
        }
    }
    Ok(all)
}

fn asked_for(m: &Mount) -> Result<OciMount, Error> {
    let target = m.target.to_str().filter(|t| t.starts_with('/'));
    let target = target.ok_or_else(|| {
        Error::Invalid(format!("mount target {} must be an absolute path", m.target.display()))
    })?;
    let mode = if m.readonly { "ro" } else { "rw" };
    match &m.kind {
        MountKind::Tmpfs(size) => {
            let mut options = vec!["nosuid".to_string(), "nodev".to_string(), mode.to_string()];
            options.push("mode=1777".to_string());
            options.extend(size.map(|bytes| format!("size={bytes}")));
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            mount("tmpfs", Path::new("tmpfs"), target, &options)
        }
        MountKind::Bind => {
            let source: &PathBuf = &m.source;
            if !source.exists() {
                return Err(Error::Invalid(format!("mount source {} does not exist", source.display())));
            }
            let propagation = match m.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            };
            let options = ["rbind", mode, propagation, "rro"];
            mount("bind", source, target, if m.recursive_readonly { &options } else { &options[..3] })
        }
    }
}
