//! Files that change together: kubelet's layout, in which a swapped symbolic link `..data` shows all
//! files of one generation at once, and each file's own name leads through it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::ownership::Group;
use crate::agent::error::Error;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner; `None` is root.
    pub user: Option<u32>,
}

/// Files by relative path.
pub(super) type Files = BTreeMap<PathBuf, File>;

/// What tells one set of files from another.
pub(super) type Fingerprint = [u8; 32];

/// The fingerprint of files with their content, permissions and owners.
pub(super) fn fingerprint(files: &Files) -> Fingerprint {
    use std::os::unix::ffi::OsStrExt;
    let mut digest = Sha256::new();
    for (path, file) in files {
        let name = path.as_os_str().as_bytes();
        for part in [name, &file.data] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.update(file.mode.to_le_bytes());
        digest.update(file.user.map_or(-1, i64::from).to_le_bytes());
    }
    digest.finalize().into()
}

/// A generation of files was written there completely.
pub(super) fn is_written(directory: &Path) -> bool {
    directory.join(DATA).is_dir()
}

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// Makes `directory` show exactly `files`, which belong to `group`. What is the same already is not written.
pub(super) fn write(directory: &Path, files: &Files, group: Option<u32>) -> Result<(), Error> {
    check(files)?;
    if equal(directory, files, group) {
        return Ok(());
    }
    let old = fs::read_link(directory.join(DATA)).ok();
    let generation = new_generation(directory)?;
    for (path, file) in files {
        write_file(&directory.join(&generation).join(path), file)?;
    }
    if let Some(id) = group {
        Group { id, on_root_mismatch: false, read_only: true }.own(directory)?;
    }
    let temporary = directory.join(DATA_TMP);
    let _ = fs::remove_file(&temporary);
    symlink(&generation, &temporary).map_err(Error::io("link", &temporary))?;
    let data = directory.join(DATA);
    fs::rename(&temporary, &data).map_err(Error::io("replace", &data))?;
    let names = top_level(files);
    for name in &names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(Error::io("link", &link))?;
        }
    }
    remove_others(directory, &names, &generation)?;
    if let Some(old) = old.filter(|o| *o != generation) {
        let _ = fs::remove_dir_all(directory.join(old));
    }
    Ok(())
}

fn check(files: &Files) -> Result<(), Error> {
    for path in files.keys() {
        let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
        let hidden = path.to_string_lossy().starts_with("..");
        if !plain || hidden || path.as_os_str().is_empty() {
            return Err(Error::Other(format!("invalid path {:?} in a volume", path.display().to_string())));
        }
    }
    Ok(())
}

/// The present generation has these files with this content and these permissions.
fn equal(directory: &Path, files: &Files, group: Option<u32>) -> bool {
    let Ok(generation) = fs::read_link(directory.join(DATA)) else { return false };
    let root = directory.join(generation);
    let mut found = BTreeSet::new();
    if list(&root, &root, &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let path = root.join(path);
        let mode = fs::metadata(&path).map(|m| m.permissions().mode() & 0o777);
        let wanted = file.mode | if group.is_some() { 0o440 } else { 0 };
        mode.is_ok_and(|m| m == wanted) && fs::read(&path).is_ok_and(|d| d == file.data)
    }) && top_level(files).iter().all(|n| fs::symlink_metadata(directory.join(n)).is_ok())
}

fn list(root: &Path, directory: &Path, into: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, into)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            into.insert(relative.to_path_buf());
        }
    }
    Ok(())
}

fn new_generation(directory: &Path) -> Result<PathBuf, Error> {
    let now = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
    let path = directory.join(&now);
    fs::DirBuilder::new().mode(0o755).create(&path).map_err(Error::io("make", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::io("change", &path))?;
    Ok(now.into())
}

fn write_file(path: &Path, file: &File) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
    }
    fs::write(path, &file.data).map_err(Error::io("write", path))?;
    std::os::unix::fs::chown(path, file.user, None).map_err(Error::io("change the owner of", path))?;
    // After the change of owner, which may clear bits; and whatever the umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).map_err(Error::io("change", path))
}

