//! Reading logs in CRI's format, `time stream tag text`, and following them with inotify.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::logs::Options;
use crate::runtime::rotated;

/// Read backwards in such pieces to find the last lines.
const PIECE: u64 = 64 << 10;
/// Sent in pieces of about this size.
const CHUNK: usize = 16 << 10;

/// A log to send.
pub(super) struct Follow<'a> {
    /// The newest file.
    pub path: &'a Path,
    /// What is wanted of it.
    pub options: &'a Options,
}

/// One line, its prefix taken off.
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    text: &'a [u8],
    partial: bool,
}

fn split(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let partial = tag.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { time, stream, text, partial })
}

/// A file of the log.
struct Source {
    reader: BufReader<Box<dyn Read + Send>>,
    place: Place,
}

/// Which file of the log it is.
enum Place {
    /// The one that is written, by its name at least until the next rotation.
    Newest(File),
    /// One that was moved away, by its stem.
    Rotated(PathBuf),
}

impl Source {
    fn newest(file: File) -> io::Result<Self> {
        let reader: Box<dyn Read + Send> = Box::new(file.try_clone()?);
        Ok(Self { reader: BufReader::new(reader), place: Place::Newest(file) })
    }

    /// The newest file, from the last `tail` lines on.
    fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let start = tail.map_or(Ok(0), |lines| tail_start(&mut file, lines))?;
        file.seek(SeekFrom::Start(start))?;
        Self::newest(file)
    }
}

/// Turns lines of the file into what the client gets.
struct Filter<'a> {
    options: &'a Options,
    sent: usize,
    /// The line before was a part, so this one continues it.
    continues: bool,
}

impl Filter<'_> {
    /// Adds a line's text to `out`; whether more is wanted.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(Line { time, stream, text, partial }) = split(line.strip_suffix(b"\n").unwrap_or(line))
        else {
            return true;
        };
        if self.options.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return true;
        }
        if let Some(since) = self.options.since {
            let at = std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok());
            if at.is_some_and(|t| t < since) {
                return true;
            }
        }
        let start = out.len();
        if self.options.timestamps && !self.continues {
            out.extend(time);
            out.push(b' ');
        }
        out.extend(text);
        if !partial {
            out.push(b'\n');
        }
        self.continues = partial;
        if let Some(limit) = self.options.limit {
            let left = limit - self.sent;
            if out.len() - start >= left {
                out.truncate(start + left);
                self.sent = limit;
                return false;
            }
        }
        self.sent += out.len() - start;
        true
    }
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(length);
    }
    let (mut at, mut seen) = (length, 0);
    let mut buffer = Vec::new();
    while at > 0 {
        let start = at.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        file.by_ref().take(at - start).read_to_end(&mut buffer)?;
        for (index, byte) in buffer.iter().enumerate().rev() {
            let position = start + u64::try_from(index).unwrap_or(0);
            // The newline at the very end ends the last line.
            if *byte == b'\n' && position + 1 < length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        at = start;
    }
    Ok(0)
}

/// The whole log as the options want it.
#[cfg(test)]
pub(super) fn read_all(path: &Path, options: &Options) -> io::Result<Vec<u8>> {
    let mut reader = Source::open(path, options.tail)?.reader;
    let mut filter = Filter { options, sent: 0, continues: false };
    let (mut out, mut line) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !filter.line(&line, &mut out) {
            break;
        }
        line.clear();
    }
    Ok(out)
}

/// Tells of changes in a log's directory: writes to the file, and a new file in its place after a rotation.
fn watch(path: &Path) -> io::Result<pipe::Receiver> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    inotify::add_watch(&inotify, path.parent().unwrap_or(Path::new("/")), flags)?;
    // Not a pipe, but read like one.
    pipe::Receiver::from_owned_fd_unchecked(inotify)
}

/// Waits for a change; which one does not matter.
async fn changed(watch: &mut pipe::Receiver) -> io::Result<()> {
    let mut events = [0; 4096];
    watch.read(&mut events).await.map(drop)
}

