//! What the agent needs of an image store.

use futures::future::BoxFuture;

use crate::runtime::RootFs;
use crate::runtime::spec::{Image, RegistryAuth};

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
    fn pull<'a>(&'a self, name: &'a str, auths: &'a [RegistryAuth]) -> BoxFuture<'a, Result<Image, PullError>>;
    /// What containers of the image run on.
    fn rootfs<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<RootFs, PullError>>;
    /// All images of this node.
    fn list(&self) -> BoxFuture<'_, Vec<Image>>;
}
