//! emptyDir and hostPath.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::{Owner, mounting};
use crate::agent::error::Error;
use crate::agent::quantity::units;

/// Makes an emptyDir: a directory anyone may write, or a tmpfs.
pub(super) fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, owner: Owner) -> Result<(), Error> {
    let fresh = !path.exists();
    fs::create_dir_all(path).map_err(Error::io("make", path))?;
    let memory = source.medium.as_deref() == Some("Memory");
    if memory && !mounting::is_mount_point(path) {
        let size = source.size_limit.as_ref().and_then(|q| units(&q.0)).filter(|s| *s > 0);
        mounting::tmpfs(path, size.map(i64::unsigned_abs))?;
    } else if !fresh {
        return Ok(());
    }
    let mut mode = 0o777;
    if let Some(group) = owner.group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(Error::io("change the group of", path))?;
        mode |= 0o2000;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("change", path))
}

/// Checks a host path against its `type`, making what may be made.
pub(super) fn check_host_path(path: &str, type_: &str) -> Result<(), String> {
    let path = Path::new(path);
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
        other => Err(format!("{other:?} is not a hostPath type")),
    }
}

fn make(path: &Path, directory: bool) -> Result<(), String> {
    let made = if directory {
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
    } else {
        fs::OpenOptions::new().create(true).append(true).open(path).map(drop)
    };
    made.map_err(|e| format!("cannot make {}: {e}", path.display()))
}

/// The group of a directory, for tests and for `fsGroup` on local volumes.
pub(super) fn apply_group(path: &Path, group: u32) -> Result<(), Error> {
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    if meta.gid() == group {
        return Ok(());
    }
    std::os::unix::fs::chown(path, None, Some(group)).map_err(Error::io("change the group of", path))?;
    let mode = meta.permissions().mode() | 0o2070;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("change", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_types() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        assert!(check_host_path(&path("none"), "").is_ok());
        assert!(check_host_path(&path("none"), "Directory").is_err());
        assert!(check_host_path(&path("d/e"), "DirectoryOrCreate").is_ok());
        assert!(check_host_path(&path("d"), "Directory").is_ok());
        assert!(check_host_path(&path("d"), "File").is_err());
        assert!(check_host_path(&path("f"), "FileOrCreate").is_ok());
        assert!(check_host_path(&path("f"), "File").is_ok());
        let error = check_host_path(&path("f"), "Socket").expect_err("no socket");
        assert!(error.ends_with("f is not a socket file"), "{error}");
        assert!(check_host_path("/dev/null", "CharDevice").is_ok());
        assert!(check_host_path("/dev/null", "BlockDevice").is_err());
        assert!(check_host_path("/", "Nope").is_err());
    }

    #[test]
    fn an_empty_dir_is_writable_by_all_and_keeps_its_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("v");
        empty_dir(&path, &EmptyDirVolumeSource::default(), Owner::default()).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o777);
        fs::write(path.join("f"), "x").expect("written");
        empty_dir(&path, &EmptyDirVolumeSource::default(), Owner::default()).expect("made");
        assert!(path.join("f").exists());
    }
}
