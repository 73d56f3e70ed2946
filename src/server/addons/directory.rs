//! A directory whose manifests are kept applied: inotify tells of changes, so that idling is free.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Client;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::apply;

/// A file that could not be applied (its kind may not exist yet) is tried again after this, doubling.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// Applies what lies in `directory`, then what changes there, until `token` is cancelled.
pub(super) async fn keep_applied(
    client: &Client,
    directory: &Path,
    token: &CancellationToken,
) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // The watch begins before the first look, so that nothing falls between them.
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(directory, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO)?;
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd, which stays open while registered; its successor is an unsafe fn"
    )]
    let changes = AsyncFd::new(inotify.as_fd().try_clone_to_owned()?)?;
    let mut applied: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut retry = FIRST_RETRY;
    loop {
        let complete = apply_changed(client, directory, &mut applied).await;
        retry = if complete { FIRST_RETRY } else { (retry * 2).min(MAX_RETRY) };
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            ready = changes.readable() => {
                ready?.clear_ready();
                drain(&inotify)?;
            }
            () = tokio::time::sleep(retry), if !complete => {}
        }
    }
}

fn drain(inotify: &Inotify) -> std::io::Result<()> {
    loop {
        match inotify.read_events() {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Applies every file whose text is not the one applied last. `false`: one failed.
async fn apply_changed(client: &Client, directory: &Path, applied: &mut BTreeMap<PathBuf, String>) -> bool {
    let mut complete = true;
    for path in manifests(directory) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if applied.get(&path) == Some(&text) {
            continue;
        }
        match apply_text(client, &text).await {
            Ok(()) => {
                tracing::info!(file = %path.display(), "manifest applied");
                applied.insert(path, text);
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "manifest not applied; trying again");
                complete = false;
            }
        }
    }
    complete
}

async fn apply_text(client: &Client, text: &str) -> Result<(), apply::Error> {
    for object in apply::documents(text)? {
        apply::object(client, object).await?;
    }
    Ok(())
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_the_yaml_and_json_files_in_order() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in ["b.yaml", "a.json", "c.yml", "README.md", ".hidden"] {
            std::fs::write(directory.path().join(name), "").expect("write");
        }
        let names: Vec<_> = manifests(directory.path())
            .iter()
            .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
            .collect();
        assert_eq!(names, ["a.json", "b.yaml", "c.yml"]);
    }
}
