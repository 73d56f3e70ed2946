//! Importing archives: `docker save` (image-spec v1.2 of Docker) and OCI layouts in a tar file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tar::EntryType;

use super::compression;
use super::digest;
use super::error::{Context, Error};
use super::ingest;
use super::manifest::{Config, Descriptor, Document, Manifest, Platform, choose};
use super::{Finished, Inner, name};
use crate::runtime::spec::Image;

/// Manifests and the like are small.
const MAX_DOCUMENT: u64 = 8 << 20;

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

pub(super) fn import(inner: &Inner, reader: impl Read) -> Result<Vec<Image>, Error> {
    let dir = ingest::path(&inner.root);
    fs::create_dir_all(&dir).on(&dir)?;
    let _kept = ingest::keep_layers(&inner.root)?;
    let result = Archive::spool(reader, &dir).and_then(|archive| match archive.has("manifest.json") {
        true => docker(inner, &archive),
        false => oci(inner, &archive),
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

fn docker(inner: &Inner, archive: &Archive) -> Result<Vec<Image>, Error> {
    let list = archive.document("manifest.json")?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&list).map_err(|e| Error::Archive(format!("manifest.json: {e}")))?;
    all(images, |image| {
        let tags = image.repo_tags.unwrap_or_default();
        let label = tags.first().unwrap_or(&image.config).clone();
        let config = archive.document(&image.config)?;
        let layers = unpack(inner, archive, &label, &config, &image.layers)?;
        let tags = tags.iter().map(|tag| Ok(name::tagged(&name::parse(tag)?)));
        let tags = tags.filter_map(Result::transpose).collect::<Result<_, Error>>()?;
        inner.add(Finished { config, manifest: None, layers, tags, digests: Vec::new() })
    })
}

fn oci(inner: &Inner, archive: &Archive) -> Result<Vec<Image>, Error> {
    if !archive.has("index.json") {
        let what = "it has neither index.json (OCI) nor manifest.json (docker save)";
        return Err(Error::Archive(what.to_owned()));
    }
    let manifests = match Document::parse("index.json", &archive.document("index.json")?)? {
        Document::Index(manifests) => manifests,
        Document::Manifest(_) => return Err(Error::Archive("index.json is no index".to_owned())),
    };
    // Several of one name are for several platforms.
    let mut named: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    for (number, descriptor) in manifests.into_iter().enumerate() {
        let key = name_of(&descriptor).unwrap_or_else(|| format!("@{number}"));
        named.entry(key).or_default().push(descriptor);
    }
    all(named, |(key, candidates)| {
        let tag = (!key.starts_with('@')).then(|| key.clone());
        let label = tag.clone().unwrap_or_else(|| "without a name".to_owned());
        let top = match candidates.as_slice() {
            [only] => only,
            several => choose(&label, several, &Platform::host())?,
        };
        let (manifest, bytes) = archive.manifest(&label, top)?;
        let config = archive.blob(&label, &manifest.config.digest)?;
        let paths = manifest.layers.iter().map(|layer| blob_path(&label, &layer.digest));
        let layers = unpack(inner, archive, &label, &config, &paths.collect::<Result<Vec<_>, _>>()?)?;
        let reference = tag.map(|tag| name::parse(&tag)).transpose()?;
        inner.add(Finished {
            config,
            manifest: Some(bytes),
            layers,
            tags: reference.iter().filter_map(name::tagged).collect(),
            digests: reference.iter().map(|r| name::with_digest(r, &top.digest)).collect(),
        })
    })
}

/// The name an OCI tool has given: containerd's annotation is whole, OCI's may be just a tag.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key| descriptor.annotations.get(key).cloned();
    let oci = annotation("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/']));
    annotation("io.containerd.image.name").or(oci)
}

/// Unpacks the layers of an image, which the configuration verifies; answers their chain ids.
fn unpack(
    inner: &Inner,
    archive: &Archive,
    label: &str,
    config: &[u8],
    paths: &[String],
) -> Result<Vec<String>, Error> {
    let config = Config::parse(label, config)?;
    config.check_platform(label)?;
    if paths.len() != config.diff_ids.len() {
        let reason = format!("{} layers, but {} diff_ids", paths.len(), config.diff_ids.len());
        return Err(Error::invalid(label, reason));
    }
    for diff_id in &config.diff_ids {
        digest::validate(label, diff_id)?;
    }
    let chains = digest::chain_ids(&config.diff_ids);
    for (number, path) in paths.iter().enumerate() {
        let chain = &chains[number];
        if !inner.layers.exists(chain) {
            let file = archive.open(path)?;
            inner.layers.make(chain, &config.diff_ids[number], &chains[..number], file)?;
        }
    }
    Ok(chains)
}

fn blob_path(label: &str, digest: &str) -> Result<String, Error> {
    digest::validate(label, digest)?;
    Ok(digest.replacen(':', "/", 1)).map(|path| format!("blobs/{path}"))
}

/// The files of an archive, spooled: a pipe cannot be read twice.
struct Archive {
    files: HashMap<String, PathBuf>,
}

impl Archive {
    fn spool(reader: impl Read, dir: &Path) -> Result<Self, Error> {
        let unreadable = |e: io::Error| match e.raw_os_error() {
            Some(_) => Error::io(dir, e),
            None => Error::Archive(e.to_string()),
        };
        let mut tar = tar::Archive::new(compression::open(reader).map_err(unreadable)?);
        let (mut files, mut links) = (HashMap::new(), Vec::new());
        for (number, entry) in tar.entries().map_err(unreadable)?.enumerate() {
            let mut entry = entry.map_err(unreadable)?;
            let name = normal(&entry.path().map_err(unreadable)?);
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let path = dir.join(number.to_string());
                    let mut file = File::create_new(&path).on(&path)?;
                    io::copy(&mut entry, &mut file).map_err(unreadable)?;
                    files.insert(name, path);
                }
                // Old versions of Docker save a layer once and link to it.
                kind @ (EntryType::Link | EntryType::Symlink) => {
                    let link = entry.link_name().map_err(unreadable)?.unwrap_or_default().into_owned();
                    let base = Path::new(&name).parent().filter(|_| kind == EntryType::Symlink);
                    links.push((name.clone(), normal(&base.unwrap_or(Path::new("")).join(link))));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(path) = files.get(&target).cloned() {
                files.insert(name, path);
            }
        }
        Ok(Self { files })
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    fn open(&self, name: &str) -> Result<File, Error> {
        let path = self.files.get(&normal(Path::new(name)));
        let path = path.ok_or_else(|| Error::Archive(format!("it lacks {name}")))?;
        File::open(path).on(path)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open(name)?.take(MAX_DOCUMENT).read_to_end(&mut bytes).on(Path::new(name))?;
        Ok(bytes)
    }

    fn blob(&self, label: &str, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.document(&blob_path(label, digest)?)?;
        digest::check(&format!("a part of image {label}"), digest, &bytes)?;
        Ok(bytes)
    }

    /// The manifest for this machine that a descriptor leads to.
    fn manifest(&self, label: &str, descriptor: &Descriptor) -> Result<(Manifest, Vec<u8>), Error> {
        let bytes = self.blob(label, &descriptor.digest)?;
        match Document::parse(label, &bytes)? {
            Document::Manifest(manifest) => Ok((manifest, bytes)),
            Document::Index(manifests) => {
                let chosen = choose(label, &manifests, &Platform::host())?;
                let bytes = self.blob(label, &chosen.digest)?;
                match Document::parse(label, &bytes)? {
                    Document::Manifest(manifest) => Ok((manifest, bytes)),
                    Document::Index(_) => Err(Error::invalid(label, "an index within an index")),
                }
            }
        }
    }
}

/// A path without `.`, `..` and a leading `/`.
fn normal(path: &Path) -> String {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => names.push(name.to_string_lossy()),
            std::path::Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.join("/")
}
