//! hostPath: a file or directory of the node.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks a host path against its `type`, making what may be made.
pub(super) fn check(path: &Path, type_: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    let meta = fs::metadata(path);
    let is = |check: fn(&fs::Metadata) -> bool| meta.as_ref().is_ok_and(check);
    match type_ {
        "" => Ok(()),
        "DirectoryOrCreate" | "FileOrCreate" if meta.is_err() => make(path, type_ == "DirectoryOrCreate"),
        "Directory" | "DirectoryOrCreate" if !is(fs::Metadata::is_dir) => fail("a directory"),
        "File" | "FileOrCreate" if !is(fs::Metadata::is_file) => fail("a file"),
        "Socket" if !is(|m| m.file_type().is_socket()) => fail("a socket file"),
        "CharDevice" if !is(|m| m.file_type().is_char_device()) => fail("a character device"),
        "BlockDevice" if !is(|m| m.file_type().is_block_device()) => fail("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// Makes a directory with its parents, or a file, with kubelet's modes less the umask.
fn make(path: &Path, directory: bool) -> Result<(), String> {
    let made = if directory {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
    } else {
        fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path).map(drop)
    };
    made.map_err(|e| format!("cannot make {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::os::unix::net::UnixListener::bind(path("socket")).expect("bound");
        fs::write(path("file"), "").expect("written");
        fs::create_dir(path("dir")).expect("made");
        for (name, type_, wrong) in [
            ("none", "", None),
            ("none", "Directory", Some("a directory")),
            ("none", "File", Some("a file")),
            ("none", "Socket", Some("a socket file")),
            ("dir", "Directory", None),
            ("dir", "DirectoryOrCreate", None),
            ("dir", "File", Some("a file")),
            ("dir", "FileOrCreate", Some("a file")),
            ("file", "File", None),
            ("file", "FileOrCreate", None),
            ("file", "Directory", Some("a directory")),
            ("file", "DirectoryOrCreate", Some("a directory")),
            ("file", "Socket", Some("a socket file")),
            ("socket", "Socket", None),
            ("socket", "CharDevice", Some("a character device")),
            ("/dev/null", "CharDevice", None),
            ("/dev/null", "BlockDevice", Some("a block device")),
            ("made/here", "DirectoryOrCreate", None),
            ("made/file", "FileOrCreate", None),
        ] {
            let path = path(name);
            let wrong = wrong.map(|w| format!("hostPath type check failed: {} is not {w}", path.display()));
            assert_eq!(check(&path, type_).err(), wrong, "{name} {type_}");
        }
        assert!(path("made/here").is_dir() && path("made/file").is_file() && !path("none").exists());
        assert!(check(&path("no/parent"), "FileOrCreate").is_err(), "parents of files are not made");
        assert_eq!(check(Path::new("/"), "Nope"), Err("Nope is an invalid volume type".into()));
    }
}
