use std::os::unix::fs::{FileExt, FileTypeExt};

use super::*;

/// Builds an archive entry by entry.
struct Builder(tar::Builder<Vec<u8>>);

impl Builder {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        // Directly, since the setters refuse what an attacker would write.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..path.len()].copy_from_slice(path.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.raw(EntryType::Regular, path, "", 0o644, data.as_bytes())
    }

    fn dir(self, path: &str, mode: u32) -> Self {
        self.raw(EntryType::Directory, path, "", mode, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn hard(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path, target, 0o644, b"")
    }

    /// A file whose name no header has room for.
    fn long(mut self, path: &str, data: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, path, data.as_bytes()).unwrap();
        self
    }

    fn pax(mut self, extensions: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(extensions.iter().copied()).unwrap();
        self
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Unpacks layers, lowest first; answers their directories, lowest first.
fn stack(layers: Vec<Builder>) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let mut done: Vec<PathBuf> = Vec::new();
    for (n, layer) in layers.into_iter().enumerate() {
        let target = dir.path().join(n.to_string());
        fs::create_dir(&target).unwrap();
        let lower: Vec<_> = done.iter().rev().cloned().collect();
        unpack(&layer.done()[..], &target, &lower).unwrap();
        done.push(target);
    }
    (dir, done)
}

fn metadata(path: PathBuf) -> Metadata {
    fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn files_come_with_all_they_have() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (_dir, layers) = stack(vec![
        Builder::new()
            .dir("./", 0o711)
            .dir("bin", 0o755)
            .pax(&[("SCHILY.xattr.security.capability", &capability), ("mtime", b"1234567890.5")])
            .raw(EntryType::Regular, "bin/ping", "", 0o4755, b"ping")
            .hard("bin/ping6", "bin/ping")
            .link("sh", "/bin/bash")
            .raw(EntryType::Char, "null", "", 0o666, b"")
            .raw(EntryType::Fifo, "pipe", "", 0o600, b""),
    ]);
    let root = &layers[0];
    let ping = metadata(root.join("bin/ping"));
    assert_eq!((ping.uid(), ping.gid(), ping.mode() & 0o7777), (1000, 2000, 0o4755));
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (1_234_567_890, 500_000_000));
    assert_eq!(metadata(root.join("bin/ping6")).ino(), ping.ino());
    let found = xattr::get(root.join("bin/ping"), "security.capability").unwrap();
    assert_eq!(found.as_deref(), Some(&capability[..]));
    assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/bash"));
    assert_eq!(metadata(root.join("sh")).uid(), 1000);
    let null = metadata(root.join("null"));
    assert!(null.file_type().is_char_device() && null.rdev() == makedev(1, 3));
    assert!(metadata(root.join("pipe")).file_type().is_fifo());
    assert_eq!(metadata(root.join("bin")).mtime(), 1_000_000_000, "not that of its last file");
    assert_eq!(metadata(root.clone()).mode() & 0o7777, 0o711);
}

#[test]
fn deletions_take_the_form_of_overlayfs() {
    let (_dir, layers) = stack(vec![
        Builder::new()
            .dir("a", 0o755)
            .file("a/x", "1")
            .file("gone", "1")
            .dir("again", 0o755)
            .file("again/old", ""),
        Builder::new()
            .file("a/.wh..wh..opq", "")
            .file(".wh.gone", "")
            .file(".wh..wh.plnk", "")
            .file(".wh.again", "")
            .dir("again", 0o755)
            .dir("kept", 0o755)
            .file(".wh.kept", ""),
    ]);
    let top = &layers[1];
    let opaque = |name| xattr::get(top.join(name), OPAQUE).unwrap().as_deref() == Some(b"y");
    assert!(opaque("a") && opaque("again") && opaque("kept"));
    assert!(tree::is_whiteout(&metadata(top.join("gone"))));
    let names = fs::read_dir(top).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["a", "again", "gone", "kept"]);
}

#[test]
fn what_a_layer_implies_is_taken_from_those_below() {
    let (_dir, layers) = stack(vec![
        Builder::new().dir("private", 0o700).dir("usr", 0o755).dir("usr/lib", 0o755).link("lib", "usr/lib"),
        Builder::new().file("private/key", "k").file("lib/x.so", "x").file("new/deep/file", "f"),
        Builder::new().hard("copy", "private/key"),
    ]);
    let private = metadata(layers[1].join("private"));
    assert_eq!((private.mode() & 0o7777, private.uid()), (0o700, 1000));
    assert!(layers[1].join("usr/lib/x.so").exists() && !layers[1].join("lib").exists());
    assert_eq!(metadata(layers[1].join("new/deep")).mode() & 0o777, 0o755);
    let copy = metadata(layers[2].join("copy"));
    assert_eq!((copy.len(), copy.uid(), copy.mtime()), (1, 1000, 1_000_000_000));
}

