//! The answering side of `kedge images`: in the server, for its node's image store.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;
use tokio_util::sync::CancellationToken;

use super::super::installation::{DEFAULT_REGISTRIES, images_socket, open_images};
use super::Error;
use super::source::Source;
use super::wire::{Answer, FileId, Layer, Request};
use crate::config::Instance;
use crate::runtime::Runtime;
use crate::runtime::images::{Collection, Images, ImportOptions, Progress, RegistriesConfig};
use crate::runtime::spec::RegistryAuth;

/// A request's line is at most this long.
const MAX_REQUEST: usize = 64 << 10;
/// So many progress lines may wait for a slow reader; more are dropped, since each tells all.
const WAITING: usize = 16;

/// Binds the socket, for root alone.
///
/// # Errors
/// The run-time directory cannot be written to.
pub fn bind(instance: &Instance) -> std::io::Result<UnixListener> {
    let path = images_socket(instance);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `token` is cancelled.
///
/// # Errors
/// The socket fails.
pub async fn serve(
    listener: &UnixListener,
    images: &Images,
    runtime: &Runtime,
    token: &CancellationToken,
) -> std::io::Result<()> {
    loop {
        let stream = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted?.0,
        };
        let (images, runtime) = (images.clone(), runtime.clone());
        // One connection's request, as short as its client wishes; not a task of the process's own.
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &images, &runtime).await {
                tracing::debug!(%error, "a client of the image socket has gone");
            }
        });
    }
}

async fn connection(stream: UnixStream, images: &Images, runtime: &Runtime) -> Result<(), Error> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    tokio::io::AsyncReadExt::take(&mut read, MAX_REQUEST as u64).read_until(b'\n', &mut line).await?;
    let request: Request = serde_json::from_slice(&line)?;
    let (answers, mut answered) = mpsc::channel(WAITING);
    let in_use = containers(runtime).await;
    let stream = |read| Archive::Stream(Box::new(ReadToEnd(SyncIoBridge::new(read))));
    let archive = match &request {
        Request::Import { file: Some(file), .. } => match open(file) {
            Some(file) => Some(Archive::File(file)),
            None => {
                answers.send(Answer::Send).await?;
                Some(stream(read))
            }
        },
        Request::Import { file: None, .. } => Some(stream(read)),
        _ => None,
    };
    let work = answer(images, &in_use, request, archive, answers);
    let send = async {
        while let Some(answer) = answered.recv().await {
            let mut line = serde_json::to_vec(&answer)?;
            line.push(b'\n');
            write.write_all(&line).await?;
        }
        Ok::<(), Error>(())
    };
    let ((), sent) = tokio::join!(work, send);
    sent
}

/// An archive to import.
pub(super) enum Archive {
    /// A file that can be read in any order.
    File(File),
    /// Anything else.
    Stream(Box<dyn Read + Send>),
}

/// The file a client means, if this process can open that one.
fn open(wanted: &FileId) -> Option<File> {
    let file = File::open(&wanted.path).ok()?;
    let metadata = file.metadata().ok()?;
    ((metadata.dev(), metadata.ino()) == wanted.id).then_some(file)
}

/// Reads what is left when it is dropped: closing a socket with unread input resets the connection,
/// and the answer would be lost. An archive has padding behind its end, or is none at all.
struct ReadToEnd<R: Read>(R);

impl<R: Read> Read for ReadToEnd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Drop for ReadToEnd<R> {
    fn drop(&mut self) {
        // A client that has gone sends no more: that is the end, too.
        let _ = std::io::copy(&mut self.0, &mut std::io::sink());
    }
}

/// Ids of images of which there are containers.
async fn containers(runtime: &Runtime) -> HashSet<String> {
    let sandboxes = runtime.sandboxes().await;
    sandboxes.into_iter().flat_map(|s| s.containers).map(|c| c.image).collect()
}

/// Does what is asked and sends the answers.
async fn answer(
    images: &Images,
    in_use: &HashSet<String>,
    request: Request,
    archive: Option<Archive>,
    answers: mpsc::Sender<Answer>,
) {
    let result = match request {
        Request::List => Ok(Answer::Images(images.list())),
        Request::Remove { name } => images.remove(&name, in_use).map(|()| Answer::Removed(name)),
        Request::Prune => {
            let all = Collection { in_use: in_use.clone(), bytes: u64::MAX, ..Collection::default() };
            let images = images.clone();
            let work = tokio::task::spawn_blocking(move || images.collect(&all));
            work.await.unwrap_or(Ok(0)).map(Answer::Freed)
        }
        Request::Import { name, .. } => {
            let options = ImportOptions { name, ..ImportOptions::default() };
            match archive {
                Some(Archive::File(file)) => images.import_file(file, options).await.map(Answer::Images),
                Some(Archive::Stream(archive)) => images.import(archive, options).await.map(Answer::Images),
                None => Ok(Answer::Error("no archive was sent".into())),
            }
        }
        Request::Pull { name, user } => {
            let auth = user.map(|(username, password)| RegistryAuth { username, password });
            let report = answers.clone();
            let progress = move |progress: Progress| {
                // A reader that is behind gets the next one.
                let _ = report.try_send(Answer::Progress(layers(&progress)));
            };
            images.pull(&name, auth, progress).await.map(|image| Answer::Images(vec![image]))
        }
    };
    let last = result.unwrap_or_else(|error| Answer::Error(error.to_string()));
    // The client may have gone; what was asked for is done all the same.
    let _ = answers.send(last).await;
}

fn layers(progress: &Progress) -> Vec<Layer> {
    let layer = |l: &crate::runtime::images::LayerProgress| Layer {
        digest: l.digest.clone(),
        current: l.current,
        total: l.total,
        state: l.state.to_string(),
    };
    progress.layers.iter().map(layer).collect()
}

/// Does what is asked in this process, where no server runs.
///
/// # Errors
/// What the image store answers, or that it cannot be opened.
pub fn answer_here(
    data_dir: &Path,
    request: Request,
    archive: Option<Source>,
    show: &mut dyn FnMut(Answer),
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let images = open_images(data_dir, RegistriesConfig::load(Path::new(DEFAULT_REGISTRIES))?)?;
        let (answers, mut answered) = mpsc::channel(WAITING);
        // Nothing runs, but containers that ended keep their image: removal by id is the user's word.
        let in_use = HashSet::new();
        let archive = archive.map(|source| match source {
            Source::File(file) => Archive::File(file),
            input @ Source::Input => Archive::Stream(Box::new(input)),
        });
        let work = answer(&images, &in_use, request, archive, answers);
        let receive = async {
            while let Some(answer) = answered.recv().await {
                match answer {
                    Answer::Error(error) => return Err(error.into()),
                    answer => show(answer),
                }
            }
            Ok(())
        };
        let ((), result) = tokio::join!(work, receive);
        result
    })
}
