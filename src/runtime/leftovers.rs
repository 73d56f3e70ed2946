//! Removing what sandboxes and containers leave on the machine: mounts, cgroups, directories, and
//! the processes of a sandbox whose shim is gone. Everything here is found by path or name below the
//! installation's own directories and cgroup, works without a shim, and may be done again.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Cgroups;
use super::error::Error;
use super::paths::{self, SandboxDir};
use super::protocol::{SandboxRecord, now_ms};
use super::spec::{ContainerState, ContainerStatus};
use super::{RuntimeConfig, shim, sys};

/// How long a killed shim may take to be gone, in milliseconds.
const SHIM_DEATH: u16 = 5000;

/// Unmounts everything at or below a directory, the last mounted first.
pub(crate) fn unmount_below(dir: &Path) -> Result<(), Error> {
    let table = fs::read("/proc/self/mountinfo").map_err(Error::io("read", "/proc/self/mountinfo"))?;
    for point in mount_points(&table).into_iter().rev().filter(|p| p.starts_with(dir)) {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone with its parent, or by another hand.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(e) => return Err(Error::io("unmount", &point)(e.into())),
        }
    }
    Ok(())
}

/// The mount points of a `mountinfo` table, in its order.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let field = |line: &[u8]| Some(unescape(line.split(|b| *b == b' ').nth(4)?));
    table.split(|b| *b == b'\n').filter_map(field).collect()
}

/// Undoes the octal escapes of `mountinfo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Removes all of a container that has ended but its log.
pub(crate) fn remove_container(root: &Path, dir: &SandboxDir, cgroup: &str, id: &str) -> Result<(), Error> {
    let cgroups = Cgroups::detect();
    let group = format!("{cgroup}/{id}");
    cgroups.kill(&group).map_err(|e| Error::Other(e.to_string()))?;
    unmount_below(&dir.container(id))?;
    cgroups.remove(&group);
    remove_files(root, dir, id)
}

/// Removes the files of a container that has nothing mounted below them any more.
fn remove_files(root: &Path, dir: &SandboxDir, id: &str) -> Result<(), Error> {
    for tree in [paths::layers(root).join(id), dir.libcontainer().join(id), dir.container(id)] {
        paths::remove_tree(&tree).map_err(Error::io("remove", &tree))?;
    }
    Ok(())
}

/// Kills the shim and all processes of a sandbox, and gives up its mounts and namespaces. What is
/// known of its containers stays.
pub(crate) fn end_sandbox(dir: &SandboxDir, record: &SandboxRecord) -> Result<(), Error> {
    if let Some(pid) = shim::holder(dir) {
        kill_and_wait(pid);
    }
    if !dir.stopped().exists() {
        unfinished(dir).into_iter().for_each(kill_and_wait);
    }
    Cgroups::detect().kill(&record.cgroup()).map_err(|e| Error::Other(e.to_string()))?;
    unmount_below(&dir.0)?;
    mark_ended(dir);
    // From now on its end is no news.
    fs::write(dir.stopped(), "").map_err(Error::io("write", dir.stopped()))
}

/// Processes that a shim was making when it was killed: they are not in the sandbox's group yet, and
/// wait for ever to be told to go on. They have the shim's own command line.
fn unfinished(dir: &SandboxDir) -> Vec<i32> {
    let line = [b"kedge\0shim\0", dir.0.as_os_str().as_bytes(), b"\0"].concat();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l == line)).collect()
}

/// Removes all of a sandbox that was ended by [`end_sandbox`].
///
/// `keep` names groups that stay though the last sandbox below them goes.
pub(crate) fn remove_ended(
    root: &Path,
    dir: &SandboxDir,
    record: &SandboxRecord,
    keep: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let cgroup = record.cgroup();
    for id in paths::names(&dir.containers()) {
        remove_files(root, dir, &id)?;
    }
    let cgroups = Cgroups::detect();
    cgroups.remove(&cgroup);
    cgroups.remove_empty_parents(&cgroup, record.cgroup_root.trim_matches('/'), keep);
    paths::remove_tree(&dir.0).map_err(Error::io("remove", &dir.0))
}

