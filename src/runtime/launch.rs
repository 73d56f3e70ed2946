//! Starting shims from a copy of the executable that nothing can write to.
//!
//! A process inside a container may get hold of `/proc/<pid>/exe` of a process that enters it, and
//! write to the file behind it (CVE-2019-5736). So shims are executed through a read-only overlay
//! mount nobody else sees, which shares the page cache of the real file, or, where that is not to be
//! had, from a sealed copy in memory.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use nix::sys::stat::Mode;

use super::error::Error;
use super::paths::SandboxDir;
use super::{shim, sys};

/// An executable that cannot be changed. All shims started from one share their pages.
#[derive(Debug)]
pub(crate) struct SealedExe(OwnedFd);

impl SealedExe {
    /// Seals the executable at `path`; `scratch` is a directory in which an empty one may be made.
    pub fn new(path: &Path, scratch: &Path) -> Result<Self, Error> {
        match through_overlay(path, scratch) {
            Ok(fd) => Ok(Self(fd)),
            Err(e) => {
                tracing::info!("no sealed view of {}: {e}; shims run from a copy in memory", path.display());
                in_memory(path).map(Self).map_err(Error::io("seal a copy of", path))
            }
        }
    }

    /// Starts the shim of a sandbox whose record is written and waits until it is ready. Blocks.
    pub fn start_shim(&self, sandbox: &str, dir: &SandboxDir) -> Result<(), Error> {
        let failed = |message: String| Error::Shim { sandbox: sandbox.to_string(), message };
        let program = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let output = Command::new(program)
            .arg0("kedge")
            .arg("shim")
            .arg(&dir.0)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| failed(e.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim() {
            shim::READY => Ok(()),
            "" => Err(failed(format!("it ended early: {}", String::from_utf8_lossy(&output.stderr).trim()))),
            message => Err(failed(message.to_string())),
        }
    }
}

fn through_overlay(path: &Path, scratch: &Path) -> io::Result<OwnedFd> {
    let real = fs::canonicalize(path)?;
    let (Some(dir), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let empty = scratch.join("empty");
    fs::create_dir_all(&empty)?;
    let view = sys::sealed_view(dir, &empty)?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = sys::own(nix::fcntl::openat(Some(view.as_raw_fd()), name, flags, Mode::empty())?);
    // The path may name another file than the running one by now, after an upgrade.
    let (seen, wanted) = (File::from(fd.try_clone()?).metadata()?.len(), File::open(path)?.metadata()?.len());
    if seen != wanted {
        return Err(io::Error::other("the executable was replaced"));
    }
    Ok(fd)
}

fn in_memory(path: &Path) -> io::Result<OwnedFd> {
    let flags = MemFdCreateFlag::MFD_CLOEXEC | MemFdCreateFlag::MFD_ALLOW_SEALING;
    let copy = memfd_create(&CString::from(c"kedge-shim"), flags)?;
    let mut to = File::from(copy);
    io::copy(&mut File::open(path)?, &mut to)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(to.as_raw_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    // Executing a file that is open for writing is refused: open it anew.
    Ok(File::open(format!("/proc/self/fd/{}", to.as_fd().as_raw_fd()))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn script() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    fn refuses_writing(fd: &OwnedFd) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let opened = fs::OpenOptions::new().write(true).open(path);
        assert!(opened.and_then(|mut f| f.write_all(b"x")).is_err());
    }

    #[test]
    fn a_copy_in_memory_cannot_be_written() {
        let (_dir, path) = script();
        let fd = in_memory(&path).unwrap();
        refuses_writing(&fd);
        assert_eq!(io::read_to_string(File::from(fd)).unwrap(), "content");
    }

    #[test]
    fn a_view_cannot_be_written() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (_dir, path) = script();
        let scratch = tempfile::tempdir().unwrap();
        let fd = through_overlay(&path, scratch.path()).unwrap();
        refuses_writing(&fd);
        assert_eq!(io::read_to_string(File::from(fd)).unwrap(), "content");
    }
}
