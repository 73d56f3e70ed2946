//! What the agent needs of an image store.

use std::collections::HashSet;

use futures::future::BoxFuture;

use crate::runtime::images::{self, Images};
use crate::runtime::spec::{Image, RegistryAuth};
use crate::runtime::{ImageConfig, RootFs};

/// Why an image could not be pulled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// The name is not an image reference.
    #[error("{0}")]
    InvalidName(String),
    /// The registry could not be reached or refused.
    #[error("{0}")]
    Failed(String),
}

/// The node's images. Implemented by the runtime's image store, and by tests.
pub trait ImageService: Send + Sync + 'static {
    /// The image of that name, digest or id, if it is on this node.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, PullError>>;
    /// Pulls the image anew, trying `auths` in order, then without credentials.
    fn pull<'a>(
        &'a self,
        name: &'a str,
        auths: &'a [RegistryAuth],
    ) -> BoxFuture<'a, Result<Image, PullError>>;
    /// What containers of the image run on.
    fn rootfs<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<RootFs, PullError>>;
    /// Removes all images that no container uses; `in_use` are ids. Answers how many bytes became free.
    fn collect_all(&self, in_use: HashSet<String>) -> BoxFuture<'_, Result<u64, PullError>>;
    /// All images of this node.
    fn list(&self) -> BoxFuture<'_, Vec<Image>>;
}

impl From<images::Error> for PullError {
    fn from(error: images::Error) -> Self {
        match error {
            images::Error::InvalidName { .. } => Self::InvalidName(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl ImageService for Images {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, PullError>> {
        Box::pin(async move { Ok(Images::resolve(self, name)) })
    }

    fn pull<'a>(
        &'a self,
        name: &'a str,
        auths: &'a [RegistryAuth],
    ) -> BoxFuture<'a, Result<Image, PullError>> {
        Box::pin(async move {
            // Each set of credentials in turn, then what the registries' configuration has.
            for auth in auths {
                match Images::pull(self, name, Some(auth.clone()), |_| {}).await {
                    Err(images::Error::Unauthorized { .. }) => {}
                    result => return Ok(result?),
                }
            }
            Ok(Images::pull(self, name, None, |_| {}).await?)
        })
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
                },
            })
        })
    }

    fn collect_all(&self, in_use: HashSet<String>) -> BoxFuture<'_, Result<u64, PullError>> {
        let images = self.clone();
        Box::pin(async move {
            let collected = tokio::task::spawn_blocking(move || images.collect(&in_use, 0)).await;
            Ok(collected.map_err(|e| PullError::Failed(e.to_string()))??)
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<Image>> {
        Box::pin(async move { Images::list(self) })
    }
}