fn top_level(files: &Files) -> BTreeSet<PathBuf> {
    files.keys().filter_map(|p| p.components().next().map(|c| PathBuf::from(c.as_os_str()))).collect()
}

/// Removes links of files that are gone, and generations an interrupted write left.
fn remove_others(directory: &Path, names: &BTreeSet<PathBuf>, generation: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))?.flatten() {
        let name = PathBuf::from(entry.file_name());
        let path = entry.path();
        if name == Path::new(DATA) || name == generation || names.contains(&name) {
            continue;
        }
        let result = if entry.file_type().is_ok_and(|t| t.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        result.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |d: &str| File { data: d.into(), mode: 0o644, user: None };
        list.iter().map(|(p, d)| (PathBuf::from(p), file(d))).collect()
    }

    #[test]
    fn a_change_swaps_all_files_at_once_and_keeps_their_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        write(path, &files(&[("a", "1"), ("d/b", "2")]), None).expect("written");
        assert_eq!(fs::read_to_string(path.join("a")).expect("a"), "1");
        assert_eq!(fs::read_to_string(path.join("d/b")).expect("b"), "2");
        assert_eq!(fs::read_link(path.join("a")).expect("a link"), Path::new("..data/a"));
        let first = fs::read_link(path.join(DATA)).expect("a link");

        write(path, &files(&[("a", "1"), ("d/b", "2")]), None).expect("written");
        assert_eq!(fs::read_link(path.join(DATA)).expect("a link"), first, "equal content is not written");

        write(path, &files(&[("a", "3"), ("c", "4")]), None).expect("written");
        assert_eq!(fs::read_to_string(path.join("a")).expect("a"), "3");
        assert!(fs::symlink_metadata(path.join("d")).is_err(), "the link of what is gone is gone");
        assert!(!path.join(first).exists(), "the old generation is gone");
        assert_eq!(fs::read_dir(path).expect("listed").count(), 4, "a, c, ..data and one generation");
    }

    #[test]
    fn an_interrupted_write_leaves_nothing_for_long() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::create_dir(path.join("..2020_01_01_00_00_00.000000000")).expect("made");
        symlink("nowhere", path.join(DATA_TMP)).expect("linked");
        write(path, &files(&[("a", "1")]), None).expect("written");
        assert_eq!(fs::read_dir(path).expect("listed").count(), 3);
    }

    #[test]
    fn modes_and_groups() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut all = files(&[("a", "1")]);
        all.get_mut(Path::new("a")).expect("a").mode = 0o400;
        write(directory.path(), &all, None).expect("written");
        let mode = || fs::metadata(directory.path().join("a")).expect("a").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o400);
        if nix::unistd::geteuid().is_root() {
            write(directory.path(), &all, Some(1234)).expect("written");
            assert_eq!(mode(), 0o440, "the group reads too");
            let first = fs::read_link(directory.path().join(DATA)).expect("a link");
            write(directory.path(), &all, Some(1234)).expect("written");
            assert_eq!(fs::read_link(directory.path().join(DATA)).expect("a link"), first);
            let meta = fs::metadata(directory.path()).expect("there");
            assert_eq!(meta.permissions().mode() & 0o2070, 0o2050, "the directory too, but not to write");
        }
    }

    #[test]
    fn fingerprints_tell_names_contents_and_modes_apart() {
        let all = [files(&[("a", "bc")]), files(&[("ab", "c")]), files(&[("a", "b"), ("c", "")])];
        let mut open = all[0].clone();
        open.get_mut(Path::new("a")).expect("a").mode = 0o600;
        let prints: BTreeSet<_> = all.iter().chain([&open]).map(fingerprint).collect();
        assert_eq!(prints.len(), 4);
        assert_eq!(fingerprint(&all[0]), fingerprint(&files(&[("a", "bc")])));
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in ["../a", "/a", "..data", "a/../../b"] {
            assert!(write(directory.path(), &files(&[(path, "")]), None).is_err(), "{path}");
        }
    }
}