impl Follow<'_> {
    /// Sends the log; follows it until `ended` resolves and all is sent, or the client is gone.
    pub(super) async fn send(
        &self,
        sender: &mpsc::Sender<Bytes>,
        ended: impl Future<Output = ()>,
    ) -> io::Result<()> {
        // Watched before it is read, so that nothing is missed between the two.
        let mut watch = if self.options.follow { Some(watch(self.path)?) } else { None };
        let mut source = Source::open(self.path, self.options.tail)?;
        let mut filter = Filter { options: self.options, sent: 0, continues: false };
        let mut rest = Vec::new();
        let mut ended = std::pin::pin!(ended);
        let mut running = true;
        loop {
            if !self.pass(&mut source, &mut filter, &mut rest, sender).await? {
                return Ok(());
            }
            if let Some(next) = self.next(&source.place)? {
                // What was written to the old file up to the change is read first.
                if !self.pass(&mut source, &mut filter, &mut rest, sender).await? {
                    return Ok(());
                }
                source = next;
                continue;
            }
            let Some(watch) = watch.as_mut().filter(|_| running) else { return Ok(()) };
            tokio::select! {
                result = changed(watch) => result?,
                () = &mut ended => running = false,
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends what the file has; whether more is wanted.
    async fn pass(
        &self,
        source: &mut Source,
        filter: &mut Filter<'_>,
        rest: &mut Vec<u8>,
        sender: &mpsc::Sender<Bytes>,
    ) -> io::Result<bool> {
        let mut out = Vec::new();
        loop {
            let n = source.reader.read_until(b'\n', rest)?;
            let whole = rest.last() == Some(&b'\n');
            if whole {
                let more = filter.line(rest, &mut out);
                rest.clear();
                if !more {
                    let _ = sender.send(out.into()).await;
                    return Ok(false);
                }
            }
            let end = n == 0 || !whole;
            if !out.is_empty()
                && (end || out.len() >= CHUNK)
                && sender.send(std::mem::take(&mut out).into()).await.is_err()
            {
                return Ok(false);
            }
            if end {
                return Ok(true);
            }
        }
    }

    /// Where the log goes on after what is at `place`, once another file has its name. There may be several
    /// between them: a fast writer rotates faster than a slow client reads.
    fn next(&self, place: &Place) -> io::Result<Option<Source>> {
        if !self.options.follow {
            return Ok(None);
        }
        // Opened before the others are listed: what lies between the two is among them then, however often
        // the log is rotated meanwhile.
        let newest = match File::open(self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let own = match place {
            Place::Newest(file) if file.metadata()?.ino() == newest.metadata()?.ino() => return Ok(None),
            Place::Newest(file) => name_of(file)?,
            Place::Rotated(stem) => stem.file_name().unwrap_or_default().to_owned(),
        };
        let after = |stem: &PathBuf| stem.file_name().is_some_and(|name| name > own.as_os_str());
        // One that was removed without being rotated is followed by the newest.
        let is_rotated = self.path.file_name() != Some(&own);
        match rotated::stems(self.path).into_iter().find(|stem| is_rotated && after(stem)) {
            None => Source::newest(newest).map(Some),
            Some(stem) => match rotated::open(&stem) {
                Ok(reader) => {
                    Ok(Some(Source { reader: BufReader::new(reader), place: Place::Rotated(stem) }))
                }
                // The oldest went while it was looked for.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.next(&Place::Rotated(stem)),
                Err(error) => Err(error),
            },
        }
    }
}

/// What a log's open file is called now: it may have been rotated, and compressed, which removes it.
fn name_of(file: &File) -> io::Result<OsString> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let name = path.file_name().unwrap_or_default();
    Ok(OsStr::from_bytes(name.as_bytes().strip_suffix(b" (deleted)").unwrap_or(name.as_bytes())).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(lines: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, lines.concat()).expect("written");
        (directory, path)
    }

    fn text(path: &Path, options: &Options) -> String {
        String::from_utf8(read_all(path, options).expect("read")).expect("text")
    }

    const LINES: [&str; 4] = [
        "2026-01-01T00:00:01.000000001Z stdout F one\n",
        "2026-01-01T00:00:02Z stderr P two-\n",
        "2026-01-01T00:00:03Z stderr F a\n",
        "2026-01-01T00:00:04Z stdout F  three \n",
    ];

    #[test]
    fn prefixes_go_and_parts_are_joined() {
        let (_directory, path) = log(&LINES);
        assert_eq!(text(&path, &Options::default()), "one\ntwo-a\n three \n");
        let stamped = Options { timestamps: true, ..Options::default() };
        let expected =
            "2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:02Z two-a\n2026-01-01T00:00:04Z  three \n";
        assert_eq!(text(&path, &stamped), expected);
    }

    #[test]
    fn tails_limits_and_times() {
        let (_directory, path) = log(&LINES);
        let tail = |n| text(&path, &Options { tail: Some(n), ..Options::default() });
        assert_eq!((tail(0).as_str(), tail(1).as_str()), ("", " three \n"));
        assert_eq!(tail(9), "one\ntwo-a\n three \n");
        let limit = |n| text(&path, &Options { limit: Some(n), ..Options::default() });
        assert_eq!(
            (limit(2), limit(6), limit(100)),
            ("on".into(), "one\ntw".into(), "one\ntwo-a\n three \n".into())
        );
        let stream = |s| text(&path, &Options { stream: Some(s), ..Options::default() });
        assert_eq!((stream("stdout"), stream("stderr")), ("one\n three \n".into(), "two-a\n".into()));
        let since = Some("2026-01-01T00:00:03Z".parse().expect("a time"));
        assert_eq!(text(&path, &Options { since, ..Options::default() }), "a\n three \n");
        let (_directory, long) = log(&vec!["2026-01-01T00:00:01Z stdout F x\n"; 9000]);
        assert_eq!(text(&long, &Options { tail: Some(8000), ..Options::default() }).len(), 16_000);
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_through_writes_rotation_and_end() {
        let (_directory, path) = log(&LINES[..1]);
        let options = Options { follow: true, ..Options::default() };
        let (sender, mut receiver) = mpsc::channel(16);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let follow = Follow { path: &path, options: &options };
        let ended = async {
            let _ = stopped.await;
        };
        let reading = async {
            assert_eq!(receiver.recv().await.expect("first"), "one\n");
            let mut file = File::options().append(true).open(&path).expect("opened");
            file.write_all(b"2026-01-01T00:00:05Z stdout F ").expect("written");
            file.write_all(b"later\n").expect("written");
            assert_eq!(receiver.recv().await.expect("second"), "later\n");
            // Twice, before the reader can have seen the first.
            std::fs::rename(&path, path.with_extension("log.1")).expect("renamed");
            std::fs::write(&path, "2026-01-01T00:00:06Z stdout F between\n").expect("written");
            std::fs::rename(&path, path.with_extension("log.2")).expect("renamed");
            std::fs::write(&path, "2026-01-01T00:00:06Z stdout F new\n").expect("written");
            assert_eq!(receiver.recv().await.expect("third"), "between\n");
            assert_eq!(receiver.recv().await.expect("third"), "new\n");
            // What is read, and what is to be read next, are compressed meanwhile.
            for (number, next) in [(3, "packed"), (4, "packed too"), (5, "plain")] {
                std::fs::rename(&path, path.with_extension(format!("log.{number}"))).expect("renamed");
                std::fs::write(&path, format!("2026-01-01T00:00:06Z stdout F {next}\n")).expect("written");
            }
            rotated::compress(&path).expect("compressed");
            assert!(!path.with_extension("log.4").exists() && path.with_extension("log.5").exists());
            for expected in ["packed\n", "packed too\n", "plain\n"] {
                assert_eq!(receiver.recv().await.expect("more"), expected);
            }
            std::fs::write(&path, "2026-01-01T00:00:06Z stdout F plain\n2026-01-01T00:00:07Z stdout F end\n")
                .expect("written");
            stop.send(()).expect("told");
            assert_eq!(receiver.recv().await.expect("fourth"), "end\n");
        };
        let (sent, ()) = tokio::join!(follow.send(&sender, ended), reading);
        sent.expect("sent");
    }
}
