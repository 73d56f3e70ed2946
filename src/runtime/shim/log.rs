//! A container's log in the CRI format: one record a line, `time stream F|P text`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::runtime::rotated;

/// Longer lines are split into records marked `P` of this many bytes, as containerd's are.
const MAX_LINE: usize = 16 * 1024;

/// Which stream a record is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// An open log file.
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    /// Beginnings of lines, by stream.
    pending: [Vec<u8>; 2],
    rotated: bool,
}

impl Log {
    /// Opens the file for appending and makes its directory. It is rotated at `max_bytes` (0: never),
    /// and `max_files` files are kept, the present one included.
    pub fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        let (file, size) = open(path)?;
        let path = path.to_path_buf();
        Ok(Self { path, file, size, max_bytes, max_files, pending: Default::default(), rotated: false })
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    /// Writes what was read from a stream: whole lines at once, the rest when its line ends.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let pending = &mut self.pending[stream as usize];
        let prefix = prefix(stream);
        let mut records = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let mut text = text;
            while pending.len() + text.len() > MAX_LINE {
                let (head, tail) = text.split_at(MAX_LINE - pending.len());
                pending.extend_from_slice(head);
                record(&mut records, &prefix, "P ", pending);
                text = tail;
            }
            pending.extend_from_slice(text);
            if ended {
                record(&mut records, &prefix, "F ", pending);
            }
        }
        self.append(&records)
    }

    /// Writes a last line that was not ended.
    pub fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let mut records = Vec::new();
        let pending = &mut self.pending[stream as usize];
        if !pending.is_empty() {
            record(&mut records, &prefix(stream), "P ", pending);
        }
        self.append(&records)
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if self.max_bytes > 0 && self.size > 0 && self.size + records.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        if let Err(e) = self.file.write_all(records) {
            // Half a record would spoil the next one, which is written when there is room again.
            let _ = self.file.set_len(self.size);
            return Err(e);
        }
        self.size += records.len() as u64;
        Ok(())
    }

    /// Renames the file to `<name>.<time>`, as the kubelet does, and removes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        let mut rotated = self.path.as_os_str().to_owned();
        rotated.push(Timestamp::now().strftime(".%Y%m%d-%H%M%S%.9f").to_string());
        match std::fs::rename(&self.path, rotated) {
            // It was moved before, and then there was no room for a new one.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.reopen()?;
        self.rotated = true;
        let keep = (self.max_files.max(2) - 1) as usize;
        let old = rotated::stems(&self.path);
        for stem in old.iter().take(old.len().saturating_sub(keep)) {
            rotated::remove(stem)?;
        }
        Ok(())
    }

    /// The log's path, once after it was rotated.
    pub fn take_rotated(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.rotated).then(|| self.path.clone())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn prefix(stream: Stream) -> String {
    let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    format!("{} {name} ", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ"))
}

fn record(records: &mut Vec<u8>, prefix: &str, tag: &str, text: &mut Vec<u8>) {
    records.extend_from_slice(prefix.as_bytes());
    records.extend_from_slice(tag.as_bytes());
    records.append(text);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let split = |l: &str| {
            let (time, rest) = l.split_once(' ').unwrap();
            assert_eq!(time.len(), "2026-01-02T03:04:05.000000000Z".len(), "{time}");
            let (head, text) = rest.split_at("stdout F".len());
            (head.to_string(), text[1..].to_string())
        };
        text.lines().map(split).collect()
    }

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/0.log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\n\nrest").unwrap();
        log.finish(Stream::Stdout).unwrap();
        log.finish(Stream::Stderr).unwrap();
        let expected = [
            ("stdout F", "one"),
            ("stderr F", "err"),
            ("stdout F", "two"),
            ("stdout F", ""),
            ("stdout P", "rest"),
        ];
        assert_eq!(lines(&path), expected.map(|(a, b)| (a.to_string(), b.to_string())));
    }

    #[test]
    fn long_lines_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        let mut long = vec![b'x'; 2 * MAX_LINE + 5];
        long.push(b'\n');
        for chunk in long.chunks(1000) {
            log.write(Stream::Stdout, chunk).unwrap();
        }
        let sizes: Vec<_> = lines(&path).into_iter().map(|(h, t)| (h, t.len())).collect();
        let p = || "stdout P".to_string();
        assert_eq!(sizes, [(p(), MAX_LINE), (p(), MAX_LINE), ("stdout F".to_string(), 5)]);
    }

    #[test]
    fn rotation_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 200, 3).unwrap();
        for n in 0..40 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!((log.take_rotated(), log.take_rotated()), (Some(path.clone()), None));
        let mut files = rotated::stems(&path);
        assert_eq!(files.len(), 2);
        files.push(path.clone());
        let text: Vec<_> = files.iter().flat_map(|f| lines(f)).map(|(_, t)| t).collect();
        let expected: Vec<_> = (40 - text.len()..40).map(|n| format!("line {n}")).collect();
        assert_eq!(text, expected);
        assert!(std::fs::metadata(&path).unwrap().len() <= 200);
    }

    #[test]
    fn a_log_that_was_moved_away_is_made_anew_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 100, 3).unwrap();
        for n in 0..2 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        for n in 2..4 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        let text: Vec<_> = lines(&path).into_iter().map(|(_, t)| t).collect();
        assert_eq!(text, ["line 2", "line 3"]);
    }

    #[test]
    fn a_full_disk_leaves_no_half_records() {
        // Not root: nothing can be mounted, and there is nothing to test.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("log"), dir.path(), Some("tmpfs"), flags, Some("size=64k")).unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        let long = [&[b'x'; 9000][..], b"\n"].concat();
        let failed = (0..12).filter(|_| log.write(Stream::Stdout, &long).is_err()).count();
        let full = lines(&path).iter().all(|(_, t)| t.len() == 9000);
        log.file.set_len(0).unwrap();
        log.size = 0;
        log.write(Stream::Stdout, b"again\n").unwrap();
        let after = lines(&path).len();
        drop(log);
        nix::mount::umount(dir.path()).unwrap();
        assert!(failed > 0 && full && after == 1, "{failed} {full} {after}");
    }

    #[test]
    fn reopening_starts_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        log.write(Stream::Stdout, b"old\n").unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stdout, b"new\n").unwrap();
        assert_eq!(lines(&path).len(), 1);
    }
}
