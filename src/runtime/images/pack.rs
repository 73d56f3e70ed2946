//! A layer's directory as a tar archive: what `unpack` undoes. The same directory gives the same bytes.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::tree::{OPAQUE, is_whiteout};

/// Writes what lies in `root`.
pub(super) fn pack(root: &Path, to: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(to);
    tar.mode(tar::HeaderMode::Complete);
    let mut links = HashMap::new();
    let metadata = fs::symlink_metadata(root)?;
    extensions(&mut tar, root, &metadata)?;
    tar.append_data(&mut header_of(&metadata, EntryType::Directory), "./", io::empty())?;
    directory(&mut tar, root, Path::new(""), &mut links)?;
    tar.into_inner()?.flush()
}

type Links = HashMap<(u64, u64), PathBuf>;

fn directory(tar: &mut Builder<impl Write>, root: &Path, path: &Path, links: &mut Links) -> io::Result<()> {
    let place = root.join(path);
    let mut names = fs::read_dir(&place)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    if xattr::get(&place, OPAQUE)?.is_some_and(|v| v == b"y") {
        empty(tar, &path.join(".wh..wh..opq"))?;
    }
    for name in names {
        let (path, place) = (path.join(&name), place.join(&name));
        let metadata = fs::symlink_metadata(&place)?;
        if is_whiteout(&metadata) {
            let hidden = [b".wh.", name.as_bytes()].concat();
            empty(tar, &path.with_file_name(std::ffi::OsStr::from_bytes(&hidden)))?;
            continue;
        }
        if metadata.nlink() > 1 && !metadata.is_dir() {
            if let Some(first) = links.get(&(metadata.dev(), metadata.ino())) {
                let mut header = header_of(&metadata, EntryType::Link);
                tar.append_link(&mut header, &path, first)?;
                continue;
            }
            links.insert((metadata.dev(), metadata.ino()), path.clone());
        }
        entry(tar, &path, &place, &metadata)?;
        if metadata.is_dir() {
            directory(tar, root, &path, links)?;
        }
    }
    Ok(())
}

fn entry(tar: &mut Builder<impl Write>, path: &Path, place: &Path, metadata: &Metadata) -> io::Result<()> {
    extensions(tar, place, metadata)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let mut header = header_of(metadata, EntryType::Symlink);
        return tar.append_link(&mut header, path, fs::read_link(place)?);
    }
    if kind.is_file() {
        let mut header = header_of(metadata, EntryType::Regular);
        header.set_size(metadata.len());
        return tar.append_data(&mut header, path, fs::File::open(place)?);
    }
    let kind = match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_char_device() => EntryType::Char,
        () if kind.is_block_device() => EntryType::Block,
        () if kind.is_fifo() => EntryType::Fifo,
        // No archive has sockets.
        () => return Ok(()),
    };
    let mut header = header_of(metadata, kind);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        let device = metadata.rdev();
        let part = |n: u64| u32::try_from(n).map_err(io::Error::other);
        header.set_device_major(part(nix::sys::stat::major(device))?)?;
        header.set_device_minor(part(nix::sys::stat::minor(device))?)?;
    }
    tar.append_data(&mut header, path, io::empty())
}

/// What has no place in a header: extended attributes, and parts of a second.
fn extensions(tar: &mut Builder<impl Write>, place: &Path, metadata: &Metadata) -> io::Result<()> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    if metadata.mtime_nsec() != 0 {
        let time = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        all.push(("mtime".to_owned(), time.into_bytes()));
    }
    for name in xattr::list(place)? {
        let Some(text) = name.to_str().filter(|n| !n.starts_with("trusted.overlay.")) else { continue };
        if let Some(value) = xattr::get(place, &name)? {
            all.push((format!("SCHILY.xattr.{text}"), value));
        }
    }
    all.sort();
    match all.is_empty() {
        true => Ok(()),
        false => tar.append_pax_extensions(all.iter().map(|(name, value)| (name.as_str(), value.as_slice()))),
    }
}

fn header_of(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// A whiteout.
fn empty(tar: &mut Builder<impl Write>, path: &Path) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(0);
    tar.append_data(&mut header, path, io::empty())
}

#[cfg(test)]
mod tests {
    use super::super::unpack::unpack;
    use super::*;

    #[test]
    fn packing_undoes_unpacking() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        let long = "long".repeat(50);
        fs::create_dir_all(first.join("etc/sub")).unwrap();
        fs::create_dir(&second).unwrap();
        fs::write(first.join("etc/a"), "content").unwrap();
        fs::write(first.join(&long), "x").unwrap();
        fs::hard_link(first.join("etc/a"), first.join("z")).unwrap();
        std::os::unix::fs::symlink("a", first.join("etc/link")).unwrap();
        xattr::set(first.join("etc/a"), "user.note", b"hello").unwrap();
        xattr::set(first.join("etc/sub"), OPAQUE, b"y").unwrap();
        let node = |name: &str, device| {
            let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::empty());
            nix::sys::stat::mknod(&first.join(name), kind, mode, device).unwrap();
        };
        node("gone", 0);
        node("null", nix::sys::stat::makedev(1, 3));
        let mut archive = Vec::new();
        pack(&first, &mut archive).unwrap();
        unpack(&archive[..], &second, &[]).unwrap();
        let mut again = Vec::new();
        pack(&second, &mut again).unwrap();
        assert!(again == archive, "the same directory, the same bytes");
        assert_eq!(
            fs::metadata(second.join("z")).unwrap().ino(),
            fs::metadata(second.join("etc/a")).unwrap().ino()
        );
        assert!(is_whiteout(&fs::symlink_metadata(second.join("gone")).unwrap()));
        assert_eq!(xattr::get(second.join("etc/a"), "user.note").unwrap().unwrap(), b"hello");
        assert_eq!(xattr::get(second.join("etc/sub"), OPAQUE).unwrap().unwrap(), b"y");
        assert!(second.join(long).exists());
    }
}
