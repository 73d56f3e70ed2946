//! What the agent needs of an image store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, WeakShared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::config::Kubelet;
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
    /// Pulls the image anew, with the first of `auths` that works; without any if there is none, as the
    /// registries' configuration says.
    fn pull<'a>(
        &'a self,
        name: &'a str,
        auths: &'a [RegistryAuth],
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
        auths: &'a [RegistryAuth],
    ) -> BoxFuture<'a, Result<Image, PullError>> {
        Box::pin(async move {
            if auths.is_empty() {
                return Ok(Images::pull(self, name, None, |_| {}).await?);
            }
            let mut errors: Vec<PullError> = Vec::new();
            for auth in auths {
                match Images::pull(self, name, Some(auth.clone()), |_| {}).await {
                    Ok(image) => return Ok(image),
                    Err(error) => errors.push(error.into()),
                }
            }
            Err(match errors.len() {
                1 => errors.remove(0),
                _ => {
                    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    PullError::Failed(format!("[{}]", texts.join(", ")))
                }
            })
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

/// A pull that ended: the image, and how long the pull itself took.
pub(crate) type Pulled = Result<(Image, Duration), PullError>;

/// Ends when nobody waits for it any more.
type Running = WeakShared<BoxFuture<'static, Pulled>>;

/// All pulls of the node: as many at a time as its settings allow, and one for all who want the same
/// image with the same credentials.
pub(crate) struct Puller {
    images: Arc<dyn ImageService>,
    /// `None`: as many as there are.
    places: Option<Arc<Semaphore>>,
    running: Mutex<HashMap<(String, Vec<RegistryAuth>), Running>>,
}

impl Puller {
    /// Nothing is pulled yet.
    pub(crate) fn new(images: Arc<dyn ImageService>, settings: &Kubelet) -> Self {
        let most = match settings.serialize_image_pulls {
            true => Some(1),
            false => settings.max_parallel_image_pulls.map(|n| n.max(1)),
        };
        let places = most.map(|n| Arc::new(Semaphore::new(n as usize)));
        Self { images, places, running: Mutex::default() }
    }

    /// Pulls an image; the pull goes on as long as somebody waits for it.
    pub(crate) async fn pull(self: &Arc<Self>, name: String, auths: Vec<RegistryAuth>) -> Pulled {
        let key = (name, auths);
        let pull = {
            let mut running = self.running.lock();
            running.retain(|_, pull| pull.upgrade().is_some());
            let known = running.get(&key).and_then(WeakShared::upgrade).filter(|p| p.peek().is_none());
            known.unwrap_or_else(|| {
                let pull = Arc::clone(self).start(key.clone()).boxed().shared();
                running.extend(pull.downgrade().map(|weak| (key, weak)));
                pull
            })
        };
        pull.await
    }

    async fn start(self: Arc<Self>, (name, auths): (String, Vec<RegistryAuth>)) -> Pulled {
        let _place = match &self.places {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        let began = Instant::now();
        let image = self.images.pull(&name, &auths).await?;
        Ok((image, began.elapsed()))
    }
}
