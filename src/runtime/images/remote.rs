//! One registry, spoken to by oci-client.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use futures::StreamExt;
use oci_client::Client;
use oci_client::client::BlobResponse;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use sha2::{Digest, Sha256};

use super::digest;
use super::error::{Context, Error, chain};
use super::manifest::{ACCEPTED, Descriptor, Document, Manifest, Platform, choose};
use super::registries::{Endpoint, RegistriesConfig};

/// How often a download that stopped is gone on with, if each time something came.
const ATTEMPTS: u32 = 5;
/// Configurations and manifests are small; more is no such thing.
const MAX_DOCUMENT: u64 = 8 << 20;

/// An image at one endpoint.
pub(super) struct Remote {
    client: Client,
    endpoint: Endpoint,
    /// The image as the user called it, for errors.
    name: String,
}

/// A manifest for this machine.
#[derive(Debug)]
pub(super) struct Found {
    pub manifest: Manifest,
    pub bytes: Vec<u8>,
    /// What the name leads to: the digest of the manifest, or of the index it was chosen from.
    pub digest: String,
}

impl Remote {
    pub(super) fn new(registries: &RegistriesConfig, endpoint: Endpoint, name: &str) -> Result<Self, Error> {
        // Whoever comes first decides for the process; all of kedge wants the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = registries.client_config(&endpoint)?;
        let client = Client::try_from(config)
            .map_err(|e| Error::Config(format!("configs.{}: {}", endpoint.host, chain(&e))))?;
        Ok(Self { client, endpoint, name: name.to_owned() })
    }

    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The manifest for this machine, verified.
    pub(super) async fn manifest(&self) -> Result<Found, Error> {
        let (bytes, digest) = self.document(None).await?;
        match Document::parse(&self.name, &bytes)? {
            Document::Manifest(manifest) => Ok(Found { manifest, bytes, digest }),
            Document::Index(manifests) => {
                let chosen = choose(&self.name, &manifests, &Platform::host())?;
                digest::validate(&self.name, &chosen.digest)?;
                let (bytes, _) = self.document(Some(&chosen.digest)).await?;
                match Document::parse(&self.name, &bytes)? {
                    Document::Manifest(manifest) => Ok(Found { manifest, bytes, digest }),
                    Document::Index(_) => Err(Error::invalid(&self.name, "an index within an index")),
                }
            }
        }
    }

    /// The manifest or index that the name, or this digest, leads to; and its digest.
    async fn document(&self, digest: Option<&str>) -> Result<(Vec<u8>, String), Error> {
        let reference = match digest {
            Some(digest) => self.endpoint.reference.clone_with_digest(digest.to_owned()),
            None => self.endpoint.reference.clone(),
        };
        let pulled = self.client.pull_manifest_raw(&reference, &self.endpoint.auth, ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|e| self.failure(&e))?;
        let found = digest::of(&bytes);
        if let Some(expected) = reference.digest() {
            digest::equal(&format!("manifest of {}", self.name), expected, &found)?;
        }
        Ok((bytes.to_vec(), found))
    }

