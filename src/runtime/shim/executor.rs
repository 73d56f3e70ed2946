//! The last steps inside a container's new process, up to `execve(2)`.
//!
//! libcontainer's own executor refuses programs it cannot judge, loses errors after `start`, leaves
//! SIGPIPE ignored and drops the system call filter on exec; this one does none of that. What goes
//! wrong is written to a pipe that closes itself when the program is executed.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use oci_spec::runtime::Spec;

use super::oci::Caps;
use super::seccomp::Filters;
use crate::runtime::sys;

/// How a container's processes are executed.
#[derive(Clone)]
pub struct Exec {
    /// Where failure is told.
    errors: Rc<OwnedFd>,
    /// System call filters to install.
    filters: Rc<Filters>,
    /// The capabilities the program is to have, given up to after the filters are installed.
    caps: Caps,
}

/// The reading end of an [`Exec`]'s pipe.
pub struct Outcome(File);

/// An executor and where to learn whether it succeeded.
pub fn executor(filters: Rc<Filters>, caps: Caps) -> std::io::Result<(Exec, Outcome)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((Exec { errors: Rc::new(write), filters, caps }, Outcome(File::from(read))))
}

impl Outcome {
    /// Blocks until the program is executed or could not be. All copies of the executor in this
    /// process must be gone.
    pub fn wait(mut self) -> Result<(), String> {
        let mut text = String::new();
        match self.0.read_to_string(&mut text) {
            Ok(0) => Ok(()),
            Ok(_) => Err(text),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Exec {
    fn run(&self, args: &[String]) -> Result<(), String> {
        let name = args.first().ok_or("no command specified")?;
        // Both survive execve.
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(|e| e.to_string())?;
        sys::reset_all_signals();
        // A container must not outlive the shim that reaps it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| e.to_string())?;
        let program = find(name)?;
        let c_string = |s: &str| CString::new(s).map_err(|_| format!("{s:?} contains a NUL byte"));
        let argv = args.iter().map(|a| c_string(a)).collect::<Result<Vec<_>, _>>()?;
        let path = c_string(&program.to_string_lossy())?;
        self.filters.install(self.caps).map_err(|e| format!("seccomp: {e}"))?;
        let Err(errno) = nix::unistd::execv(&path, &argv);
        Err(match errno {
            // The file is there: its interpreter is not.
            Errno::ENOENT => format!("exec {}: no such file or directory", program.display()),
            errno => format!("exec {}: {}", program.display(), text(errno)),
        })
    }
}

impl Executor for Exec {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|p| p.args().clone()).unwrap_or_default();
        let Err(message) = self.run(&args) else {
            return Ok(());
        };
        if let Ok(pipe) = self.errors.try_clone() {
            // Nobody can be told if this fails as well.
            let _ = File::from(pipe).write_all(message.as_bytes());
        }
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        sys::replace_environment(envs);
        Ok(())
    }
}

/// Finds the program as a shell would, with the messages people know from other runtimes.
fn find(name: &str) -> Result<PathBuf, String> {
    let check = |path: &Path| -> Result<(), Errno> {
        let meta = path.metadata().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        if meta.is_dir() {
            return Err(Errno::EISDIR);
        }
        if meta.mode() & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        Ok(())
    };
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(errno @ (Errno::EACCES | Errno::EISDIR)) => Err(format!("exec: {name:?}: {}", text(errno))),
            Err(errno) => Err(format!("exec: {name:?}: stat {name}: {}", text(errno))),
        };
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut denied = false;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno) => denied |= errno == Errno::EACCES,
        }
    }
    let why = if denied { "permission denied" } else { "executable file not found in $PATH" };
    Err(format!("exec: {name:?}: {why}"))
}

/// The words of `strerror(3)` in lower case, as other runtimes print them.
fn text(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        std::fs::write(&file, "").unwrap();
        let name = file.to_str().unwrap();
        assert_eq!(find(name).unwrap_err(), format!("exec: {name:?}: permission denied"));
        let error = find("/not/there").unwrap_err();
        assert_eq!(error, "exec: \"/not/there\": stat /not/there: no such file or directory");
        let error = find("surely-no-such-program").unwrap_err();
        assert_eq!(error, "exec: \"surely-no-such-program\": executable file not found in $PATH");
        assert_eq!(find("/").unwrap_err(), "exec: \"/\": is a directory");
        assert!(find("sh").unwrap().is_absolute());
    }

    #[test]
    fn the_outcome_is_success_when_nothing_was_said() {
        let (exec, outcome) = executor(Rc::new(Filters::default()), Caps::default()).unwrap();
        drop(exec);
        outcome.wait().unwrap();
        let (exec, outcome) = executor(Rc::new(Filters::default()), Caps::default()).unwrap();
        let mut spec = Spec::default();
        let process =
            oci_spec::runtime::ProcessBuilder::default().args(Vec::<String>::new()).build().unwrap();
        spec.set_process(Some(process));
        assert!(exec.exec(&spec).is_err());
        drop(exec);
        assert_eq!(outcome.wait().unwrap_err(), "no command specified");
    }
}