#[test]
fn hard_links_join_files_of_layers_below() {
    let (_dir, layers) = stack(vec![
        Builder::new().file("lib/a", "a").link("lib/sym", "a").raw(
            EntryType::Fifo,
            "lib/pipe",
            "",
            0o600,
            b"",
        ),
        Builder::new().hard("b", "lib/a").hard("c", "lib/a").hard("s", "lib/sym").hard("p", "lib/pipe"),
        Builder::new().file("lib/a", "new").hard("b", "lib/a").hard("lib/a", "lib/a"),
    ]);
    let inode = |layer: usize, path: &str| metadata(layers[layer].join(path)).ino();
    assert_eq!((inode(1, "b"), inode(1, "c")), (inode(1, "lib/a"), inode(1, "lib/a")));
    assert_eq!(metadata(layers[1].join("b")).nlink(), 3, "as after a copy-up");
    assert_eq!(fs::read_link(layers[1].join("s")).unwrap(), Path::new("a"));
    assert!(metadata(layers[1].join("p")).file_type().is_fifo());
    assert_eq!(fs::read(layers[2].join("b")).unwrap(), b"new");
    let missing = Builder::new().hard("x", "nowhere").done();
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(&missing[..], dir.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("a hard link to \"nowhere\", which is not there"), "{error}");
}

#[test]
fn an_opaque_root_hides_all_below() {
    let (_dir, layers) = stack(vec![
        Builder::new().dir("etc", 0o755).file("etc/x", "").file("old", "").dir("gone", 0o755),
        Builder::new().dir("etc", 0o700).file(".wh..wh..opq", "").file("old", "again"),
    ]);
    let top = &layers[1];
    assert!(tree::is_whiteout(&metadata(top.join("gone"))));
    assert_eq!(fs::read(top.join("old")).unwrap(), b"again");
    assert_eq!(xattr::get(top.join("etc"), OPAQUE).unwrap().as_deref(), Some(&b"y"[..]));
}

#[test]
fn files_become_directories_and_back_and_links_are_followed_where_they_lead_now() {
    let (_dir, layers) = stack(vec![
        Builder::new().file("a", "file").dir("b", 0o755).file("b/x", "").link("d", "b"),
        Builder::new().dir("a", 0o755).file("a/y", "").file("b", "file").file("d/z", "").link("e", "a"),
        // The same parent by name, before and after the link was changed.
        Builder::new()
            .dir("one", 0o755)
            .dir("two", 0o755)
            .link("l", "one")
            .file("l/1", "")
            .link("l", "two")
            .file("l/2", ""),
    ]);
    assert!(metadata(layers[1].join("a")).is_dir() && metadata(layers[1].join("b")).is_dir());
    assert!(layers[1].join("b/z").exists(), "d leads to b, which is made a directory again");
    assert!(layers[2].join("one/1").exists() && layers[2].join("two/2").exists());
}

#[test]
fn names_attributes_and_types_of_every_length_and_kind() {
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(250));
    let (_dir, layers) = stack(vec![
        Builder::new()
            .long(&long, "long")
            .pax(&[("path", "päx/ü".as_bytes()), ("SCHILY.xattr.user.note", b"a\nb\0c")])
            .file("short", "named by PAX")
            .pax(&[("uid", b"3000000"), ("gid", b"3000001"), ("linkpath", b"f\xc3\xbcr")])
            .link("owned", "other")
            .raw(EntryType::Block, "disk", "", 0o660, b"")
            .raw(EntryType::Char, "deletion", "", 0o600, b"")
            .raw(EntryType::Continuous, "contiguous", "", 0o2755, b"c")
            .dir("sticky", 0o1777),
    ]);
    let root = &layers[0];
    assert_eq!(fs::read(root.join(&long)).unwrap(), b"long");
    assert_eq!(fs::read(root.join("päx/ü")).unwrap(), b"named by PAX");
    assert_eq!(xattr::get(root.join("päx/ü"), "user.note").unwrap().unwrap(), b"a\nb\0c");
    let owned = metadata(root.join("owned"));
    assert_eq!((owned.uid(), owned.gid()), (3_000_000, 3_000_001));
    assert_eq!(fs::read_link(root.join("owned")).unwrap(), Path::new("für"));
    assert!(metadata(root.join("disk")).file_type().is_block_device());
    assert_eq!(metadata(root.join("sticky")).mode() & 0o7777, 0o1777);
    assert_eq!(metadata(root.join("contiguous")).mode() & 0o7777, 0o2755);
    let dir = tempfile::tempdir().unwrap();
    let odd = Builder::new().raw(EntryType::new(b'Z'), "odd", "", 0o644, b"").done();
    let error = unpack(&odd[..], dir.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("its entry \"odd\" is of unknown type 'Z'"), "{error}");
}