    /// A small blob, verified.
    pub(super) async fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        digest::validate(&self.name, &descriptor.digest)?;
        let stream = self.client.pull_blob_stream(&self.endpoint.reference, descriptor.digest.as_str());
        let mut stream = stream.await.map_err(|e| self.failure(&e))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                // Probably because of the digest, which is looked at below.
                Err(_) if !bytes.is_empty() => break,
                Err(e) => return Err(self.broken(&e)),
            }
            if bytes.len() as u64 > MAX_DOCUMENT {
                return Err(Error::invalid(&self.name, "its configuration is too large"));
            }
        }
        digest::check(&format!("configuration of {}", self.name), &descriptor.digest, &bytes)?;
        Ok(bytes)
    }

    /// Downloads a blob to `path`, verifies it, and answers the file at its start. `arrived` is told
    /// how many bytes there are.
    pub(super) async fn download(
        &self,
        descriptor: &Descriptor,
        path: &Path,
        arrived: impl Fn(u64),
    ) -> Result<File, Error> {
        digest::validate(&self.name, &descriptor.digest)?;
        let mut options = File::options();
        let mut file = options.read(true).write(true).create_new(true).open(path).on(path)?;
        // Nobody else needs its name, and nothing has to be cleaned up.
        std::fs::remove_file(path).on(path)?;
        let mut part = Part { size: 0, hasher: Sha256::new(), descriptor };
        let mut attempts = 0;
        while let Err(error) = self.go_on(&mut part, &mut file, path, &arrived).await {
            attempts += 1;
            let hopeless = matches!(error, Error::NotFound { .. } | Error::Unauthorized { .. });
            let ours = matches!(error, Error::Io { .. } | Error::Full { .. } | Error::DigestMismatch { .. });
            if attempts == ATTEMPTS || hopeless || ours || part.size == 0 {
                return Err(error);
            }
            tracing::info!(%error, digest = descriptor.digest, bytes = part.size, "download goes on where it stopped");
        }
        file.rewind().on(path)?;
        Ok(file)
    }

    /// Downloads what is missing.
    async fn go_on(
        &self,
        part: &mut Part<'_>,
        file: &mut File,
        path: &Path,
        arrived: &impl Fn(u64),
    ) -> Result<(), Error> {
        let (image, digest) = (&self.endpoint.reference, part.descriptor.digest.as_str());
        let stream = match part.size {
            0 => self.client.pull_blob_stream(image, digest).await,
            size => match self.client.pull_blob_stream_partial(image, digest, size, None).await {
                Ok(BlobResponse::Partial(stream)) => Ok(stream),
                Ok(BlobResponse::Full(stream)) => {
                    part.restart(file).on(path)?;
                    Ok(stream)
                }
                Err(e) => Err(e),
            },
        };
        let mut stream = stream.map_err(|e| self.failure(&e))?;
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    // Written at once: chunks are small and go to the page cache.
                    file.write_all(&chunk).on(path)?;
                    part.add(&chunk);
                    arrived(part.size);
                    part.check_size()?;
                }
                // All is there, but not what it should be.
                Err(_) if part.is_complete() => break,
                Err(e) => return Err(self.broken(&e)),
            }
        }
        if part.descriptor.size > part.size {
            let reason = format!("connection closed after {} of {} bytes", part.size, part.descriptor.size);
            return Err(self.registry(reason));
        }
        digest::equal("a layer", digest, &digest::finish(part.hasher.clone()))
    }

    fn broken(&self, error: &io::Error) -> Error {
        self.registry(chain(error))
    }

    fn registry(&self, reason: String) -> Error {
        Error::Registry { name: self.name.clone(), registry: self.host().to_owned(), reason }
    }

    /// Tells apart what users can do something about.
    fn failure(&self, error: &OciDistributionError) -> Error {
        let (name, registry) = (self.name.clone(), self.host().to_owned());
        let unauthorized =
            |reason: String| Error::Unauthorized { name: name.clone(), registry: registry.clone(), reason };
        match error {
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                let text = envelope.errors.iter().map(|e| e.message.as_str()).collect::<Vec<_>>().join(", ");
                use OciErrorCode::{
                    BlobUnknown, Denied, ManifestUnknown, NameUnknown, NotFound, Unauthorized,
                };
                match () {
                    () if has(&[Unauthorized, Denied]) => unauthorized(text),
                    () if has(&[ManifestUnknown, NameUnknown, NotFound, BlobUnknown]) => {
                        Error::NotFound { name, registry }
                    }
                    () => self.registry(text),
                }
            }
            OciDistributionError::UnauthorizedError { .. } => unauthorized("401 Unauthorized".to_owned()),
            OciDistributionError::ServerError { code: 401 | 403, message, .. } => {
                unauthorized(message.trim().to_owned())
            }
            OciDistributionError::AuthenticationFailure(reason) => unauthorized(reason.trim().to_owned()),
            OciDistributionError::ServerError { code: 404, .. }
            | OciDistributionError::ImageManifestNotFoundError(_) => Error::NotFound { name, registry },
            OciDistributionError::DigestError(oci_client::errors::DigestError::VerificationError {
                expected,
                actual,
            }) => Error::DigestMismatch {
                what: format!("manifest of {name}"),
                expected: expected.clone(),
                found: actual.clone(),
            },
            other => self.registry(chain(other)),
        }
    }
}

/// What has come of a blob.
struct Part<'a> {
    size: u64,
    hasher: Sha256,
    descriptor: &'a Descriptor,
}

impl Part<'_> {
    fn add(&mut self, chunk: &[u8]) {
        self.size += chunk.len() as u64;
        self.hasher.update(chunk);
    }

    fn restart(&mut self, file: &mut File) -> io::Result<()> {
        (self.size, self.hasher) = (0, Sha256::new());
        file.set_len(0)?;
        file.rewind()
    }

    fn is_complete(&self) -> bool {
        self.descriptor.size > 0 && self.size == self.descriptor.size
    }

    /// A registry that sends more than it said would fill the disk.
    fn check_size(&self) -> Result<(), Error> {
        let expected = self.descriptor.size;
        match expected > 0 && self.size > expected {
            true => Err(Error::DigestMismatch {
                what: "a layer".to_owned(),
                expected: format!("{} of {expected} bytes", self.descriptor.digest),
                found: format!("at least {} bytes", self.size),
            }),
            false => Ok(()),
        }
    }
}
