//! A blob that is on its way: a file below `ingest/` that outlives a broken connection and a restart.
//!
//! Bytes are written and hashed by a thread of their own: a card that is slow to write must not hold up
//! whatever else the process serves.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::digest;
use super::error::{Context, Error};
use super::ingest;
use super::manifest::Descriptor;

/// Chunks on their way to the disk; a chunk is what one read of a connection brought, some 400 KiB at most.
const IN_FLIGHT: usize = 4;

/// A blob of which some bytes are there.
pub(super) struct Partial {
    path: PathBuf,
    descriptor: Descriptor,
    size: u64,
    part: Place,
}

/// Where the file is.
enum Place {
    Here(Part),
    /// With the thread that writes.
    Writing {
        chunks: mpsc::Sender<Bytes>,
        writer: JoinHandle<Result<Part, Error>>,
    },
    /// Lost with a thread that failed.
    Nowhere,
}

/// The file and what has been hashed of it.
struct Part {
    file: Flock<File>,
    hasher: Sha256,
}

impl Partial {
    /// The file for this blob, with what an earlier attempt has left.
    pub(super) async fn open(root: &Path, descriptor: &Descriptor) -> Result<Self, Error> {
        let (root, descriptor) = (root.to_owned(), descriptor.clone());
        let open = move || {
            let path = ingest::partial(&root, &descriptor.digest);
            // Another process may be at the same one.
            let (path, mut file) = match lock(&path)? {
                Some(file) => (path, file),
                None => {
                    let path = ingest::path(&root);
                    let file = lock(&path)?;
                    (path.clone(), file.ok_or_else(|| Error::io(&path, io::ErrorKind::WouldBlock.into()))?)
                }
            };
            let mut hasher = Sha256::new();
            let mut size = hash(&mut file, &mut hasher).on(&path)?;
            if descriptor.size > 0 && size > descriptor.size {
                (size, hasher) = (0, Sha256::new());
                file.set_len(0).and_then(|()| file.rewind()).on(&path)?;
            }
            Ok(Self { path, descriptor, size, part: Place::Here(Part { file, hasher }) })
        };
        tokio::task::spawn_blocking(open).await.unwrap_or_else(|e| Err(Error::invalid("layer", e)))
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Bytes that have come.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn is_complete(&self) -> bool {
        self.descriptor.size > 0 && self.size == self.descriptor.size && matches!(self.part, Place::Here(_))
    }

    /// What is still missing, in words; `None` if nothing is.
    pub(super) fn missing(&self) -> Option<String> {
        let (size, all) = (self.size, self.descriptor.size);
        (size < all).then(|| format!("connection closed after {size} of {all} bytes"))
    }

    /// Takes the next bytes.
    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        let (expected, size) = (self.descriptor.size, self.size + chunk.len() as u64);
        if expected > 0 && size > expected {
            // A registry that sends more than it said would fill the disk.
            return Err(Error::DigestMismatch {
                what: "a layer".to_owned(),
                expected: format!("{} of {expected} bytes", self.descriptor.digest),
                found: format!("at least {size} bytes"),
            });
        }
        if let Place::Here(_) = &self.part {
            self.start();
        }
        let Place::Writing { chunks, .. } = &self.part else { return self.flush().await };
        match chunks.send(chunk).await {
            Ok(()) => self.size = size,
            // The thread has ended, and says why.
            Err(_) => self.flush().await?,
        }
        Ok(())
    }

    fn start(&mut self) {
        let Place::Here(mut part) = std::mem::replace(&mut self.part, Place::Nowhere) else { return };
        let (chunks, mut queue) = mpsc::channel::<Bytes>(IN_FLIGHT);
        let path = self.path.clone();
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = queue.blocking_recv() {
                part.file.write_all(&chunk).on(&path)?;
                part.hasher.update(&chunk);
            }
            Ok(part)
        });
        self.part = Place::Writing { chunks, writer };
    }

    /// Waits until all is written.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.part, Place::Nowhere) {
            Place::Writing { chunks, writer } => {
                drop(chunks);
                let part = writer.await.unwrap_or_else(|e| Err(Error::invalid("layer", e)))?;
                self.part = Place::Here(part);
            }
            place => self.part = place,
        }
        match self.part {
            Place::Nowhere => Err(Error::invalid("layer", "its download was given up")),
            _ => Ok(()),
        }
    }

    /// Forgets what has come.
    pub(super) async fn restart(&mut self) -> Result<(), Error> {
        self.flush().await?;
        if let Place::Here(part) = &mut self.part {
            part.hasher = Sha256::new();
            part.file.set_len(0).and_then(|()| part.file.rewind()).on(&self.path)?;
        }
        self.size = 0;
        Ok(())
    }

    /// An error if this is not what it should be; it is removed then.
    pub(super) fn verify(&self) -> Result<(), Error> {
        let Place::Here(part) = &self.part else {
            return Err(Error::invalid("layer", "its download was given up"));
        };
        let found = digest::finish(part.hasher.clone());
        digest::equal("a layer", &self.descriptor.digest, &found)
    }

    /// The complete file, from its beginning.
    pub(super) fn file(&self) -> Result<File, Error> {
        let Place::Here(part) = &self.part else {
            return Err(Error::invalid("layer", "its download was given up"));
        };
        let mut file = part.file.try_clone().on(&self.path)?;
        file.rewind().on(&self.path)?;
        Ok(file)
    }

    /// Removes the file: it is unpacked, or of no use.
    pub(super) fn discard(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "{}", self.path.display());
        }
    }
}

/// The file for nobody else; `None` if another process has it.
fn lock(path: &Path) -> Result<Option<Flock<File>>, Error> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path).on(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Some(file)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Error::io(path, errno.into())),
    }
}

fn hash(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(size),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}
