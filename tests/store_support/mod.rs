//! Disks that lose power, fill up and fail, for the store's tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use kedge::store::disk::{Disk, File, RealDisk};
use kedge::store::{Error, Event, Op, Opened, Options, Revision, Store};
use parking_lot::Mutex;

pub mod power;

/// Opens with options fit for tests: small segments.
pub fn open(dir: &Path, options: Options) -> Result<Opened, Error> {
    Store::open(dir, options, Box::new(|_: Revision, _: &[Event]| ()))
}

/// Small segments on a disk that never syncs.
pub fn small() -> Options {
    Options { segment_bytes: 16 << 10, disk: Arc::new(Unsynced), ..Options::default() }
}

/// Commits and waits.
pub async fn commit(store: &Store, op: Op) -> Result<Revision, Error> {
    store.commit(vec![op]).await
}

/// All entries as text.
pub fn dump(store: &Store) -> BTreeMap<String, String> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    store.range(b"", None, usize::MAX).iter().map(|e| (text(&e.key), text(&e.value))).collect()
}

/// The operating system's files without any sync: for speed, where the power stays on.
#[derive(Debug)]
pub struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile(Box<dyn File>);

impl File for UnsyncedFile {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(RealDisk.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(RealDisk.open(path)?)))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_tree(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// What is wrong with a [`FaultyDisk`] at the moment.
#[derive(Debug)]
pub struct Faults {
    /// Bytes that may still be written to new files.
    pub room: AtomicI64,
    /// Syncs fail with EIO.
    pub no_sync: AtomicBool,
    /// Writes fail half-way with EIO.
    pub half_writes: AtomicBool,
    /// Bytes written to files so far.
    pub written: AtomicI64,
}

/// A disk that fails when told to.
#[derive(Debug, Clone)]
pub struct FaultyDisk(pub Arc<Faults>);

impl Default for FaultyDisk {
    fn default() -> Self {
        Self(Arc::new(Faults {
            room: AtomicI64::new(i64::MAX),
            no_sync: AtomicBool::new(false),
            half_writes: AtomicBool::new(false),
            written: AtomicI64::new(0),
        }))
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn File>,
    faults: Arc<Faults>,
    new: bool,
}

impl File for FaultyFile {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let length = data.len() as i64;
        if self.faults.half_writes.load(Ordering::SeqCst) {
            self.file.write_at(offset, &data[..data.len() / 2])?;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if self.new && self.faults.room.fetch_sub(length, Ordering::SeqCst) < length {
            self.faults.room.fetch_add(length, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.faults.written.fetch_add(length, Ordering::SeqCst);
        self.file.write_at(offset, data)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if self.faults.no_sync.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        // From now on its blocks are allocated.
        self.new = false;
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let (file, faults) = (RealDisk.create(path)?, Arc::clone(&self.0));
        Ok(Box::new(FaultyFile { file, faults, new: true }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let (file, faults) = (RealDisk.open(path)?, Arc::clone(&self.0));
        Ok(Box::new(FaultyFile { file, faults, new: false }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_tree(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Every file below `dir`, as path from there and content.
pub fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path.strip_prefix(dir).unwrap().to_owned(), bytes));
            }
        }
    }
    found
}

/// A list shared between the disk, the observer and the test.
pub type Shared<T> = Arc<Mutex<Vec<T>>>;
