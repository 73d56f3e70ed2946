//! What the agent needs of an image store, its pulls, and who may use what they brought.

use futures::future::BoxFuture;
use tokio::sync::watch;

mod access;
mod puller;

pub(crate) use access::{Access, Credential, SecretKey};
pub(crate) use puller::{Pulled, Puller};

use crate::runtime::images::{self, Collection, Disk, Images};
use crate::runtime::spec::{Image, RegistryAuth};
use crate::runtime::{ImageConfig, RootFs};

/// Why an image could not be pulled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// The name is not an image reference.
    #[error("{0}")]
    InvalidName(String),
    /// The registry says that it cannot serve now.
    #[error("{0}")]
    Unavailable(String),
    /// The registry could not be reached or refused.
    #[error("{0}")]
    Failed(String),
}

/// The node's images. Implemented by the runtime's image store, and by tests.
pub trait ImageService: Send + Sync + 'static {
    /// The image of that name, digest or id, if it is on this node.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, PullError>>;
    /// Pulls the image anew; without `auth`, as the registries' configuration says.
    fn pull<'a>(
        &'a self,
        name: &'a str,
        auth: Option<&'a RegistryAuth>,
    ) -> BoxFuture<'a, Result<Image, PullError>>;
    /// What containers of the image run on. Its layers may be mounted for other purposes, too.
    fn rootfs<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<RootFs, PullError>>;
    /// All images of this node.
    fn list(&self) -> BoxFuture<'_, Vec<Image>>;
    /// Changes with the list of images, whoever changed it.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Notes that these images, by id, are used now: what was used last is collected last.
    fn mark_used(&self, ids: &[String]);
    /// Writes what is known of the use of images.
    fn save(&self) -> BoxFuture<'_, Result<(), PullError>>;
    /// The file system of the images.
    fn disk(&self) -> BoxFuture<'_, Result<Disk, PullError>>;
    /// Removes images that nobody uses; answers the bytes that became free.
    fn collect(&self, collection: Collection) -> BoxFuture<'_, Result<u64, PullError>>;
}

impl From<images::Error> for PullError {
    fn from(error: images::Error) -> Self {
        match error {
            images::Error::InvalidName { .. } => Self::InvalidName(error.to_string()),
            images::Error::Unavailable { .. } => Self::Unavailable(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Work that keeps a thread busy.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, images::Error> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(PullError::Failed(error.to_string())),
    }
}

impl ImageService for Images {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, PullError>> {
        Box::pin(async move {
            self.check_name(name)?;
            Ok(Images::resolve(self, name))
        })
    }

    fn pull<'a>(
        &'a self,
        name: &'a str,
        auth: Option<&'a RegistryAuth>,
    ) -> BoxFuture<'a, Result<Image, PullError>> {
        Box::pin(async move { Ok(Images::pull(self, name, auth.cloned(), |_| {}).await?) })
    }

    fn rootfs<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<RootFs, PullError>> {
        Box::pin(async move {
            let config = self.config(id)?;
            Ok(RootFs {
                lower: self.layers(id)?,
                config: ImageConfig {
                    entrypoint: config.entrypoint,
                    cmd: config.cmd,
                    env: config.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
                    user: config.user,
                    working_dir: config.working_dir,
                    stop_signal: Some(config.stop_signal).filter(|s| !s.is_empty()),
                    volumes: config.volumes,
                },
            })
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<Image>> {
        Box::pin(async move { Images::list(self) })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Images::changes(self)
    }

    fn mark_used(&self, ids: &[String]) {
        Images::mark_used(self, ids.iter().map(String::as_str));
    }

    fn save(&self) -> BoxFuture<'_, Result<(), PullError>> {
        let images = self.clone();
        Box::pin(blocking(move || Images::save(&images)))
    }

    fn disk(&self) -> BoxFuture<'_, Result<Disk, PullError>> {
        Box::pin(async move { Ok(Images::disk(self)?) })
    }

    fn collect(&self, collection: Collection) -> BoxFuture<'_, Result<u64, PullError>> {
        let images = self.clone();
        Box::pin(blocking(move || Images::collect(&images, &collection)))
    }
}
