//! The files the store lives on, behind a small trait so that tests can record every write,
//! cut the power at any point and let the disk fail.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file open for writing.
pub trait File: Send + Debug {
    /// Writes all of `data` at `offset`; durable after the next [`File::sync_data`].
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes the file's data, and the metadata needed to read it, durable (fdatasync).
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

/// A file system. Names made, changed or removed are durable after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + Debug {
    /// Makes a new, empty file, readable by the owner only.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens a file that exists.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents, with the mode 0700.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or a directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes every file and directory below `dir`, and `dir` itself, durable.
    fn sync_tree(&self, dir: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl File for fs::File {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        Ok(Box::new(options.write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::OpenOptions::new().write(true).open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |e: io::Result<fs::DirEntry>| Ok(e?.file_name().to_string_lossy().into_owned());
        let mut names = fs::read_dir(dir)?.map(name).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        for (path, is_dir) in tree(dir)? {
            if !is_dir {
                fs::File::open(&path)?.sync_all()?;
            }
        }
        for (path, is_dir) in tree(dir)?.into_iter().rev() {
            if is_dir {
                self.sync_dir(&path)?;
            }
        }
        self.sync_dir(dir)
    }
}

/// Everything below `dir`, parents first, and whether it is a directory.
fn tree(dir: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        found.push((entry.path(), is_dir));
        if is_dir {
            found.extend(tree(&entry.path())?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_the_owners_only() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        RealDisk.create_dir_all(&dir).unwrap();
        let mut file = RealDisk.create(&dir.join("f")).unwrap();
        file.write_at(3, b"abc").unwrap();
        file.sync_data().unwrap();
        file.set_len(5).unwrap();
        assert_eq!(RealDisk.read(&dir.join("f")).unwrap(), b"\0\0\0ab");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("f"))), (0o700, 0o600));
        assert!(RealDisk.create(&dir.join("f")).is_err(), "never overwrites");
        RealDisk.sync_tree(temp.path()).unwrap();
        assert_eq!(RealDisk.list(&dir).unwrap(), ["f"]);
    }
}
