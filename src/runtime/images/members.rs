//! The files of an archive, as they are needed: in any order, and some twice.
//!
//! A tar file on a disk is read where it lies. What comes compressed or through a pipe is spooled first,
//! since it cannot be read twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::compression;
use super::digest;
use super::error::{Context, Error};

/// Manifests and the like are small.
const MAX_DOCUMENT: u64 = 8 << 20;
/// The first bytes of an archive tell whether it is compressed.
const BLOCK: usize = 512;

/// What an archive is read from.
pub(super) enum Source {
    /// A file of its own.
    File(File),
    /// Anything else.
    Stream(Box<dyn Read + Send>),
}

/// Where a member lies.
#[derive(Clone)]
enum Place {
    /// In a file of its own.
    Spooled(PathBuf),
    /// In the archive.
    Within { offset: u64, size: u64 },
}

/// The files of an archive by name.
pub(super) struct Members {
    archive: Option<File>,
    places: HashMap<String, Place>,
}

impl Members {
    /// Finds the members of an archive; `dir` is for what has to be spooled.
    pub(super) fn of(source: Source, dir: &Path) -> Result<Self, Error> {
        match source {
            Source::File(file) if is_plain(&file).on(dir)? => {
                let archive = file.try_clone().on(dir)?;
                let mut tar = tar::Archive::new(file);
                let entries = tar.entries_with_seek().map_err(|e| unreadable(dir, e))?;
                let places = collect(dir, entries, |entry, _| {
                    Ok(Place::Within { offset: entry.raw_file_position(), size: entry.size() })
                })?;
                Ok(Self { archive: Some(archive), places })
            }
            Source::File(file) => Self::spool(file, dir),
            Source::Stream(stream) => Self::spool(stream, dir),
        }
    }

    fn spool(stream: impl Read, dir: &Path) -> Result<Self, Error> {
        let mut tar = tar::Archive::new(compression::open(stream).map_err(|e| unreadable(dir, e))?);
        let entries = tar.entries().map_err(|e| unreadable(dir, e))?;
        let places = collect(dir, entries, |entry, number| {
            let path = dir.join(number.to_string());
            let mut file = File::create_new(&path).on(&path)?;
            copy(entry, &mut file, dir, &path)?;
            Ok(Place::Spooled(path))
        })?;
        Ok(Self { archive: None, places })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A member, from its beginning.
    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, Error> {
        let place = self.places.get(&normal(Path::new(name)));
        match (place, &self.archive) {
            (Some(Place::Spooled(path)), _) => Ok(Box::new(File::open(path).on(path)?)),
            (Some(Place::Within { offset, size }), Some(file)) => {
                Ok(Box::new(Window { file, at: *offset, end: offset + size }))
            }
            _ => Err(Error::Archive(format!("it lacks {name}"))),
        }
    }

    /// A small member.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open(name)?.take(MAX_DOCUMENT).read_to_end(&mut bytes).on(Path::new(name))?;
        Ok(bytes)
    }

    /// A small blob of an OCI layout, verified.
    pub(super) fn blob(&self, label: &str, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.document(&blob_path(label, digest)?)?;
        digest::check(&format!("a part of image {label}"), digest, &bytes)?;
        Ok(bytes)
    }
}

/// Where an OCI layout has a blob.
pub(super) fn blob_path(label: &str, digest: &str) -> Result<String, Error> {
    digest::validate(label, digest)?;
    Ok(digest.replacen(':', "/", 1)).map(|path| format!("blobs/{path}"))
}

/// A part of a file.
struct Window<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// Whether this is a tar file that can be read in any order.
fn is_plain(file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = [0; BLOCK];
    let n = file.read_at(&mut start, 0)?;
    Ok(n == BLOCK && &start[257..262] == b"ustar")
}

/// The place of each file, links followed.
fn collect<'a, R: Read + 'a>(
    dir: &Path,
    entries: impl Iterator<Item = io::Result<tar::Entry<'a, R>>>,
    mut place: impl FnMut(&mut tar::Entry<'a, R>, usize) -> Result<Place, Error>,
) -> Result<HashMap<String, Place>, Error> {
    let (mut places, mut links) = (HashMap::new(), Vec::new());
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| unreadable(dir, e))?;
        let name = normal(&entry.path().map_err(|e| unreadable(dir, e))?);
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let place = place(&mut entry, number)?;
                places.insert(name, place);
            }
            // Old versions of Docker save a layer once and link to it.
            kind @ (EntryType::Link | EntryType::Symlink) => {
                let link =
                    entry.link_name().map_err(|e| unreadable(dir, e))?.unwrap_or_default().into_owned();
                let base = Path::new(&name).parent().filter(|_| kind == EntryType::Symlink);
                links.push((name.clone(), normal(&base.unwrap_or(Path::new("")).join(link))));
            }
            _ => {}
        }
    }
    if places.is_empty() {
        return Err(Error::Archive("it has no files".to_owned()));
    }
    for (name, target) in links {
        if let Some(place) = places.get(&target).cloned() {
            places.insert(name, place);
        }
    }
    Ok(places)
}

/// Copies a member; what cannot be read is the archive's fault, what cannot be written the disk's.
fn copy(from: &mut impl Read, to: &mut File, dir: &Path, path: &Path) -> Result<(), Error> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer).map_err(|e| unreadable(dir, e))? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n]).on(path)?,
        }
    }
}

fn unreadable(dir: &Path, error: io::Error) -> Error {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(_) => Error::io(dir, error),
        // Such errors quote what they could not read, which may be anything.
        None if text.starts_with("numeric field") => {
            Error::Archive("it is no tar archive, or it is damaged".to_owned())
        }
        None if text.contains("failed to read entire block") => {
            Error::Archive("it ends in the middle".to_owned())
        }
        None => Error::Archive(text),
    }
}

/// A path without `.`, `..` and a leading `/`.
fn normal(path: &Path) -> String {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.join("/")
}
