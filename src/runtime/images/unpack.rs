//! Unpacks a layer's tar archive into the form overlayfs wants.
//!
//! Whiteouts (`.wh.name`, `.wh..wh..opq`, image-spec layer.md) become character devices 0/0 and
//! the attribute `trusted.overlay.opaque`. Directories that an archive only implies get the
//! owner and mode they have in the layers below, as if it had been unpacked onto them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tar::EntryType;

use super::error::{Context, Error};
use super::tree::{self, OPAQUE, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// Attributes in PAX headers.
const PAX_XATTR: &[u8] = b"SCHILY.xattr.";

/// Unpacks `archive` to `target`, an empty directory; `lower` are the layers below, top first.
/// Answers the bytes of all files.
pub(super) fn unpack(archive: impl Read, target: &Path, lower: &[PathBuf]) -> Result<u64, Error> {
    let mut archive = tar::Archive::new(archive);
    let tree = Tree::new(target, lower);
    let mut unpacker = Unpacker { target, tree, times: BTreeMap::new(), bytes: 0 };
    for entry in archive.entries().on(target)? {
        unpacker.entry(entry.on(target)?)?;
    }
    // Last, since each file changes its directory's; the deepest first.
    for (path, time) in unpacker.times.iter().rev() {
        set_time(path, *time)?;
    }
    Ok(unpacker.bytes)
}

struct Unpacker<'a> {
    target: &'a Path,
    tree: Tree<'a>,
    /// Modification times of directories.
    times: BTreeMap<PathBuf, TimeSpec>,
    bytes: u64,
}

/// What an entry says beside its content.
#[derive(Debug)]
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    time: TimeSpec,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = entry.path_bytes().into_owned();
        let Some(mut names) = tree::clean(&path) else { return Err(self.escapes(&path)) };
        let attributes = attributes(&mut entry).on(self.target)?;
        let Some(name) = names.pop() else {
            // The root itself.
            return self.dress(self.target.to_owned(), &attributes, true);
        };
        let parent = self.parent(&names)?;
        if name.as_bytes() == OPAQUE_WHITEOUT {
            return make_opaque(&parent);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.white_out(&parent, hidden, &path);
        }
        let place = parent.join(&name);
        if kind == EntryType::Directory {
            self.directory(&place)?;
            return self.dress(place, &attributes, true);
        }
        self.clear(&place)?;
        match kind {
            EntryType::Symlink => {
                let link = entry.link_name_bytes().unwrap_or_default();
                symlink(OsStr::from_bytes(&link), &place).on(&place)?;
            }
            // It shares the attributes of what it links to.
            EntryType::Link => {
                let link = entry.link_name_bytes().unwrap_or_default().into_owned();
                return self.hard_link(&link, &place);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                if !make_node(&place, kind, &entry)? {
                    return Ok(());
                }
            }
            _ => {
                let mut file = fs::File::create_new(&place).on(&place)?;
                self.bytes += io::copy(&mut entry, &mut file).on(&place)?;
            }
        }
        self.dress(place, &attributes, false)
    }

    /// Makes the directory `names` as far as it is missing, and answers where it is.
    fn parent(&self, names: &[OsString]) -> Result<PathBuf, Error> {
        let place = |names: &[OsString]| names.iter().fold(self.target.to_owned(), |p, n| p.join(n));
        let resolved = self.tree.resolve(names, |names, below| {
            let place = place(names);
            self.directory(&place)?;
            match below {
                Some((from, metadata)) => copy_attributes(&from, &metadata, &place),
                None => Ok(()),
            }
        })?;
        Ok(place(&resolved))
    }

    /// Makes a directory, unless it is there. One that takes the place of a deletion shows
    /// nothing of what was deleted.
    fn directory(&self, place: &Path) -> Result<(), Error> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(metadata) => {
                fs::remove_file(place).on(place)?;
                fs::create_dir(place).on(place)?;
                match tree::is_whiteout(&metadata) {
                    true => make_opaque(place),
                    false => Ok(()),
                }
            }
            Err(_) => fs::create_dir(place).on(place),
        }
    }

    /// Removes what an earlier entry has put here.
    fn clear(&mut self, place: &Path) -> Result<(), Error> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => {
                self.times.retain(|path, _| !path.starts_with(place));
                fs::remove_dir_all(place).on(place)
            }
            Ok(_) => fs::remove_file(place).on(place),
            Err(_) => Ok(()),
        }
    }

    /// Hides `name` of the layers below; what this layer has itself stays.
    fn white_out(&self, parent: &Path, name: &[u8], path: &[u8]) -> Result<(), Error> {
        // Names that begin so are notes of aufs, of no use here.
        if name.starts_with(WHITEOUT) {
            return Ok(());
        }
        if matches!(name, b"" | b"." | b"..") {
            return Err(self.escapes(path));
        }
        let place = parent.join(OsStr::from_bytes(name));
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => make_opaque(&place),
            Ok(_) => Ok(()),
            Err(_) => mknod(&place, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).on(&place),
        }
    }

    fn hard_link(&mut self, link: &[u8], place: &Path) -> Result<(), Error> {
        let Some(mut names) = tree::clean(link) else { return Err(self.escapes(link)) };
        let last = names.pop();
        let mut resolved = self.tree.resolve(&names, |_, _| Ok(()))?;
        resolved.extend(last);
        match self.tree.find(&resolved)? {
            Some((0, from, _)) => fs::hard_link(&from, place).on(place),
            Some((_, from, metadata)) if metadata.is_file() => {
                self.bytes += fs::copy(&from, place).on(place)?;
                copy_attributes(&from, &metadata, place)
            }
            _ => {
                let what = String::from_utf8_lossy(link).into_owned();
                Err(Error::invalid("layer", format!("a hard link to {what:?}, which is not there")))
            }
        }
    }

    /// Sets owner, mode, attributes and time, in the order in which each keeps the others.
    fn dress(&mut self, place: PathBuf, attributes: &Attributes, is_dir: bool) -> Result<(), Error> {
        let metadata = fs::symlink_metadata(&place).on(&place)?;
        lchown(&place, Some(attributes.uid), Some(attributes.gid)).on(&place)?;
        if !metadata.is_symlink() {
            let mode = fs::Permissions::from_mode(attributes.mode & 0o7777);
            fs::set_permissions(&place, mode).on(&place)?;
        }
        for (name, value) in &attributes.xattrs {
            set_xattr(&place, name, value)?;
        }
        match is_dir {
            true => drop(self.times.insert(place, attributes.time)),
            false => set_time(&place, attributes.time)?,
        }
        Ok(())
    }

    fn escapes(&self, path: &[u8]) -> Error {
        let path = String::from_utf8_lossy(path);
        Error::invalid("layer", format!("its entry {path:?} would leave the image's root"))
    }
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Attributes> {
    let mut xattrs = Vec::new();
    let header = entry.header();
    let old = header.as_old();
    // Some archivers leave blank what is 0.
    let number = |field: &[u8], value: io::Result<u64>| match field.iter().all(|b| matches!(b, 0 | b' ')) {
        true => Ok(0),
        false => value,
    };
    let mut time = TimeSpec::new(number(&old.mtime, header.mtime())? as i64, 0);
    let (uid, gid) = (number(&old.uid, header.uid())? as u32, number(&old.gid, header.gid())? as u32);
    let mode = number(&old.mode, header.mode().map(u64::from))? as u32;
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key_bytes().strip_prefix(PAX_XATTR) {
            xattrs.push((OsStr::from_bytes(name).to_owned(), extension.value_bytes().to_vec()));
        } else if extension.key_bytes() == b"mtime" {
            time = extension.value().ok().and_then(pax_time).unwrap_or(time);
        }
    }
    Ok(Attributes { uid, gid, mode, time, xattrs })
}