/// Writes down that containers ended whose shim did not live to see it.
fn mark_ended(dir: &SandboxDir) {
    for id in paths::names(&dir.containers()) {
        let Some(mut status) = read_status(dir, &id) else {
            continue;
        };
        if status.state == ContainerState::Exited {
            continue;
        }
        status.state = ContainerState::Exited;
        status.pid = None;
        status.exit_code = Some(128 + Signal::SIGKILL as i32);
        status.signal = Some(Signal::SIGKILL as i32);
        status.finished_at = Some(now_ms());
        let bytes = serde_json::to_vec(&status).unwrap_or_default();
        if let Err(e) = paths::write_atomically(&dir.status(&id), &bytes) {
            tracing::warn!("write {}: {e}", dir.status(&id).display());
        }
    }
}

/// What is known of a container; `None` for one that was not wholly made.
pub(crate) fn read_status(dir: &SandboxDir, id: &str) -> Option<ContainerStatus> {
    serde_json::from_slice(&fs::read(dir.status(id)).ok()?).ok()
}

/// What was asked for; `None` for a sandbox that was not wholly made.
pub(crate) fn read_record(dir: &SandboxDir) -> Option<SandboxRecord> {
    serde_json::from_slice(&fs::read(dir.record()).ok()?).ok()
}

fn kill_and_wait(pid: i32) {
    let Ok(handle) = sys::pidfd_open(pid) else {
        return;
    };
    if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(SHIM_DEATH)) == Ok(0) {
            tracing::warn!("shim {pid} does not end");
        }
    }
}

/// Ends and removes everything of one installation.
pub(crate) fn remove_all(config: &RuntimeConfig) -> Result<(), Error> {
    let sandboxes = paths::sandboxes(&config.state);
    let all: Vec<_> = paths::names(&sandboxes).iter().map(|id| SandboxDir(sandboxes.join(id))).collect();
    for dir in &all {
        if let Some(pid) = shim::holder(dir) {
            kill_and_wait(pid);
        }
    }
    let (cgroups, top) = (Cgroups::detect(), config.cgroup_root.trim_matches('/'));
    if !top.is_empty() {
        cgroups.kill(top).map_err(|e| Error::Other(e.to_string()))?;
    }
    unmount_below(&config.state)?;
    unmount_below(&paths::layers(&config.root))?;
    cgroups.remove(top);
    for tree in [sandboxes, paths::layers(&config.root), config.state.join("empty")] {
        paths::remove_tree(&tree).map_err(Error::io("remove", &tree))?;
    }
    remove_file(&boot_file(&config.state))
}

/// After a reboot nothing of what the state directory tells of exists any more; it is removed.
pub(crate) fn forget_former_boot(config: &RuntimeConfig) -> Result<(), Error> {
    let file = boot_file(&config.state);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match fs::read_to_string(&file) {
        Ok(former) if former == boot => return Ok(()),
        Ok(_) => remove_all(config)?,
        // The first time, or somebody removed the file: no reason to end what may be running.
        Err(_) => {}
    }
    paths::write_atomically(&file, boot.as_bytes()).map_err(Error::io("write", &file))
}

/// Removes writable layers that belong to no container, after a reboot or a crash.
pub(crate) fn remove_orphan_layers(
    config: &RuntimeConfig,
    known: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let layers = paths::layers(&config.root);
    for id in paths::names(&layers).iter().filter(|id| !known(id)) {
        let tree = layers.join(id);
        paths::remove_tree(&tree).map_err(Error::io("remove", &tree))?;
    }
    Ok(())
}

fn boot_file(state: &Path) -> PathBuf {
    state.join("boot_id")
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = b"22 1 8:1 / /a\\040b rw - ext4 /dev/x rw\n23 22 0:5 / /c\\\\d rw - tmpfs t rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/a b"), PathBuf::from("/c\\\\d")]);
    }

    #[test]
    fn another_boot_forgets_sandboxes_and_their_layers() {
        let dir = tempfile::tempdir().unwrap();
        let config = RuntimeConfig {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            cgroup_root: "kedge-none".into(),
            shim_exe: PathBuf::new(),
        };
        let sandbox = paths::sandboxes(&config.state).join("s");
        fs::create_dir_all(&sandbox).unwrap();
        fs::create_dir_all(paths::layers(&config.root).join("c")).unwrap();
        fs::write(boot_file(&config.state), "another").unwrap();
        forget_former_boot(&config).unwrap();
        assert!(!sandbox.exists());
        fs::create_dir_all(&sandbox).unwrap();
        forget_former_boot(&config).unwrap();
        assert!(sandbox.exists(), "the same boot keeps them");
        remove_orphan_layers(&config, |id| id == "other").unwrap();
        assert!(paths::names(&paths::layers(&config.root)).is_empty());
    }
}
