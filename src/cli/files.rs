//! Removing what an installation wrote, and nothing else.

use std::path::Path;

use super::Error;

/// Removes a file or a tree; what is not there is fine. A mount point below stops it with an error,
/// so that nothing of another file system is ever deleted.
///
/// # Errors
/// A mount below, or what the file system says.
pub fn remove(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if let Some(mount) = mount_below(path)? {
        return Err(format!("{mount} is still mounted; unmount it, then run this again").into());
    }
    let result = if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    result.map_err(|e| format!("cannot remove {}: {e}", path.display()).into())
}

fn mount_below(path: &Path) -> Result<Option<String>, Error> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|p| Path::new(p).starts_with(path)).map(str::to_owned).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_trees_and_what_is_gone_are_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let tree = directory.path().join("a/b");
        std::fs::create_dir_all(&tree).expect("directory");
        std::fs::write(tree.join("c"), "").expect("write");
        remove(&tree.join("c")).expect("a file");
        remove(&directory.path().join("a")).expect("a tree");
        remove(&directory.path().join("a")).expect("what is gone");
        assert!(!directory.path().join("a").exists());
    }

    #[test]
    fn a_mount_below_stops_it() {
        let error = remove(Path::new("/proc")).expect_err("is mounted").to_string();
        assert!(error.contains("/proc is still mounted"), "{error}");
    }
}
