//! Makes the log's segments: files filled with zeros, so that appending to them changes no metadata.
//!
//! Filling takes long on an SD card, so the next segment is made ready on a thread while the current
//! one is still written to. That thread ends with its file: nothing runs in an idle store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::disk::{Disk, File};
use super::error::{Context, Error};
use super::record::SegmentHeader;

/// How much is filled with zeros by one write.
const ZEROS: usize = 256 << 10;

/// A segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: Box<dyn File>,
    pub path: PathBuf,
    pub salt: u64,
    pub size: u64,
}

/// Makes segments in a directory.
#[derive(Debug)]
pub(super) struct Maker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    thread: JoinHandle<io::Result<Box<dyn File>>>,
    sequence: u64,
    size: u64,
}

/// The file of a segment.
pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.log"))
}

impl Maker {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), prepared: None }
    }

    /// Begins to make segment `sequence` ready, unless one is.
    pub(super) fn prepare(&mut self, sequence: u64, size: u64) {
        if self.prepared.is_some() {
            return;
        }
        let (disk, temporary) = (Arc::clone(&self.disk), temporary(&self.dir, sequence));
        let builder = std::thread::Builder::new().name("store-segment".to_owned());
        // Without a thread it is made when it is needed.
        if let Ok(thread) = builder.spawn(move || zeroed(&*disk, &temporary, size)) {
            self.prepared = Some(Prepared { thread, sequence, size });
        }
    }

    /// Makes a segment of `size` bytes, or takes the one that is ready if it has `least`.
    pub(super) fn make(&mut self, header: SegmentHeader, size: u64, least: u64) -> Result<Segment, Error> {
        let (temporary, path) = (temporary(&self.dir, header.sequence), path(&self.dir, header.sequence));
        let ready = self.prepared.take().and_then(|prepared| {
            // Also one that is of no use must have ended before its name is used again.
            let file = prepared.thread.join().ok()?.ok()?;
            let fits = prepared.sequence == header.sequence && prepared.size >= least;
            fits.then_some((file, prepared.size))
        });
        let make = || {
            let (mut file, size) = match ready {
                Some(ready) => ready,
                None => (zeroed(&*self.disk, &temporary, size)?, size),
            };
            file.write_at(0, &header.encode())?;
            file.sync_data()?;
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_dir(&self.dir)?;
            Ok((file, size))
        };
        match make() {
            Ok((file, size)) => Ok(Segment { file, path, salt: header.salt, size }),
            Err(e) => {
                let _ = self.disk.remove_file(&temporary);
                let _ = self.disk.remove_file(&path);
                Err(Error::io(path, e))
            }
        }
    }

    /// Removes what was made ready and never used.
    pub(super) fn clean(&self) -> Result<(), Error> {
        for name in self.disk.list(&self.dir).on(&self.dir)?.iter().filter(|n| n.ends_with(".tmp")) {
            let path = self.dir.join(name);
            self.disk.remove_file(&path).on(&path)?;
        }
        Ok(())
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        if let Some(prepared) = self.prepared.take() {
            let _ = prepared.thread.join();
            let _ = self.disk.remove_file(&temporary(&self.dir, prepared.sequence));
        }
    }
}

fn temporary(dir: &Path, sequence: u64) -> PathBuf {
    path(dir, sequence).with_extension("tmp")
}

fn zeroed(disk: &dyn Disk, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
    // Left over from a crash or from an earlier attempt.
    let _ = disk.remove_file(path);
    let fill = || {
        let mut file = disk.create(path)?;
        let zeros = vec![0; ZEROS.min(size as usize)];
        let mut at = 0;
        while at < size {
            let n = (size - at).min(zeros.len() as u64);
            file.write_at(at, &zeros[..n as usize])?;
            at += n;
        }
        file.sync_data()?;
        Ok(file)
    };
    fill().inspect_err(|_| drop(disk.remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    fn header(sequence: u64) -> SegmentHeader {
        SegmentHeader { sequence, salt: 1, previous_end: 0 }
    }

    #[test]
    fn what_is_ready_is_used_if_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let mut maker = Maker::new(Arc::new(RealDisk), dir.path());
        maker.prepare(1, 8192);
        let segment = maker.make(header(1), 4096, 100).unwrap();
        assert_eq!((segment.size, std::fs::metadata(&segment.path).unwrap().len()), (8192, 8192));
        maker.prepare(2, 8192);
        let segment = maker.make(header(2), 20_480, 10_000).unwrap();
        assert_eq!(std::fs::metadata(&segment.path).unwrap().len(), 20_480, "too small");
        maker.prepare(7, 8192);
        drop(maker);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "what was not used is removed");
        let bytes = std::fs::read(path(dir.path(), 2)).unwrap();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header(2)));
        assert!(bytes[64..].iter().all(|b| *b == 0));
    }
}
