//! `kedge killall`: nothing of kedge runs any more, and no mount, interface or rule of it is left.
//! What lies on disk stays: the next start brings the same cluster back.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::files::remove;
use super::installation::{server_pid_file, supervise_pid_file};
use super::pidfile::PidFile;
use super::{Error, require_root, server};
use crate::config::Instance;

/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Stops everything of the installation in `data_dir`.
///
/// # Errors
/// A right is missing, or something could not be removed; what could be, is.
pub fn run(data_dir: &Path) -> Result<(), Error> {
    require_root("kedge killall")?;
    let instance = Instance::of(data_dir);
    stop_service(&instance);
    for file in [supervise_pid_file(&instance), server_pid_file(&instance)] {
        if let Some(pid) = PidFile::holder(&file) {
            stop_process(pid)?;
        }
    }
    server::cleanup(data_dir, &instance)?;
    remove(&instance.run_dir())?;
    println!("kedge: everything of {} is stopped; its files are kept", data_dir.display());
    Ok(())
}

/// Asks the machine's service manager, if it knows kedge.
fn stop_service(instance: &Instance) {
    let unit = format!("/etc/systemd/system/{}.service", instance.name);
    if Path::new(&unit).exists() && Path::new("/run/systemd/system").exists() {
        quietly("systemctl", &["stop", &instance.name]);
    }
    if Path::new("/etc/init.d").join(&instance.name).exists() && Path::new("/sbin/openrc").exists() {
        quietly("rc-service", &[&instance.name, "stop"]);
    }
}

fn quietly(program: &str, arguments: &[&str]) {
    let result = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    match result {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("kedge: {program} {}: {status}", arguments.join(" ")),
        Err(error) => eprintln!("kedge: {program}: {error}"),
    }
}

/// Ends a process with SIGTERM, or with SIGKILL if it takes too long.
fn stop_process(pid: Pid) -> Result<(), Error> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match kill(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(error) => return Err(format!("cannot stop process {pid}: {error}").into()),
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if has_ended(pid) {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Err(format!("process {pid} does not end").into())
}

/// Gone, or a zombie that only its parent can remove.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ignores_sigterm_would_be_waited_for_and_one_that_does_not_ends() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("fits"));
        assert!(!has_ended(pid));
        stop_process(pid).expect("ends");
        assert!(has_ended(pid), "a zombie counts as ended");
        child.wait().expect("reaped");
        stop_process(pid).expect("stopping what is gone is no error");
    }
}
