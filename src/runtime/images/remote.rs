//! An image at one registry: its manifest, its configuration, its layers.

use std::path::Path;

use reqwest::{Response, StatusCode};

use super::digest;
use super::error::Error;
use super::manifest::{ACCEPTED, Config, Descriptor, Document, Manifest};
use super::partial::Partial;
use super::platform::Platform;
use super::registries::{Endpoint, RegistriesConfig};
use super::search::Search;
use super::session::{Failure, Session};

/// An image at one endpoint.
pub(super) struct Remote {
    session: Session,
    /// The image as the user called it, for errors.
    name: String,
}

/// An image for this machine.
#[derive(Debug)]
pub(super) struct Found {
    pub manifest: Manifest,
    pub bytes: Vec<u8>,
    /// What the name leads to: the digest of the manifest, or of the index it was chosen from.
    pub digest: String,
    /// The configuration's bytes.
    pub config: Vec<u8>,
}

impl Remote {
    pub(super) fn new(registries: &RegistriesConfig, endpoint: Endpoint, name: &str) -> Result<Self, Error> {
        Ok(Self { session: Session::new(registries, endpoint, name)?, name: name.to_owned() })
    }

    /// The image that `reference`, a tag or a digest, leads to on this machine, verified.
    pub(super) async fn find(&self, reference: &str) -> Result<Found, Error> {
        let bytes = self.document(reference).await?;
        let digest = digest::of(&bytes);
        let mut search = match Document::parse(&self.name, &bytes)? {
            // Whoever names one image means it: there may be an emulator for its processor.
            Document::Manifest(manifest) => {
                let config = self.config(&manifest).await?;
                return Ok(Found { manifest, bytes, digest, config });
            }
            Document::Index(manifests) => Search::new(&self.name, Platform::host(), &manifests),
        };
        loop {
            let (chosen, depth) = search.next()?;
            digest::validate(&self.name, &chosen.digest)?;
            let bytes = self.document(&chosen.digest).await?;
            match Document::parse(&self.name, &bytes) {
                Ok(Document::Index(manifests)) => search.push(&manifests, depth),
                Ok(Document::Manifest(manifest)) => {
                    let config = self.config(&manifest).await?;
                    let platform = Config::parse(&self.name, &config)?.platform;
                    if search.accepts(Some(&chosen), &platform) {
                        return Ok(Found { manifest, bytes, digest, config });
                    }
                }
                // Such as a signature beside the images.
                Err(Error::Invalid { .. }) if chosen.platform.is_none() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A manifest or index; verified if asked for by digest.
    async fn document(&self, reference: &str) -> Result<Vec<u8>, Error> {
        let path = format!("manifests/{reference}");
        let bytes = self.session.document(&path, ACCEPTED).await?;
        if reference.contains(':') {
            digest::check(&format!("manifest of {}", self.name), reference, &bytes)?;
        }
        Ok(bytes)
    }

    async fn config(&self, manifest: &Manifest) -> Result<Vec<u8>, Error> {
        let digest = manifest.config.digest.as_str();
        digest::validate(&self.name, digest)?;
        let path = format!("blobs/{digest}");
        let bytes = self.session.document(&path, &["*/*"]).await?;
        digest::check(&format!("configuration of {}", self.name), digest, &bytes)?;
        Ok(bytes)
    }

    /// Downloads a layer, going on with what has come before, and verifies it. `arrived` is told how
    /// many bytes there are.
    pub(super) async fn download(
        &self,
        descriptor: &Descriptor,
        root: &Path,
        arrived: impl Fn(u64),
    ) -> Result<Partial, Error> {
        digest::validate(&self.name, &descriptor.digest)?;
        let mut partial = Partial::open(root, descriptor).await?;
        let is_old = partial.size() > 0;
        let mut result = self.complete(&mut partial, &arrived).await;
        if is_old && matches!(result, Err(Error::DigestMismatch { .. })) {
            // What an earlier attempt has left was no good: once more, from the beginning.
            partial.restart().await?;
            result = self.complete(&mut partial, &arrived).await;
        }
        let Err(error) = result else { return Ok(partial) };
        if partial.size() == 0 || matches!(error, Error::Full { .. } | Error::DigestMismatch { .. }) {
            partial.discard();
        }
        Err(error)
    }

    async fn complete(&self, partial: &mut Partial, arrived: &impl Fn(u64)) -> Result<(), Error> {
        arrived(partial.size());
        let mut failures = 0;
        while !partial.is_complete() {
            let before = partial.size();
            let Err(failure) = self.go_on(partial, arrived).await else { break };
            if failure.again.is_none() {
                return Err(failure.error);
            }
            failures = if partial.size() > before { 1 } else { failures + 1 };
            partial.flush().await?;
            if partial.is_complete() {
                break;
            }
            if failures >= self.session.attempts() {
                return Err(failure.error);
            }
            self.session.pause(failure, failures).await?;
        }
        partial.verify()
    }

    /// Downloads what is missing, as far as the connection lasts.
    async fn go_on(&self, partial: &mut Partial, arrived: &impl Fn(u64)) -> Result<(), Failure> {
        let mut response = self.response(partial).await?;
        let is_rest =
            response.status() == StatusCode::PARTIAL_CONTENT && begins_at(&response, partial.size());
        if partial.size() > 0 && !is_rest {
            partial.restart().await?;
        }
        while let Some(chunk) = self.session.chunk(&mut response).await? {
            partial.write(chunk).await?;
            arrived(partial.size());
        }
        partial.flush().await?;
        match partial.missing() {
            None => Ok(()),
            Some(told) => Err(Failure { error: self.session.failed(told), again: Some(None) }),
        }
    }

    async fn response(&self, partial: &Partial) -> Result<Response, Failure> {
        let descriptor = partial.descriptor();
        let own = self.session.blob(&descriptor.digest, partial.size()).await;
        match own {
            Err(Failure { error: Error::NotFound { .. }, .. }) => {}
            own => return own,
        }
        let mut failure = Failure::from(self.session.failed(format!("blob {} unknown", descriptor.digest)));
        for url in &descriptor.urls {
            match self.session.foreign(url, partial.size()).await {
                Ok(response) => return Ok(response),
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }
}

/// Whether the bytes that come are those asked for.
fn begins_at(response: &Response, from: u64) -> bool {
    let range = response.headers().get(reqwest::header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.is_none_or(|range| range.trim_start().starts_with(&format!("bytes {from}-")))
}