/// `seconds.fraction`, as POSIX pax writes times.
fn pax_time(text: &str) -> Option<TimeSpec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(TimeSpec::new(seconds.parse().ok()?, digits.parse().ok()?))
}

fn set_time(place: &Path, time: TimeSpec) -> Result<(), Error> {
    utimensat(None, place, &time, &time, UtimensatFlags::NoFollowSymlink).on(place)
}

/// Attributes that the file system does not know are left out, as other runtimes do; those that
/// steer overlayfs are not an image's to set.
fn set_xattr(place: &Path, name: &OsStr, value: &[u8]) -> Result<(), Error> {
    if name.as_bytes().starts_with(b"trusted.overlay.") {
        return Ok(());
    }
    match xattr::set(place, name, value) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {
            tracing::debug!("{}: {} is not supported here", place.display(), name.display());
            Ok(())
        }
        result => result.on(place),
    }
}

fn make_opaque(place: &Path) -> Result<(), Error> {
    xattr::set(place, OPAQUE, b"y").on(place)
}

/// Makes a device or a pipe. A device 0/0 would be a deletion: it is left out.
fn make_node<R: Read>(place: &Path, kind: EntryType, entry: &tar::Entry<'_, R>) -> Result<bool, Error> {
    let header = entry.header();
    let number = |field: io::Result<Option<u32>>| Ok(u64::from(field.on(place)?.unwrap_or(0)));
    // Only devices have numbers: for pipes, some archivers leave blanks there.
    let (kind, major, minor) = match kind {
        EntryType::Fifo => (SFlag::S_IFIFO, 0, 0),
        EntryType::Char => (SFlag::S_IFCHR, number(header.device_major())?, number(header.device_minor())?),
        _ => (SFlag::S_IFBLK, number(header.device_major())?, number(header.device_minor())?),
    };
    if kind == SFlag::S_IFCHR && (major, minor) == (0, 0) {
        return Ok(false);
    }
    mknod(place, kind, Mode::empty(), makedev(major, minor)).on(place)?;
    Ok(true)
}

/// Gives `place` what `from` has, which belongs to a layer below.
fn copy_attributes(from: &Path, metadata: &Metadata, place: &Path) -> Result<(), Error> {
    lchown(place, Some(metadata.uid()), Some(metadata.gid())).on(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(metadata.mode() & 0o7777)).on(place)?;
    for name in xattr::list(from).on(from)? {
        if let Some(value) = xattr::get(from, &name).on(from)? {
            set_xattr(place, &name, &value)?;
        }
    }
    set_time(place, TimeSpec::new(metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests;
