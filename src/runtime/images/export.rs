//! Images as an archive: an OCI layout that is also what `docker save` makes, so that everybody takes it.
//!
//! Layers are unpacked and their archives thrown away: they are packed anew, always in the same way. Each is
//! packed twice, once to learn its size and digest and once into the archive, so that no disk is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::Images;
use super::digest;
use super::error::{Context, Error};
use super::ingest;
use super::pack;

/// A member of the archive that is small, or a layer.
enum Blob {
    Bytes(Vec<u8>),
    Layer(PathBuf),
}

/// What goes into the archive.
#[derive(Default)]
struct Contents {
    /// By digest, with their sizes.
    blobs: BTreeMap<String, (u64, Blob)>,
    /// The digest and size of a layer that is packed already.
    packed: BTreeMap<PathBuf, (String, u64)>,
    index: Vec<Value>,
    docker: Vec<Value>,
}

pub(super) fn export(images: &Images, names: &[String], to: impl Write) -> Result<(), Error> {
    let _kept = ingest::keep_layers(&images.0.root)?;
    let mut contents = Contents::default();
    let mut taken = BTreeSet::new();
    for name in names {
        let image = images.resolve(name).ok_or_else(|| Error::Unknown(name.clone()))?;
        if taken.insert(image.id.clone()) {
            contents.image(images, &image.id, &image.tags)?;
        }
    }
    contents.write(to).map_err(|e| Error::io(&images.0.root, e))
}

impl Contents {
    fn image(&mut self, images: &Images, id: &str, tags: &[String]) -> Result<(), Error> {
        let path = images.0.blob(id);
        let bytes = fs::read(&path).on(&path)?;
        let mut config: Value = serde_json::from_slice(&bytes).map_err(|e| Error::invalid(id, e))?;
        let (mut diff_ids, mut layers) = (Vec::new(), Vec::new());
        for path in images.layers(id)?.into_iter().rev() {
            let (digest, size) = self.layer(path)?;
            layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}));
            diff_ids.push(digest);
        }
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = self.document("application/vnd.oci.image.config.v1+json", config.to_string());
        let paths: Vec<String> = diff_ids.iter().map(|d| blob_path(d)).collect();
        let config_path = blob_path(config["digest"].as_str().unwrap_or_default());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let manifest = self.document(kind, manifest.to_string());
        for tag in tags.iter().map(Some).chain(tags.is_empty().then_some(None)) {
            let mut descriptor = manifest.clone();
            if let Some(tag) = tag {
                let short = tag.rsplit(':').next().unwrap_or_default();
                descriptor["annotations"] =
                    json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": short});
            }
            self.index.push(descriptor);
        }
        self.docker.push(json!({"Config": config_path, "RepoTags": tags, "Layers": paths}));
        Ok(())
    }

    fn layer(&mut self, path: PathBuf) -> Result<(String, u64), Error> {
        if let Some(known) = self.packed.get(&path) {
            return Ok(known.clone());
        }
        let mut counter = Counter { size: 0, hasher: Sha256::new() };
        pack::pack(&path, &mut counter).on(&path)?;
        let found = (digest::finish(counter.hasher), counter.size);
        self.blobs.insert(found.0.clone(), (found.1, Blob::Layer(path.clone())));
        self.packed.insert(path, found.clone());
        Ok(found)
    }

    fn document(&mut self, kind: &str, text: String) -> Value {
        let bytes = text.into_bytes();
        let (digest, size) = (digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest.clone(), (size, Blob::Bytes(bytes)));
        json!({"mediaType": kind, "digest": digest, "size": size})
    }

    fn write(self, to: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(to);
        for dir in ["blobs/", "blobs/sha256/"] {
            header(&mut tar, dir, 0, EntryType::Directory)?;
        }
        for (digest, (size, blob)) in self.blobs {
            header(&mut tar, &blob_path(&digest), size, EntryType::Regular)?;
            match blob {
                Blob::Bytes(bytes) => tar.get_mut().write_all(&bytes)?,
                Blob::Layer(path) => pack::pack(&path, tar.get_mut())?,
            }
            pad(&mut tar, size)?;
        }
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.index});
        for (name, value) in [
            ("index.json", index),
            ("manifest.json", Value::from(self.docker)),
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ] {
            let bytes = value.to_string().into_bytes();
            header(&mut tar, name, bytes.len() as u64, EntryType::Regular)?;
            tar.get_mut().write_all(&bytes)?;
            pad(&mut tar, bytes.len() as u64)?;
        }
        tar.into_inner()?.flush()
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn header(tar: &mut Builder<impl Write>, name: &str, size: u64, kind: EntryType) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_cksum();
    tar.get_mut().write_all(header.as_bytes())
}

/// Members fill whole blocks.
fn pad(tar: &mut Builder<impl Write>, size: u64) -> io::Result<()> {
    let missing = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
    tar.get_mut().write_all(&[0; 512][..missing])
}

/// Counts and hashes what is written.
struct Counter {
    size: u64,
    hasher: Sha256,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
