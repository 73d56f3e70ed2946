//! Which process serves a data directory: a file that its process keeps locked.
//!
//! The lock tells the truth where a number in a file would not: it goes with the process, and the
//! kernel names its holder (`fcntl(2)`, F_GETLK).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::Pid;

use super::Error;

/// The lock, held until this is dropped. The file must not be opened a second time in this process:
/// closing any descriptor of it would release the lock.
#[derive(Debug)]
pub struct PidFile {
    _file: File,
}

impl PidFile {
    /// Takes the lock of `path`, making its directory.
    ///
    /// # Errors
    /// Another process holds it (`what` and its number are named), or the file cannot be made.
    pub fn take(path: &Path, what: &str) -> Result<Self, Error> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        }
        let mut file = open(path)?;
        if fcntl(file.as_raw_fd(), FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))).is_err() {
            let pid = locked_by(&file).map_or_else(|| "unknown".to_owned(), |p| p.to_string());
            return Err(format!(
                "{what} already runs as process {pid}; stop it first, or choose another --data-dir"
            )
            .into());
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }

    /// The process that holds the lock of `path`, if any.
    pub fn holder(path: &Path) -> Option<Pid> {
        locked_by(&OpenOptions::new().read(true).write(true).open(path).ok()?)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|e| format!("{}: {e}", path.display()).into())
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn locked_by(file: &File) -> Option<Pid> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file.as_raw_fd(), FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != libc::F_UNLCK as libc::c_short).then(|| Pid::from_raw(lock.l_pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn nobody_holds_a_file_that_is_absent_or_free() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("run/x.pid");
        assert_eq!(PidFile::holder(&path), None);
        drop(PidFile::take(&path, "a test").expect("takes"));
        assert_eq!(PidFile::holder(&path), None);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    /// A process never conflicts with its own lock, so another one holds it here.
    #[test]
    fn the_holder_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("x.pid");
        let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); \
                      print('locked', flush=True); sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("reads");
        assert_eq!(line, "locked\n");
        let pid = i32::try_from(child.id()).expect("fits");
        assert_eq!(PidFile::holder(&path), Some(Pid::from_raw(pid)));
        let error = PidFile::take(&path, "kedge server").expect_err("is held").to_string();
        assert!(error.contains(&format!("kedge server already runs as process {pid}")), "{error}");
        drop(child.stdin.take());
        child.wait().expect("ends");
        PidFile::take(&path, "kedge server").expect("is free again");
    }
}
