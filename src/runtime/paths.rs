//! Where things lie below the runtime's two directories.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::Error;

/// Paths of one sandbox, below `STATE/sandboxes/<id>`; they need not survive a reboot.
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir(pub PathBuf);

impl SandboxDir {
    /// What was asked for: a [`super::protocol::SandboxRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }
    /// The control socket of the shim.
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }
    /// Locked (`fcntl`) by the shim while it lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("shim.lock")
    }
    /// Warnings of the shim and of libcontainer.
    pub fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
    /// Exists once the sandbox was stopped on purpose.
    pub fn stopped(&self) -> PathBuf {
        self.0.join("stopped")
    }
    /// The pinned network namespace.
    pub fn netns(&self) -> PathBuf {
        self.0.join("ns/net")
    }
    /// The tmpfs that all containers see as `/dev/shm`.
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    /// libcontainer's own state.
    pub fn libcontainer(&self) -> PathBuf {
        self.0.join("libcontainer")
    }
    /// The directory of all containers.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    /// One container: OCI bundle, status.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }
    /// The [`super::spec::ContainerStatus`] of one container.
    pub fn status(&self, id: &str) -> PathBuf {
        self.container(id).join("status.json")
    }
    /// Where a container's root file system is mounted.
    pub fn rootfs(&self, id: &str) -> PathBuf {
        self.container(id).join("rootfs")
    }
}

/// `STATE/sandboxes`.
pub(crate) fn sandboxes(state: &Path) -> PathBuf {
    state.join("sandboxes")
}

/// `ROOT/containers`: writable layers.
pub(crate) fn layers(root: &Path) -> PathBuf {
    root.join("containers")
}

/// Refuses names that are no single harmless file name.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.chars().all(plain) {
        return Err(Error::Invalid(format!(
            "id {id:?} must be 1 to 200 characters of [A-Za-z0-9._-] and not begin with a dot"
        )));
    }
    Ok(())
}

/// Refuses cgroups outside the installation's own.
pub(crate) fn check_cgroup(group: &str) -> Result<(), Error> {
    let inside = |part: &str| !matches!(part, "." | "..");
    if group.split('/').all(inside) && !group.contains('\0') {
        return Ok(());
    }
    Err(Error::Invalid(format!("cgroup {group:?} must not contain \".\" or \"..\"")))
}

/// Makes a directory that only root may look into: files of images in it may be set-uid.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Writes a file whole or not at all: readers see the old or the new content.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Names of the entries of a directory; none if it does not exist.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Removes a directory tree; that it is not there is fine.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for good in ["a", "b2c7-1", "web_0.1"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(201)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cgroups_stay_inside() {
        for good in ["", "burstable/pod1", "/besteffort/pod.x/"] {
            check_cgroup(good).unwrap();
        }
        for bad in ["..", "a/../..", "./a"] {
            assert!(check_cgroup(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_directories_are_roots_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_private(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn writing_replaces_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomically(&path, b"a longer text").unwrap();
        write_atomically(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(names(dir.path()), ["f"]);
        remove_tree(&dir.path().join("missing")).unwrap();
    }
}
