//! Places on the host from which a container gets a mount that cannot be taken from the volume itself:
//! sub-paths, and mounts whose propagation differs from that of the container's others.
//!
//! The container's mount namespace copies them when it is made; they are cleared right after.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{mounting, subpath};
use crate::agent::error::Error;
use crate::agent::paths::Paths;
use crate::runtime::spec::Propagation;

/// The places of one container's mounts.
pub(crate) struct Stage {
    directory: PathBuf,
}

impl Stage {
    /// The places of a container; there is nothing yet.
    pub(crate) fn new(paths: &Paths, uid: &str, container: &str) -> Self {
        Self { directory: paths.subpaths(uid).join(container) }
    }

    /// Binds `sub_path` of a volume to the place of that number.
    ///
    /// # Errors
    /// The text is upstream's: what exactly is wrong may tell of the host's files and goes to the log.
    pub(crate) fn sub_path(&self, index: usize, volume: &Path, sub_path: &str) -> Result<PathBuf, Refused> {
        if sub_path.starts_with('/') {
            return Err(Refused::Because(format!("error SubPath `{sub_path}` must not be an absolute path")));
        }
        if sub_path.split('/').any(|part| part == "..") {
            let why = format!("unable to provision SubPath `{sub_path}`: must not contain '..'");
            return Err(Refused::Because(why));
        }
        let failed = |refused: Refused| {
            move |error: Error| {
                tracing::warn!(%error, sub_path, "a sub-path of a volume cannot be mounted");
                refused
            }
        };
        let opened = match subpath::open(volume, sub_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => subpath::make(volume, sub_path)
                .map_err(Error::io("make a sub-path of", volume))
                .map_err(failed(Refused::NotMade))?,
            opened => opened
                .map_err(Error::io("open a sub-path of", volume))
                .map_err(failed(Refused::NotPrepared))?,
        };
        self.bind(index, &subpath::name_of(&opened), None).map_err(failed(Refused::NotPrepared))
    }

    /// Binds a volume to the place of that number, with mounts travelling as `propagation` says.
    pub(crate) fn propagating(
        &self,
        index: usize,
        source: &Path,
        propagation: Propagation,
    ) -> Result<PathBuf, Error> {
        self.bind(index, source, Some(propagation))
    }

    fn bind(&self, index: usize, source: &Path, propagation: Option<Propagation>) -> Result<PathBuf, Error> {
        let place = self.directory.join(index.to_string());
        let directory = fs::metadata(source).map_err(Error::io("read", source))?.is_dir();
        fs::create_dir_all(&self.directory).map_err(Error::io("make", &self.directory))?;
        let made = if directory {
            fs::create_dir_all(&place)
        } else {
            fs::OpenOptions::new().create(true).append(true).open(&place).map(drop)
        };
        made.map_err(Error::io("make", &place))?;
        mounting::bind(source, &place, propagation)?;
        Ok(place)
    }

    /// Gives up the places; the container keeps what it has.
    pub(crate) async fn clear(&self) -> Result<(), Error> {
        if !self.directory.exists() {
            return Ok(());
        }
        super::tear_down(&self.directory).await
    }
}

/// Why a sub-path is not mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The specification is wrong; the text says what.
    Because(String),
    /// Its directories could not be made.
    NotMade,
    /// It could not be opened or mounted.
    NotPrepared,
}

impl Refused {
    /// The container's message.
    pub(crate) fn message(self, mount: &str, container: &str) -> String {
        let failed =
            |what: &str| format!("failed to {what} for volumeMount {mount:?} of container {container:?}");
        match self {
            Self::Because(why) => why,
            Self::NotMade => failed("create subPath directory"),
            Self::NotPrepared => failed("prepare subPath"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_come_and_go_and_volumes_stay() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let stage = Stage::new(&Paths::new(directory.path()), "u", "c");
        let volume = directory.path().join("v");
        fs::create_dir(&volume).expect("made");
        let place = stage.sub_path(0, &volume, "a/b").expect("bound");
        fs::write(place.join("f"), "x").expect("written");
        fs::write(volume.join("file"), "y").expect("written");
        let file = stage.sub_path(1, &volume, "file").expect("bound");
        assert_eq!(fs::read_to_string(file).expect("read"), "y");
        // A former attempt may have been interrupted: what is there is covered.
        stage.propagating(1, &volume.join("file"), Propagation::Private).expect("bound");
        stage.clear().await.expect("cleared");
        stage.clear().await.expect("again");
        assert!(!place.exists() && volume.join("a/b/f").exists() && volume.join("file").exists());
        let refused = |path: &str| stage.sub_path(0, &volume, path).expect_err("refused").message("v", "c");
        assert_eq!(refused("/a"), "error SubPath `/a` must not be an absolute path");
        assert_eq!(refused("a/.."), "unable to provision SubPath `a/..`: must not contain '..'");
        std::os::unix::fs::symlink("/etc", volume.join("link")).expect("linked");
        let prepare = "failed to prepare subPath for volumeMount \"v\" of container \"c\"";
        assert_eq!(refused("link"), prepare);
        std::os::unix::fs::symlink("/nowhere", volume.join("dangling")).expect("linked");
        assert_eq!(refused("dangling"), prepare, "nor one that leads nowhere");
        let make = "failed to create subPath directory for volumeMount \"v\" of container \"c\"";
        assert_eq!(refused(&"n".repeat(300)), prepare, "no name for a file");
        assert_eq!(refused(&format!("new/{}", "n".repeat(300))), make);
    }
}