#[test]
fn sparse_files_stay_sparse() {
    let mut map = b"1\n1048576\n3\n".to_vec();
    map.resize(512, 0);
    map.extend(b"end");
    let headers: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"big"),
        ("GNU.sparse.realsize", b"1048579"),
    ];
    let mut entry =
        Builder::new().pax(headers).raw(EntryType::Regular, "GNUSparseFile.0/big", "", 0o640, &map);
    // The same in GNU's old format.
    let mut header = tar::Header::new_gnu();
    header.set_path("old").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o640);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(1);
    header.set_size(3);
    let octal =
        |field: &mut [u8; 12], value: u64| field[..11].copy_from_slice(format!("{value:011o}").as_bytes());
    let gnu = header.as_gnu_mut().unwrap();
    octal(&mut gnu.sparse[0].offset, 1_048_576);
    octal(&mut gnu.sparse[0].numbytes, 3);
    octal(&mut gnu.realsize, 1_048_579);
    header.set_cksum();
    entry.0.append(&header, &b"end"[..]).unwrap();
    let (_dir, layers) = stack(vec![entry.file("after", "it")]);
    for name in ["big", "old"] {
        let file = fs::File::open(layers[0].join(name)).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!((found.len(), found.mode() & 0o777, found.uid()), (1_048_579, 0o640, 1000), "{name}");
        assert!(found.blocks() * 512 < 100_000);
        let mut end = [0; 4];
        file.read_exact_at(&mut end, 1_048_575).unwrap();
        assert_eq!(&end, b"\0end");
    }
    assert_eq!(fs::read(layers[0].join("after")).unwrap(), b"it");
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier() {
    let (_dir, layers) = stack(vec![
        Builder::new()
            .dir("a", 0o755)
            .file("a/b", "1")
            .file("a", "file")
            .file("c", "1")
            .dir("c", 0o755)
            .file("d", "1")
            .file("d", "22"),
    ]);
    assert!(metadata(layers[0].join("a")).is_file() && metadata(layers[0].join("c")).is_dir());
    assert_eq!(fs::read(layers[0].join("d")).unwrap(), b"22");
}

#[test]
fn nothing_outside_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    let evil = [
        Builder::new().file("../outside/x", "evil"),
        Builder::new().file("a/../../outside/x", "evil"),
        Builder::new().hard("x", "../outside/secret"),
        Builder::new().file(".wh...", ""),
    ];
    for (n, layer) in evil.into_iter().enumerate() {
        let _ = fs::remove_dir_all(&target);
        fs::create_dir_all(&target).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        let error = unpack(&layer.done()[..], &target, &[]).unwrap_err();
        assert!(error.to_string().contains("would leave the image's root"), "{n}: {error}");
    }
    // Links that lead outside lead to places inside.
    let (up, absolute) = ("../".repeat(20), dir.path().to_str().unwrap().to_owned());
    let sly = Builder::new().link("up", &up).link("absolute", &absolute);
    let sly = sly
        .file("up/outside/x", "evil")
        .file("absolute/outside/x", "evil")
        .hard("y", "absolute/outside/secret");
    fs::remove_dir_all(&target).unwrap();
    fs::create_dir_all(&target).unwrap();
    assert!(unpack(&sly.done()[..], &target, &[]).is_err(), "the secret is not there");
    assert!(!outside.join("x").exists());
    assert!(target.join("outside/x").exists());
    assert!(target.join(absolute.trim_start_matches('/')).join("outside/x").exists());
}

#[test]
fn a_cut_archive_is_an_error() {
    let whole = Builder::new().file("a", &"x".repeat(2000)).done();
    let dir = tempfile::tempdir().unwrap();
    assert!(unpack(&whole[..1000], dir.path(), &[]).is_err());
}
