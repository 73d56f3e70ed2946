//! Container logs on disk: kubelet's layout, the names log collectors look for, and their removal.
//!
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<attempt>.log` is written and rotated by the pod's shim;
//! `/var/log/containers/<pod>_<namespace>_<container>-<id>.log` is a symbolic link to it. Of each container the logs
//! of the present attempt and of the one before are kept; rotated ones are compressed here.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::runtime::spec::RuntimeEvent;
use crate::runtime::{Runtime, rotated};

/// Links by the names of pod and container.
const LINKS: &str = "/var/log/containers";
/// Directories of all pods.
const PODS: &str = "/var/log/pods";
/// The longest name of a file.
const NAME_MAX: usize = 255;

/// Where log collectors look for a container's log.
fn link_name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let end = format!("-{id}.log");
    let mut name = format!("{pod}_{namespace}_{container}");
    name.truncate(NAME_MAX.saturating_sub(end.len()));
    name + &end
}

/// Makes the link to a container's log.
pub(crate) fn link(pod: &str, namespace: &str, container: &str, id: &str, log: &Path) {
    let link = Path::new(LINKS).join(link_name(pod, namespace, container, id));
    let made = fs::create_dir_all(LINKS).and_then(|()| match symlink(log, &link) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    if let Err(error) = made {
        tracing::warn!(link = %link.display(), %error, "the link to a container's log could not be made");
    }
}

/// The attempt whose log a file is, rotated or not: `3` for `3.log` and `3.log.20260101-000000`.
fn attempt_of(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once(".log")?;
    if rest.is_empty() || rest.starts_with('.') { number.parse().ok() } else { None }
}

fn files(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let numbered = |entry: fs::DirEntry| Some((attempt_of(entry.file_name().to_str()?)?, entry.path()));
    entries.filter_map(numbered).collect()
}

/// Removes the logs of attempts before the one before `attempt`; `directory` is the container's.
pub(crate) fn prune(directory: &Path, attempt: u32) {
    let old = files(directory).into_iter().filter(|(number, _)| number.saturating_add(1) < attempt);
    let removed = old.filter(|(_, file)| warn(file, fs::remove_file(file))).count();
    if removed > 0 {
        unlink_below(directory, Path::new(LINKS));
    }
}

/// The newest attempt before `before` (or of all) whose log is still there.
pub(crate) fn newest(directory: &Path, before: Option<u32>) -> Option<PathBuf> {
    let numbers = files(directory).into_iter().map(|(number, _)| number);
    let newest = numbers.filter(|n| before.is_none_or(|b| *n < b)).max()?;
    Some(directory.join(format!("{newest}.log"))).filter(|path| path.exists())
}

/// Compresses logs as they are rotated, one at a time, until cancelled.
pub(crate) async fn compress_rotated(runtime: Runtime, token: CancellationToken) {
    let mut events = runtime.events();
    loop {
        let event = tokio::select! {
            () = token.cancelled() => return,
            event = events.recv() => event,
        };
        let log = match event {
            Ok(RuntimeEvent::LogRotated { log }) => log,
            // One that was missed is compressed after the next rotation.
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let compressing = tokio::task::spawn_blocking(move || {
            if let Err(error) = rotated::compress(&log) {
                tracing::warn!(log = %log.display(), %error, "a rotated log was not compressed");
            }
        });
        let _ = compressing.await;
    }
}

/// Removes a pod's logs.
///
/// # Errors
/// The directory cannot be removed.
pub(crate) fn remove_pod(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    unlink_below(directory, Path::new(LINKS));
    Ok(())
}

/// Removes the logs of the pods with these uids, of whatever name they were.
pub(crate) fn remove_pods(uids: &[String]) {
    for entry in fs::read_dir(PODS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if uids.iter().any(|uid| name.rsplit_once('_').is_some_and(|(_, own)| own == uid)) {
            warn(&entry.path(), remove_pod(&entry.path()));
        }
    }
}

/// Removes the links in `links` that lead to files below `directory` that are not there any more.
fn unlink_below(directory: &Path, links: &Path) {
    for entry in fs::read_dir(links).into_iter().flatten().flatten() {
        let link = entry.path();
        let target = fs::read_link(&link);
        if target.is_ok_and(|target| target.starts_with(directory) && !target.exists()) {
            warn(&link, fs::remove_file(&link));
        }
    }
}

/// Whether it went well.
fn warn(path: &Path, result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "an old log could not be removed");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_as_kubelets() {
        assert_eq!(link_name("p", "n", "c", "abc"), "p_n_c-abc.log");
        let long = link_name(&"p".repeat(253), "n", "c", "abc");
        assert_eq!((long.len(), long.ends_with("p-abc.log")), (NAME_MAX, true));
    }

    #[test]
    fn the_present_attempt_and_the_one_before_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["1.log", "1.log.20260101-000000.000000001", "2.log", "3.log", "x.log", "1.logs", "note"]
        {
            fs::write(dir.path().join(name), name).expect("written");
        }
        prune(dir.path(), 3);
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .expect("read")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["1.logs", "2.log", "3.log", "note", "x.log"]);
        assert_eq!(newest(dir.path(), None), Some(dir.path().join("3.log")));
        assert_eq!(newest(dir.path(), Some(3)), Some(dir.path().join("2.log")));
        assert_eq!(newest(dir.path(), Some(2)), None);
    }

    #[test]
    fn links_go_with_their_files() {
        let (logs, links) = (tempfile::tempdir().expect("logs"), tempfile::tempdir().expect("links"));
        for name in ["0.log", "1.log"] {
            fs::write(logs.path().join(name), name).expect("written");
            symlink(logs.path().join(name), links.path().join(name)).expect("linked");
        }
        symlink("/none/such", links.path().join("other")).expect("linked");
        fs::remove_file(logs.path().join("0.log")).expect("removed");
        unlink_below(logs.path(), links.path());
        let names: std::collections::BTreeSet<_> =
            fs::read_dir(links.path()).expect("read").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(names, ["1.log", "other"].map(Into::into).into());
    }
}
