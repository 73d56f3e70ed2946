//! Pulling: the manifest from the first endpoint that has it, then the layers that are missing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::digest;
use super::error::Error;
use super::ingest;
use super::manifest::{Config, Descriptor};
use super::name;
use super::remote::Remote;
use super::store::{Finished, Inner};
use crate::runtime::spec::{Image, RegistryAuth};

/// Layers of one image downloaded at a time.
const DOWNLOADS: usize = 3;
/// Progress is told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How far a pull is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every layer of the image, lowest first.
    pub layers: Vec<LayerProgress>,
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// Its digest in the manifest.
    pub digest: String,
    /// Bytes that have come.
    pub current: u64,
    /// Bytes to come in all.
    pub total: u64,
    /// What is being done with it.
    pub state: LayerState,
}

/// What is being done with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Its turn has not come.
    Waiting,
    /// It is being downloaded.
    Downloading,
    /// All bytes are there; it is being unpacked, or waits for the layer below.
    Unpacking,
    /// It is there.
    Done,
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Downloading => "Downloading",
            Self::Unpacking => "Extracting",
            Self::Done => "Pull complete",
        })
    }
}

pub(super) async fn pull(
    inner: &Arc<Inner>,
    name: &str,
    auth: Option<RegistryAuth>,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Image, Error> {
    let (sender, mut receiver) = watch::channel(Progress::default());
    let work = from_any(inner, name, auth, sender);
    tokio::pin!(work);
    let mut told = None::<Instant>;
    loop {
        tokio::select! {
            result = &mut work => {
                progress(receiver.borrow().clone());
                return result;
            }
            Ok(()) = receiver.changed() => {
                let now = receiver.borrow_and_update().clone();
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    progress(now);
                }
            }
        }
    }
}

/// Tries one endpoint after the other; the last, which is the registry itself, says why not.
async fn from_any(
    inner: &Arc<Inner>,
    name: &str,
    auth: Option<RegistryAuth>,
    progress: watch::Sender<Progress>,
) -> Result<Image, Error> {
    let reference = name::parse(name)?;
    if let Some(digest) = reference.digest() {
        digest::validate(name, digest)?;
    }
    let mut result = Err(Error::invalid(name, "there is no registry to ask"));
    let registries = inner.registries.now();
    for endpoint in registries.endpoints(&reference, auth.as_ref()) {
        let host = endpoint.host.clone();
        result = match Remote::new(&registries, endpoint, name) {
            Ok(remote) => from(inner, Arc::new(remote), name, &progress).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(_) => break,
            // Another source would not help.
            Err(Error::Full { .. } | Error::Io { .. } | Error::NoPlatform { .. }) => break,
            Err(error) => tracing::info!(%error, endpoint = host, "image {name} cannot be pulled from here"),
        }
    }
    result
}

async fn from(
    inner: &Arc<Inner>,
    remote: Arc<Remote>,
    name: &str,
    progress: &watch::Sender<Progress>,
) -> Result<Image, Error> {
    let reference = name::parse(name)?;
    let found = remote.find(reference.digest().or(reference.tag()).unwrap_or("latest")).await?;
    let config = Config::parse(name, &found.config)?;
    let layers = found.manifest.layers;
    let chains = config.chains(name, layers.len())?;
    let _kept = ingest::keep_layers(&inner.root)?;
    progress.send_replace(Progress { layers: layers.iter().map(waiting).collect() });

    let permits = Arc::new(Semaphore::new(DOWNLOADS));
    let mut below = None;
    let mut tasks = Vec::new();
    for (number, descriptor) in layers.iter().enumerate() {
        let (done, wait) = oneshot::channel();
        let layer = Layer {
            inner: Arc::clone(inner),
            remote: Arc::clone(&remote),
            descriptor: descriptor.clone(),
            diff_id: config.diff_ids[number].clone(),
            chain: chains[number].clone(),
            below: chains[..number].to_vec(),
            number,
            progress: progress.clone(),
        };
        let task = layer.fetch(Arc::clone(&permits), below.replace(wait), done);
        tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
    }
    let mut tasks = tasks.into_iter();
    while let Some(task) = tasks.next() {
        let Err(error) = task.await.unwrap_or_else(|e| Err(Error::invalid(name, e))) else { continue };
        if let Error::Full { .. } = error {
            // What there is of the others, kept to go on with, takes the room that is missing.
            for other in tasks {
                other.abort();
                let _ = other.await;
            }
            for descriptor in layers {
                let _ = std::fs::remove_file(ingest::partial(&inner.root, &descriptor.digest));
            }
        }
        return Err(error);
    }

    inner.add(Finished {
        config: found.config,
        manifest: Some(found.bytes),
        layers: chains,
        tags: name::tagged(&reference).into_iter().collect(),
        digests: vec![name::with_digest(&reference, &found.digest)],
        pinned: false,
    })
}

fn waiting(descriptor: &Descriptor) -> LayerProgress {
    LayerProgress {
        digest: descriptor.digest.clone(),
        current: 0,
        total: descriptor.size,
        state: LayerState::Waiting,
    }
}

/// One layer on its way.
struct Layer {
    inner: Arc<Inner>,
    remote: Arc<Remote>,
    descriptor: Descriptor,
    diff_id: String,
    chain: String,
    below: Vec<String>,
    number: usize,
    progress: watch::Sender<Progress>,
}

impl Layer {
    /// Downloads and unpacks it, unless it is there or another pull is at it. Waits for the layer
    /// `below` before unpacking; tells `done` when it is there.
    async fn fetch(
        self,
        permits: Arc<Semaphore>,
        below: Option<oneshot::Receiver<()>>,
        done: oneshot::Sender<()>,
    ) -> Result<(), Error> {
        let _once = self.inner.layers.locks.lock(&self.chain).await;
        if !self.inner.layers.exists(&self.chain) {
            let partial = {
                let _permit = permits.acquire().await;
                self.tell(|p| p.state = LayerState::Downloading);
                let arrived = |bytes| self.tell(|p| p.current = bytes);
                self.remote.download(&self.descriptor, &self.inner.root, arrived).await?
            };
            self.tell(|p| p.state = LayerState::Unpacking);
            if let Some(below) = below
                && below.await.is_err()
            {
                // That one says why.
                return Ok(());
            }
            let unpacked = self.unpack(partial.file()?).await;
            partial.discard();
            unpacked?;
        }
        self.tell(|p| (p.state, p.current) = (LayerState::Done, p.total));
        // Nobody waits for the top one.
        let _ = done.send(());
        Ok(())
    }

    async fn unpack(&self, file: std::fs::File) -> Result<(), Error> {
        let (inner, chain) = (Arc::clone(&self.inner), self.chain.clone());
        let (diff_id, below) = (self.diff_id.clone(), self.below.clone());
        let work = move || inner.layers.make(&chain, &diff_id, &below, file);
        let result = tokio::task::spawn_blocking(work).await;
        result.unwrap_or_else(|e| Err(Error::invalid(&self.chain, e)))
    }

    fn tell(&self, change: impl FnOnce(&mut LayerProgress)) {
        self.progress.send_modify(|progress| {
            if let Some(layer) = progress.layers.get_mut(self.number) {
                change(layer);
            }
        });
    }
}
