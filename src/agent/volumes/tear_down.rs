//! The directories of pods: made ready, and taken away with all that is mounted in them.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use super::{mounting, removal};
use crate::agent::error::Error;
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// kubelet's first and longest pause before a step with a volume is tried again.
pub(super) const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(500);
/// See [`FIRST_RETRY`].
pub(super) const LAST_RETRY: SignedDuration = SignedDuration::from_secs(122);

/// Makes the directory of all pods ready: volumes that containers share mounts through must lie on a
/// shared mount.
///
/// # Errors
/// The directory cannot be made. That mounts cannot be shared is only told.
pub(crate) fn prepare(pods: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(pods).map_err(Error::io("make", pods))?;
    if let Err(error) = mounting::share(pods) {
        tracing::warn!(%error, "mountPropagation: Bidirectional will not work with volumes of pods");
    }
    Ok(())
}

/// Unmounts and removes all that is left of a pod below a directory of its own.
///
/// # Errors
/// What could not be unmounted or removed; nothing is removed below a mount.
pub(crate) async fn tear_down(directory: &Path) -> Result<(), Error> {
    let directory = directory.to_path_buf();
    let work = move || {
        mounting::unmount_below(&directory)?;
        removal::remove(&directory)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::Other(format!("removing a pod's files was given up: {e}"))))
}

/// Removes directories of pods that are gone, in the background, and tries again until nothing is left.
pub(crate) fn remove_orphans(supervisor: &Supervisor, directories: Vec<PathBuf>) {
    if directories.is_empty() {
        return;
    }
    supervisor.spawn("removal of former pods", Stage::Agent, OnFailure::Restart, move |token| {
        let mut left = directories.clone();
        async move {
            let mut pause = FIRST_RETRY;
            loop {
                let mut failed = Vec::new();
                for directory in left {
                    if let Err(error) = tear_down(&directory).await {
                        tracing::warn!(%error, "a directory of a pod that is gone was not removed; it is tried again");
                        failed.push(directory);
                    }
                }
                if failed.is_empty() {
                    return Ok(());
                }
                left = failed;
                tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause.unsigned_abs()) => {}
                }
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    });
}

/// Unmounts the volumes of all pods of an installation, for `kedge killall`.
pub(crate) fn unmount_all(pods: &Path) -> Result<(), Error> {
    mounting::unmount_below(pods)
}
