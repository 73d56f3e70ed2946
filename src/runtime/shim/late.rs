//! A `/dev` that is asked for. libcontainer makes devices and links in `/dev` whatever is mounted there: in the
//! host's own, if a container is given that. So it gets its usual `/dev` to work on, and what was asked for is
//! mounted over it when it is done, by a `createContainer` hook: this executable once more.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use oci_spec::runtime::{Hook, HookBuilder, HooksBuilder, Spec};
use serde::{Deserialize, Serialize};

use super::in_root::InRoot;
use crate::runtime::error::Error;
use crate::runtime::spec::{ContainerSpec, Mount, MountKind, Propagation};
use crate::runtime::sys;

/// What the hook is called with, before its file.
pub const COMMAND: &str = "--mount";

#[derive(Serialize, Deserialize)]
struct Order {
    rootfs: PathBuf,
    mounts: Vec<Mount>,
}

/// Whether a mount has to wait until libcontainer has made its `/dev`.
pub fn is_late(spec: &ContainerSpec, target: &Path) -> bool {
    let over_dev = spec.mounts.iter().any(|m| m.target.components().eq(Path::new("/dev").components()));
    over_dev && target.starts_with("/dev")
}

/// Has the mounts that have to wait made by a hook.
///
/// # Errors
/// The order cannot be written.
pub fn arrange(oci: &mut Spec, spec: &ContainerSpec, rootfs: &Path, bundle: &Path) -> Result<(), Error> {
    let mut mounts: Vec<Mount> = spec.mounts.iter().filter(|m| is_late(spec, &m.target)).cloned().collect();
    if mounts.is_empty() {
        return Ok(());
    }
    mounts.sort_by_key(|m| m.target.components().count());
    let file = bundle.join("late-mounts.json");
    let order = Order { rootfs: rootfs.to_owned(), mounts };
    let json = serde_json::to_vec(&order).map_err(|e| Error::Other(e.to_string()))?;
    fs::write(&file, json).map_err(Error::io("write", &file))?;
    let args = ["kedge", "shim", COMMAND].map(str::to_owned).into_iter();
    let args: Vec<String> = args.chain([file.display().to_string()]).collect();
    let hook: Hook = HookBuilder::default().path("/proc/self/exe").args(args).build().map_err(invalid)?;
    let hooks = HooksBuilder::default().create_container(vec![hook]).build().map_err(invalid)?;
    oci.set_hooks(Some(hooks));
    Ok(())
}

fn invalid(error: oci_spec::OciSpecError) -> Error {
    Error::Other(error.to_string())
}

/// The hook: mounts what the file says, in the container's mount namespace while the host's files can be seen.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let file = PathBuf::from(args.next().unwrap_or_default());
    match read(&file).and_then(|order| order.carry_out()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The container's own log is the one place that a hook can write to.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: &Path) -> Result<Order, Error> {
    let json = fs::read(file).map_err(Error::io("read", file))?;
    serde_json::from_slice(&json).map_err(|e| Error::Other(e.to_string()))
}

impl Order {
    fn carry_out(&self) -> Result<(), Error> {
        let root = InRoot::open(&self.rootfs).map_err(Error::io("open", &self.rootfs))?;
        for wanted in &self.mounts {
            let failed = |e: std::io::Error| {
                let (source, target) = (wanted.source.display(), wanted.target.display());
                Error::Start(format!("error mounting \"{source}\" to rootfs at \"{target}\": {e}"))
            };
            make(&root, wanted).map_err(failed)?;
        }
        Ok(())
    }
}

fn make(root: &InRoot, wanted: &Mount) -> std::io::Result<()> {
    let place = place(root, wanted)?;
    let at = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let none = None::<&str>;
    if let MountKind::Tmpfs(size) = &wanted.kind {
        let options = size.map_or("mode=1777".to_owned(), |bytes| format!("mode=1777,size={bytes}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &at(&place), Some("tmpfs"), flags, Some(options.as_str()))?;
    } else {
        mount(Some(&wanted.source), &at(&place), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    }
    // What was opened before is below the mount; the same path leads to its root now.
    let mounted = root.open_at(&wanted.target, OFlag::O_PATH)?;
    let propagation = match wanted.propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::HostToContainer => MsFlags::MS_SLAVE,
        Propagation::Bidirectional => MsFlags::MS_SHARED,
    };
    mount(none, &at(&mounted), none, propagation | MsFlags::MS_REC, none)?;
    if wanted.readonly {
        sys::make_readonly(&mounted, wanted.recursive_readonly)?;
    }
    Ok(())
}

/// The file or directory that is mounted on, made if it is not there.
fn place(root: &InRoot, wanted: &Mount) -> std::io::Result<OwnedFd> {
    match root.open_at(&wanted.target, OFlag::O_PATH) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        found => return found,
    }
    let directory = matches!(wanted.kind, MountKind::Tmpfs(_)) || fs::metadata(&wanted.source)?.is_dir();
    if directory {
        root.make_dirs(&wanted.target)?;
    } else {
        root.make_dirs(wanted.target.parent().unwrap_or(&wanted.target))?;
        drop(root.open_at(&wanted.target, OFlag::O_CREAT | OFlag::O_WRONLY)?);
    }
    root.open_at(&wanted.target, OFlag::O_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_over_dev_waits() {
        let mount =
            |target: &str| Mount { source: "/tmp".into(), target: target.into(), ..Default::default() };
        let bundle = tempfile::tempdir().unwrap();
        let hooked = |targets: &[&str]| {
            let spec =
                ContainerSpec { mounts: targets.iter().map(|t| mount(t)).collect(), ..Default::default() };
            let mut oci = Spec::default();
            oci.set_hooks(None);
            arrange(&mut oci, &spec, Path::new("/r"), bundle.path()).unwrap();
            let hooks = oci.hooks().clone()?.create_container().clone()?;
            let order = read(Path::new(&hooks[0].args().as_ref()?[3])).unwrap();
            Some(order.mounts.iter().map(|m| m.target.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(hooked(&["/data", "/dev/shm", "/dev/termination-log"]), None);
        let late = hooked(&["/dev/termination-log", "/data", "/dev/"]);
        assert_eq!(late, Some(vec!["/dev/".to_owned(), "/dev/termination-log".to_owned()]));
    }
}
