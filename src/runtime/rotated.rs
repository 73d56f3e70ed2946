//! Rotated container logs: `<log>.<time>`, the older ones compressed to `<log>.<time>.gz`, as kubelet keeps them.
//!
//! A rotated log is known by its stem, the name without `.gz`. While it is compressed there is a `.tmp` beside it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

const COMPRESSED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

/// The stems of a log's rotated files, the oldest first.
pub(crate) fn stems(log: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let stem = |file: String| {
        let time = file.strip_prefix(name)?.strip_prefix('.')?;
        let stem = file.strip_suffix(COMPRESSED).unwrap_or(&file);
        let is_rotated = time.starts_with(|c: char| c.is_ascii_digit()) && !file.ends_with(UNFINISHED);
        is_rotated.then(|| stem.to_owned())
    };
    let stems: BTreeSet<String> = super::paths::names(dir).into_iter().filter_map(stem).collect();
    stems.into_iter().map(|stem| dir.join(stem)).collect()
}

fn with(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a rotated log, compressed or not.
pub(crate) fn open(stem: &Path) -> io::Result<Box<dyn Read + Send>> {
    match File::open(stem) {
        // In this order: the plain file is removed when the compressed one is complete.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Ok(Box::new(MultiGzDecoder::new(File::open(with(stem, COMPRESSED))?)))
        }
        plain => Ok(Box::new(plain?)),
    }
}

/// Removes a rotated log in all its forms.
pub(crate) fn remove(stem: &Path) -> io::Result<()> {
    for suffix in ["", COMPRESSED, UNFINISHED] {
        unlink(&with(stem, suffix))?;
    }
    Ok(())
}

/// Compresses a log's rotated files but for the newest, which collectors of logs may still read.
///
/// # Errors
/// One cannot be read or written; it stays as it is.
pub(crate) fn compress(log: &Path) -> io::Result<()> {
    let mut stems = stems(log);
    stems.pop();
    for stem in stems {
        match File::open(&stem) {
            // Compressed already, or removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            plain => compress_one(&mut plain?, &stem)?,
        }
    }
    Ok(())
}

fn compress_one(plain: &mut File, stem: &Path) -> io::Result<()> {
    let (compressed, unfinished) = (with(stem, COMPRESSED), with(stem, UNFINISHED));
    let written = File::create(&unfinished).and_then(|file| {
        file.set_permissions(plain.metadata()?.permissions())?;
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(plain, &mut encoder)?;
        encoder.finish().map(drop)
    });
    if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &compressed)) {
        let _ = fs::remove_file(&unfinished);
        // One that was removed while it was compressed is no failure.
        return if stem.exists() { Err(error) } else { Ok(()) };
    }
    match fs::remove_file(stem) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => unlink(&compressed),
        other => other,
    }
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        super::super::paths::names(dir)
    }

    #[test]
    fn all_but_the_newest_are_compressed() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-1", "0.log.20260101-2", "0.log.20260101-3", "0.logs", "1.log.2"]
        {
            fs::write(dir.path().join(name), name).expect("written");
        }
        // What a kill in the middle leaves.
        fs::write(dir.path().join("0.log.20260101-1.tmp"), "half").expect("written");
        compress(&log).expect("compressed");
        let wanted =
            ["0.log", "0.log.20260101-1.gz", "0.log.20260101-2.gz", "0.log.20260101-3", "0.logs", "1.log.2"];
        assert_eq!(names(dir.path()), wanted);
        compress(&log).expect("nothing to do");
        let stems = stems(&log);
        assert_eq!(stems.len(), 3);
        for stem in &stems {
            let mut text = String::new();
            open(stem).expect("opened").read_to_string(&mut text).expect("read");
            assert_eq!(Some(text.as_str()), stem.file_name().and_then(|n| n.to_str()));
            remove(stem).expect("removed");
        }
        assert_eq!(names(dir.path()), ["0.log", "0.logs", "1.log.2"]);
        assert!(open(&stems[0]).is_err());
    }

    #[test]
    fn a_log_that_is_removed_meanwhile_does_not_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let stem = dir.path().join("0.log.2");
        fs::write(&stem, "text").expect("written");
        let mut plain = File::open(&stem).expect("opened");
        remove(&stem).expect("removed");
        compress_one(&mut plain, &stem).expect("compressed for nothing");
        assert!(names(dir.path()).is_empty());
    }
}
