//! Importing archives: `docker save` (image-spec v1.2 of Docker) and OCI layouts in a tar file.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::digest;
use super::error::{Context, Error};
use super::ingest;
use super::manifest::{Config, Descriptor, Document, Manifest};
use super::members::{Members, Source, blob_path};
use super::name;
use super::platform::Platform;
use super::search::Search;
use super::store::{Finished, Inner};
use crate::runtime::spec::Image;

/// How an archive is to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The name of its only image, instead of the one it has.
    pub name: Option<String>,
    /// Its images are never collected.
    pub pinned: bool,
}

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

pub(super) fn import(inner: &Inner, source: Source, options: &ImportOptions) -> Result<Vec<Image>, Error> {
    let dir = ingest::path(&inner.root);
    fs::create_dir_all(&dir).on(&dir)?;
    let _kept = ingest::keep_layers(&inner.root)?;
    let result = Members::of(source, &dir).and_then(|members| {
        let import = Import { inner, members: &members, options };
        match members.has("manifest.json") {
            true => import.docker(),
            false => import.oci(),
        }
    });
    fs::remove_dir_all(&dir).on(&dir)?;
    result
}

/// Takes what can be taken. An error only if that is nothing.
fn all<T>(
    images: impl IntoIterator<Item = T>,
    mut take: impl FnMut(T) -> Result<Image, Error>,
) -> Result<Vec<Image>, Error> {
    let (mut taken, mut failed) = (Vec::new(), None);
    for image in images {
        match take(image) {
            Ok(image) => taken.push(image),
            Err(error @ Error::NoPlatform { .. }) => {
                tracing::warn!(%error, "an image of the archive is left out");
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if taken.is_empty() => Err(error),
        _ if taken.is_empty() => Err(Error::Archive("it has no image".to_owned())),
        _ => Ok(taken),
    }
}

/// An archive being taken.
struct Import<'a> {
    inner: &'a Inner,
    members: &'a Members,
    options: &'a ImportOptions,
}

impl Import<'_> {
    fn docker(&self) -> Result<Vec<Image>, Error> {
        let list = self.members.document("manifest.json")?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&list).map_err(|e| Error::Archive(format!("manifest.json: {e}")))?;
        self.check_name(images.len())?;
        all(images, |image| {
            let tags = self.names(image.repo_tags.unwrap_or_default());
            let label = tags.first().unwrap_or(&image.config).clone();
            let config = self.members.document(&image.config)?;
            let layers = self.unpack(&label, &config, &image.layers)?;
            let tags = tags.iter().map(|tag| Ok(name::tagged(&name::parse(tag)?)));
            let tags = tags.filter_map(Result::transpose).collect::<Result<_, Error>>()?;
            let pinned = self.options.pinned;
            self.inner.add(Finished { config, layers, tags, pinned, ..Finished::default() })
        })
    }

    fn oci(&self) -> Result<Vec<Image>, Error> {
        if !self.members.has("index.json") {
            let what = "it has neither index.json (OCI) nor manifest.json (docker save)";
            return Err(Error::Archive(what.to_owned()));
        }
        let manifests = match Document::parse("index.json", &self.members.document("index.json")?)? {
            Document::Index(manifests) => manifests,
            Document::Manifest(_) => return Err(Error::Archive("index.json is no index".to_owned())),
        };
        // Several of one name are for several platforms.
        let mut named: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
        for (number, descriptor) in manifests.into_iter().enumerate() {
            let key = name_of(&descriptor).unwrap_or_else(|| format!("@{number}"));
            named.entry(key).or_default().push(descriptor);
        }
        self.check_name(named.len())?;
        all(named, |(key, candidates)| self.oci_image(&key, &candidates))
    }

    fn oci_image(&self, key: &str, candidates: &[Descriptor]) -> Result<Image, Error> {
        let names = self.names((!key.starts_with('@')).then(|| key.to_owned()).into_iter().collect());
        let label = names.first().map_or("without a name", String::as_str);
        let (manifest, bytes, config) = self.find(label, candidates)?;
        let paths = manifest.layers.iter().map(|layer| blob_path(label, &layer.digest));
        let layers = self.unpack(label, &config, &paths.collect::<Result<Vec<_>, _>>()?)?;
        let references = names.iter().map(|tag| name::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        let digest = match candidates {
            [only] => only.digest.clone(),
            _ => digest::of(&bytes),
        };
        self.inner.add(Finished {
            config,
            manifest: Some(bytes),
            layers,
            tags: references.iter().filter_map(name::tagged).collect(),
            digests: references.iter().map(|r| name::with_digest(r, &digest)).collect(),
            pinned: self.options.pinned,
        })
    }

    /// The manifest and the configuration for this machine that one of the candidates leads to.
    fn find(&self, label: &str, candidates: &[Descriptor]) -> Result<(Manifest, Vec<u8>, Vec<u8>), Error> {
        let mut search = Search::new(label, Platform::host(), candidates);
        loop {
            let (chosen, depth) = search.next()?;
            let bytes = self.members.blob(label, &chosen.digest)?;
            match Document::parse(label, &bytes)? {
                Document::Index(manifests) => search.push(&manifests, depth),
                Document::Manifest(manifest) => {
                    let config = self.members.blob(label, &manifest.config.digest)?;
                    if search.accepts(Some(&chosen), &Config::parse(label, &config)?.platform) {
                        return Ok((manifest, bytes, config));
                    }
                }
            }
        }
    }

    /// Unpacks the layers of an image, which the configuration verifies; answers their chain ids.
    fn unpack(&self, label: &str, config: &[u8], paths: &[String]) -> Result<Vec<String>, Error> {
        let config = Config::parse(label, config)?;
        let chains = config.chains(label, paths.len())?;
        for (number, path) in paths.iter().enumerate() {
            let (chain, layers) = (&chains[number], &self.inner.layers);
            if !layers.exists(chain) {
                let file = self.members.open(path)?;
                layers.make(chain, &config.diff_ids[number], &chains[..number], file)?;
            }
        }
        Ok(chains)
    }

    fn names(&self, own: Vec<String>) -> Vec<String> {
        self.options.name.clone().map_or(own, |name| vec![name])
    }

    fn check_name(&self, images: usize) -> Result<(), Error> {
        match (&self.options.name, images) {
            (Some(name), 2..) => {
                Err(Error::Archive(format!("it has {images} images, which cannot all be called {name}")))
            }
            _ => Ok(()),
        }
    }
}

/// The name an OCI tool has given: containerd's annotation is whole, OCI's may be just a tag.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key| descriptor.annotations.get(key).cloned();
    let oci = annotation("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/']));
    annotation("io.containerd.image.name").or(oci)
}
