//! Unpacks a layer's tar archive into the form overlayfs wants.
//!
//! Whiteouts (`.wh.name`, `.wh..wh..opq`, image-spec layer.md) become character devices 0/0 and
//! the attribute `trusted.overlay.opaque`. Directories that an archive only implies get the
//! owner and mode they have in the layers below, as if it had been unpacked onto them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use tar::{EntryType, Header};

use super::error::{Context, Error};
use super::sparse::Sparse;
use super::tarball::{Member, Tarball};
use super::tree::{self, OPAQUE, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// Attributes in PAX headers.
const PAX_XATTR: &[u8] = b"SCHILY.xattr.";
/// Files are copied in pieces of this size.
const BUFFER: usize = 128 << 10;

/// Unpacks `archive` to `target`, an empty directory; `lower` are the layers below, top first.
/// Answers the bytes of all files.
pub(super) fn unpack(archive: impl Read, target: &Path, lower: &[PathBuf]) -> Result<u64, Error> {
    let mut archive = Tarball::new(archive);
    let mut unpacker = Unpacker {
        target,
        lower,
        tree: Tree::new(target, lower),
        times: BTreeMap::new(),
        parents: HashMap::new(),
        bytes: 0,
        buffer: vec![0; BUFFER],
    };
    while let Some(member) = archive.next().map_err(|e| unreadable(target, e))? {
        unpacker.entry(&mut archive, member)?;
    }
    // Last, since each file changes its directory's; the deepest first.
    for (path, time) in unpacker.times.iter().rev() {
        set_time(path, *time)?;
    }
    Ok(unpacker.bytes)
}

struct Unpacker<'a> {
    target: &'a Path,
    lower: &'a [PathBuf],
    tree: Tree<'a>,
    /// Modification times of directories.
    times: BTreeMap<PathBuf, TimeSpec>,
    /// Where directories are, as entries call them: looking them up takes a walk through all layers.
    parents: HashMap<Vec<OsString>, PathBuf>,
    bytes: u64,
    buffer: Vec<u8>,
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
    fn entry(&mut self, content: &mut impl Read, member: Member) -> Result<(), Error> {
        let kind = member.kind();
        let attributes = attributes(&member).map_err(|e| unreadable(self.target, e))?;
        let (path, link) = (member.path, member.link);
        let Some(mut names) = tree::clean(&path) else { return Err(self.escapes(&path)) };
        let Some(name) = names.pop() else {
            // The root itself.
            return self.dress(self.target.to_owned(), &attributes, true);
        };
        let parent = self.parent(names)?;
        if name.as_bytes() == OPAQUE_WHITEOUT {
            return self.opaque(&parent);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.white_out(&parent, hidden, &path);
        }
        let place = parent.join(&name);
        match kind {
            EntryType::Directory => {
                self.directory(&place)?;
                return self.dress(place, &attributes, true);
            }
            EntryType::Symlink => {
                self.instead(&place, || symlink(OsStr::from_bytes(&link), &place))?;
            }
            // It shares the attributes of what it links to.
            EntryType::Link => return self.hard_link(&link, &place),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let Some((kind, device)) = node(&place, &member.header)? else { return self.clear(&place) };
                self.instead(&place, || Ok(mknod(&place, kind, Mode::empty(), device)?))?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return self.file(&place, content, member.sparse, &attributes);
            }
            other => {
                let (path, other) = (String::from_utf8_lossy(&path), char::from(other.as_byte()));
                return Err(Error::invalid(
                    "layer",
                    format!("its entry {path:?} is of unknown type {other:?}"),
                ));
            }
        }
        self.dress(place, &attributes, false)
    }

    /// Writes a file and dresses it while it is open.
    fn file(
        &mut self,
        place: &Path,
        content: &mut impl Read,
        sparse: Sparse,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let mut file = self.instead(place, || File::create_new(place))?;
        if sparse.is_some() {
            self.bytes += sparse.write(content, &mut file).map_err(|e| unreadable(place, e))?;
        } else {
            loop {
                match content.read(&mut self.buffer).map_err(|e| unreadable(place, e))? {
                    0 => break,
                    n => {
                        file.write_all(&self.buffer[..n]).on(place)?;
                        self.bytes += n as u64;
                    }
                }
            }
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let fd = file.as_raw_fd();
        fchown(fd, Some(uid), Some(gid)).on(place)?;
        fchmod(fd, Mode::from_bits_truncate(attributes.mode & 0o7777)).on(place)?;
        for (name, value) in &attributes.xattrs {
            set_xattr(place, name, value)?;
        }
        futimens(fd, &attributes.time, &attributes.time).on(place)
    }

    /// Makes something, in the place of what an earlier entry has put there.
    fn instead<T>(&mut self, place: &Path, make: impl Fn() -> io::Result<T>) -> Result<T, Error> {
        match make() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.clear(place)?;
                make().on(place)
            }
            result => result.on(place),
        }
    }

    /// Makes the directory `names` as far as it is missing, and answers where it is.
    fn parent(&mut self, names: Vec<OsString>) -> Result<PathBuf, Error> {
        if let Some(known) = self.parents.get(&names) {
            return Ok(known.clone());
        }
        let place = |names: &[OsString]| names.iter().fold(self.target.to_owned(), |p, n| p.join(n));
        let resolved = self.tree.resolve(&names, |names, below| {
            let place = place(names);
            make_directory(&place)?;
            match below {
                Some((from, metadata)) => copy_attributes(&from, &metadata, &place),
                None => Ok(()),
            }
        })?;
        let place = place(&resolved);
        self.parents.insert(names, place.clone());
        Ok(place)
    }

    /// Makes a directory, unless it is there.
    fn directory(&mut self, place: &Path) -> Result<(), Error> {
        if make_directory(place)? {
            self.parents.clear();
        }
        Ok(())
    }

    /// Removes what an earlier entry has put here.
    fn clear(&mut self, place: &Path) -> Result<(), Error> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => {
                self.times.retain(|path, _| !path.starts_with(place));
                self.parents.clear();
                fs::remove_dir_all(place).on(place)
            }
            Ok(metadata) => {
                if metadata.is_symlink() {
                    self.parents.clear();
                }
                fs::remove_file(place).on(place)
            }
            Err(_) => Ok(()),
        }
    }

    /// Hides all that the layers below have in a directory.
    fn opaque(&self, place: &Path) -> Result<(), Error> {
        if place != self.target {
            return make_opaque(place);
        }
        // overlayfs does not look at the root's own attribute.
        for layer in self.lower {
            for entry in fs::read_dir(layer).on(layer)? {
                let name = entry.on(layer)?.file_name();
                self.hide(&place.join(name))?;
            }
        }
        Ok(())
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
        self.hide(&parent.join(OsStr::from_bytes(name)))
    }

    fn hide(&self, place: &Path) -> Result<(), Error> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => make_opaque(place),
            Ok(_) => Ok(()),
            Err(_) => mknod(place, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).on(place),
        }
    }

    fn hard_link(&mut self, link: &[u8], place: &Path) -> Result<(), Error> {
        let Some(mut names) = tree::clean(link) else { return Err(self.escapes(link)) };
        let last = names.pop();
        let mut resolved = self.tree.resolve(&names, |_, _| Ok(()))?;
        resolved.extend(last);
        let from = match self.tree.find(&resolved)? {
            Some((0, from, _)) => from,
            // Both names must lead to one file: that of the layer below is taken into this one first.
            Some((_, from, metadata)) if !metadata.is_dir() => {
                let name = resolved.pop().unwrap_or_default();
                let copy = self.parent(resolved)?.join(name);
                self.bytes += copy_up(&from, &metadata, &copy)?;
                copy
            }
            _ => {
                let what = String::from_utf8_lossy(link).into_owned();
                return Err(Error::invalid("layer", format!("a hard link to {what:?}, which is not there")));
            }
        };
        match from == place {
            true => Ok(()),
            false => self.instead(place, || fs::hard_link(&from, place)),
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

fn attributes(member: &Member) -> io::Result<Attributes> {
    let (header, mut xattrs) = (&member.header, Vec::new());
    let old = header.as_old();
    // Some archivers leave blank what is 0.
    let number = |field: &[u8], value: io::Result<u64>| match field.iter().all(|b| matches!(b, 0 | b' ')) {
        true => Ok(0),
        false => value,
    };
    let id = |value: u64| u32::try_from(value).map_err(|_| io::Error::other("an owner is out of range"));
    let uid = member.number("uid")?.map_or_else(|| number(&old.uid, header.uid()), Ok)?;
    let gid = member.number("gid")?.map_or_else(|| number(&old.gid, header.gid()), Ok)?;
    let mode = number(&old.mode, header.mode().map(u64::from))? as u32;
    let told = member.record("mtime").and_then(|t| pax_time(std::str::from_utf8(t).ok()?));
    let time = match told {
        Some(time) => time,
        None => TimeSpec::new(number(&old.mtime, header.mtime())? as i64, 0),
    };
    for (key, value) in &member.records {
        if let Some(name) = key.strip_prefix(PAX_XATTR) {
            xattrs.push((OsStr::from_bytes(name).to_owned(), value.clone()));
        }
    }
    Ok(Attributes { uid: id(uid)?, gid: id(gid)?, mode, time, xattrs })
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

/// Makes a directory, unless it is there; answers whether something else had to go. One that takes the
/// place of a deletion shows nothing of what was deleted.
fn make_directory(place: &Path) -> Result<bool, Error> {
    match fs::create_dir(place) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result.on(place).map(|()| false),
    }
    let metadata = fs::symlink_metadata(place).on(place)?;
    if metadata.is_dir() {
        return Ok(false);
    }
    fs::remove_file(place).on(place)?;
    fs::create_dir(place).on(place)?;
    if tree::is_whiteout(&metadata) {
        make_opaque(place)?;
    }
    Ok(true)
}

/// What kind of device or pipe an entry is. A device 0/0 would be a deletion: it is left out.
fn node(place: &Path, header: &Header) -> Result<Option<(SFlag, u64)>, Error> {
    let number = |field: io::Result<Option<u32>>| Ok(u64::from(field.on(place)?.unwrap_or(0)));
    // Only devices have numbers: for pipes, some archivers leave blanks there.
    let (kind, major, minor) = match header.entry_type() {
        EntryType::Fifo => (SFlag::S_IFIFO, 0, 0),
        EntryType::Char => (SFlag::S_IFCHR, number(header.device_major())?, number(header.device_minor())?),
        _ => (SFlag::S_IFBLK, number(header.device_major())?, number(header.device_minor())?),
    };
    let is_deletion = kind == SFlag::S_IFCHR && (major, minor) == (0, 0);
    Ok((!is_deletion).then(|| (kind, makedev(major, minor))))
}

/// Takes a file of a layer below into this one; answers its bytes.
fn copy_up(from: &Path, metadata: &Metadata, place: &Path) -> Result<u64, Error> {
    let kind = metadata.file_type();
    let mut bytes = 0;
    if kind.is_symlink() {
        symlink(fs::read_link(from).on(from)?, place).on(place)?;
    } else if kind.is_file() {
        bytes = fs::copy(from, place).on(place)?;
    } else {
        let kind = SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
        mknod(place, kind, Mode::empty(), metadata.rdev()).on(place)?;
    }
    copy_attributes(from, metadata, place)?;
    Ok(bytes)
}

/// What an archive should have brought, and did not; or a disk that fails.
fn unreadable(place: &Path, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::io(place, error),
        None => Error::invalid("layer", error),
    }
}

/// Gives `place` what `from` has, which belongs to a layer below.
fn copy_attributes(from: &Path, metadata: &Metadata, place: &Path) -> Result<(), Error> {
    lchown(place, Some(metadata.uid()), Some(metadata.gid())).on(place)?;
    if !metadata.is_symlink() {
        fs::set_permissions(place, fs::Permissions::from_mode(metadata.mode() & 0o7777)).on(place)?;
    }
    for name in xattr::list(from).on(from)? {
        if let Some(value) = xattr::get(from, &name).on(from)? {
            set_xattr(place, &name, &value)?;
        }
    }
    set_time(place, TimeSpec::new(metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests;
