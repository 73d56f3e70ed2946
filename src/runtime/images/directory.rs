//! A directory whose archives become images: for nodes without a network, as k3s has it in `agent/images`.
//!
//! Archives (`.tar`, also compressed) are imported, lists of names (`.txt`, one a line) pulled, both when
//! the node starts and when the file is put there or changes. What they brought is not collected as long as
//! the file is there. `imports.json` in the store remembers what was taken, so that a start reads nothing twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::error::{Context, Error};
use super::{Images, ImportOptions, ingest};

/// Names of archives end so.
const ARCHIVES: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz", ".tar.lz4"];
/// Pause before a name that could not be pulled is tried again; it doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// What was taken from which file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memo(BTreeMap<PathBuf, Taken>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    size: u64,
    modified: (i64, i64),
    inode: u64,
    /// Ids.
    images: Vec<String>,
    /// Names that could not be pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

pub(super) async fn watch(images: &Images, dir: &Path, token: CancellationToken) -> Result<(), Error> {
    fs::create_dir_all(dir).on(dir)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).on(dir)?;
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(dir, events).on(dir)?;
    // Before the first look, so that nothing is missed.
    let descriptor = inotify.as_fd().try_clone_to_owned().on(dir)?;
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd, which stays open while registered; its successor is an unsafe fn"
    )]
    let changes = AsyncFd::new(descriptor).on(dir)?;
    let mut pause = RETRY.0;
    loop {
        let is_missing = tokio::select! {
            result = look(images, dir) => result?,
            () = token.cancelled() => return Ok(()),
        };
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            // Only while a registry could not be reached.
            () = tokio::time::sleep(pause), if is_missing => pause = (pause * 2).min(RETRY.1),
            guard = changes.readable() => {
                guard.on(dir)?.clear_ready();
                while inotify.read_events().is_ok() {}
                pause = RETRY.0;
            }
        }
    }
}

/// Takes what is new; answers whether something could not be pulled yet.
async fn look(images: &Images, dir: &Path) -> Result<bool, Error> {
    let path = images.0.root.join("imports.json");
    let memo: Memo = fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mut now = Memo::default();
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).on(dir)? {
        files.push(entry.on(dir)?.path());
    }
    files.sort();
    for file in files {
        let name = file.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        let is_archive = ARCHIVES.iter().any(|end| name.ends_with(end));
        // A file that goes away meanwhile is not there.
        let Ok(metadata) = fs::metadata(&file) else { continue };
        if !metadata.is_file() || !(is_archive || name.ends_with(".txt")) {
            continue;
        }
        let mut taken = Taken {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            ..Taken::default()
        };
        let known = memo.0.get(&file).filter(|t| {
            let same = (t.size, t.modified, t.inode) == (taken.size, taken.modified, taken.inode);
            same && t.missing.is_empty() && t.images.iter().all(|id| images.resolve(id).is_some())
        });
        match known {
            Some(known) => taken = known.clone(),
            None if is_archive => import(images, &file, &mut taken).await,
            None => pull(images, &file, &mut taken).await,
        }
        now.0.insert(file, taken);
    }
    let kept: Vec<&String> = now.0.values().flat_map(|t| &t.images).collect();
    for id in memo.0.values().flat_map(|t| &t.images).filter(|id| !kept.contains(id)) {
        images.pin(id, false)?;
    }
    if now != memo {
        let bytes = serde_json::to_vec_pretty(&now).map_err(|e| Error::io(&path, e.into()))?;
        ingest::write_atomically(&images.0.root, &path, &bytes)?;
    }
    Ok(now.0.values().any(|t| !t.missing.is_empty()))
}

/// An archive that cannot be used is told of once, until the file changes.
async fn import(images: &Images, file: &Path, taken: &mut Taken) {
    let options = ImportOptions { pinned: true, ..ImportOptions::default() };
    let found = match fs::File::open(file).on(file) {
        Ok(open) => images.import_file(open, options).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => {
            let names: Vec<_> = found.iter().flat_map(|i| i.tags.clone()).collect();
            tracing::info!(file = %file.display(), images = names.join(" "), "images imported");
            taken.images = found.into_iter().map(|image| image.id).collect();
        }
        Err(error) => tracing::warn!(file = %file.display(), %error, "no image was imported"),
    }
}

async fn pull(images: &Images, file: &Path, taken: &mut Taken) {
    let text = fs::read_to_string(file).unwrap_or_default();
    for name in text.lines().map(str::trim).filter(|n| !n.is_empty() && !n.starts_with('#')) {
        let image = match images.resolve(name) {
            Some(image) => Ok(image),
            None => images.pull(name, None, |_| ()).await,
        };
        match image.and_then(|image| images.pin(&image.id, true).map(|()| image)) {
            Ok(image) => taken.images.push(image.id),
            Err(error @ Error::InvalidName { .. }) => {
                tracing::warn!(file = %file.display(), %error, "a line is no image");
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "an image could not be pulled yet");
                taken.missing.push(name.to_owned());
            }
        }
    }
}
