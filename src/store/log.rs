//! The write-ahead log: preallocated segments to which records are appended and synced.
//!
//! A commit is acknowledged after its record was synced, and a record is written only after the
//! one before it was. So at most the last record can be torn by a power cut; it was acknowledged
//! to nobody and is wiped at the next start. Anything else that is wrong is a failing disk, and
//! start refuses to guess.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::error::{Context, Error};
use super::record::{self, Found, Record, RecordBuffer, SEGMENT_HEADER, SegmentHeader};
use super::segment::{self, Maker, Segment};
use super::types::Revision;

/// The largest segment that is preallocated when no single record needs more.
const MAX_SEGMENT: u64 = 32 << 20;
/// The smallest segment tried when the disk is nearly full.
const MIN_SEGMENT: u64 = 64 << 10;

/// The open log.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    maker: Maker,
    /// `None` after a failed write: the segment is suspect, the next commit starts another.
    segment: Option<Segment>,
    last_sequence: u64,
    /// Where the records of the last segment end.
    end: u64,
    first_size: u64,
    used: u64,
}

/// What [`Log::open`] found beside records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Records replayed.
    pub records: usize,
    /// The last write had not been finished and was wiped.
    pub torn: bool,
}

impl Log {
    /// Opens the log in `dir`, which exists, and hands every record from segment `from` on to
    /// `apply`, in order. Makes the first segment if there is none, unless one is `required`.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: u64,
        required: bool,
        first_size: u64,
        mut apply: impl FnMut(Record),
    ) -> Result<(Self, Tail), Error> {
        let sequences = segments(&*disk, dir)?;
        let sequences: Vec<u64> = sequences.into_iter().filter(|s| *s >= from).collect();
        let maker = Maker::new(Arc::clone(&disk), dir);
        maker.clean()?;
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            maker,
            segment: None,
            last_sequence: from - 1,
            end: 0,
            first_size,
            used: 0,
        };
        let mut tail = Tail::default();
        let mut read: Option<(PathBuf, SegmentHeader, Vec<u8>)> = None;
        let mut last_revision = 0;
        let mut visit = |record: Record| {
            let in_order = record.revision >= last_revision;
            last_revision = record.revision;
            tail.records += 1;
            apply(record);
            in_order
        };
        for sequence in sequences {
            if sequence != log.last_sequence + 1 {
                let path = segment::path(dir, log.last_sequence + 1);
                return Err(Error::corrupt(path, "this segment of the log is missing"));
            }
            let next = log.read(sequence)?;
            if let Some((path, header, bytes)) = read.take() {
                log.used += replay(&path, header, &bytes, next.1.previous_end, &mut visit)?;
            }
            log.last_sequence = sequence;
            read = Some(next);
        }
        match read {
            Some((path, header, bytes)) => {
                let (end, torn) = replay_last(&path, header, &bytes, &mut visit)?;
                log.used += end;
                tail.torn = torn;
                log.continue_in(path, header, &bytes, end)?;
            }
            None if required => {
                return Err(Error::corrupt(segment::path(dir, from), "the log is missing"));
            }
            None => log.rotate(0)?,
        }
        Ok((log, tail))
    }

    /// Writes and syncs one record.
    pub(super) fn append(
        &mut self,
        record: &mut RecordBuffer,
        revision: Revision,
        reserved: Revision,
    ) -> Result<(), Error> {
        let needed = record.len() as u64 + 1;
        if self.segment.as_ref().is_none_or(|s| self.end + needed > s.size) {
            self.rotate(needed)?;
        }
        let segment = self.segment.as_mut().expect("rotate made a segment");
        let bytes = record.finish(segment.salt, revision, reserved);
        let written = segment.file.write_at(self.end, bytes);
        if let Err(e) = written.and_then(|()| segment.file.sync_data()) {
            return Err(self.give_up(e));
        }
        let next = record::align(self.end as usize + bytes.len()) as u64;
        self.used += next - self.end;
        self.end = next;
        if self.end > segment.size / 2 {
            let (sequence, size) = (self.last_sequence + 1, self.next_size());
            self.maker.prepare(sequence, size);
        }
        Ok(())
    }

    /// Starts a new segment with room for a record of `needed` bytes.
    pub(super) fn rotate(&mut self, needed: u64) -> Result<(), Error> {
        let sequence = self.last_sequence + 1;
        let header = SegmentHeader { sequence, salt: rand::random(), previous_end: self.end };
        let least = (SEGMENT_HEADER + needed).next_multiple_of(4096);
        let mut size = self.next_size().max(least);
        loop {
            match self.maker.make(header, size, least) {
                Ok(segment) => {
                    self.segment = Some(segment);
                    self.last_sequence = sequence;
                    self.end = SEGMENT_HEADER;
                    return Ok(());
                }
                Err(Error::Full { .. }) if size > least.max(MIN_SEGMENT) => {
                    size = (size / 2).max(least);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Segments grow with the log, so that little is wasted where little is written.
    fn next_size(&self) -> u64 {
        self.used.clamp(self.first_size, self.first_size.max(MAX_SEGMENT))
    }

    /// The sequence number of the segment written to.
    pub(super) fn sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Bytes of records that a start would replay.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Sets what [`Log::used`] answers: a checkpoint covers the log so far, or failed to.
    pub(super) fn set_used(&mut self, used: u64) {
        self.used = used;
    }

    fn read(&self, sequence: u64) -> Result<(PathBuf, SegmentHeader, Vec<u8>), Error> {
        let path = segment::path(&self.dir, sequence);
        let bytes = self.disk.read(&path).on(&path)?;
        match SegmentHeader::decode(&bytes) {
            Some(header) if header.sequence == sequence => Ok((path, header, bytes)),
            _ => Err(Error::corrupt(path, "the header of this log segment is damaged")),
        }
    }

    /// Goes on in the last segment after a start, wiping what an unfinished write left.
    fn continue_in(
        &mut self,
        path: PathBuf,
        header: SegmentHeader,
        bytes: &[u8],
        end: u64,
    ) -> Result<(), Error> {
        let mut file = self.disk.open(&path).on(&path)?;
        if let Some(last) = bytes[end as usize..].iter().rposition(|b| *b != 0) {
            let mut wipe = || file.write_at(end, &vec![0; last + 1]).and_then(|()| file.sync_data());
            wipe().on(&path)?;
        }
        let size = bytes.len() as u64;
        self.segment = Some(Segment { file, path, salt: header.salt, size });
        self.end = end;
        Ok(())
    }

    /// After a failed write nobody knows what is on the disk behind [`Self::end`]; the next
    /// segment's header says that it does not count. Cutting it off helps if none can be made.
    fn give_up(&mut self, error: io::Error) -> Error {
        let Some(mut segment) = self.segment.take() else {
            return Error::io(&self.dir, error);
        };
        let _ = segment.file.set_len(self.end).and_then(|()| segment.file.sync_data());
        Error::io(segment.path, error)
    }
}

/// The sequence numbers of the segments in `dir`, in order.
pub(super) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = disk.list(dir).on(dir)?;
    let number = |name: String| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok();
    let mut sequences: Vec<u64> = names.into_iter().filter_map(number).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// Removes the segments before `sequence`.
pub(super) fn remove_before(disk: &dyn Disk, dir: &Path, sequence: u64) -> Result<(), Error> {
    for old in segments(disk, dir)?.into_iter().filter(|s| *s < sequence) {
        let path = segment::path(dir, old);
        disk.remove_file(&path).on(&path)?;
    }
    disk.sync_dir(dir).on(dir)
}

/// Replays a segment that has a successor, which says where its records end.
fn replay(
    path: &Path,
    header: SegmentHeader,
    bytes: &[u8],
    end: u64,
    visit: &mut impl FnMut(Record) -> bool,
) -> Result<u64, Error> {
    let mut at = SEGMENT_HEADER as usize;
    while (at as u64) < end {
        let Found::Record(record) = record::read(bytes, at, header.salt) else {
            return Err(damaged(path, at, "a record that was acknowledged is damaged"));
        };
        at = record.next;
        if !visit(record) {
            return Err(damaged(path, at, "revisions go backwards before this place"));
        }
    }
    match at as u64 == end {
        true => Ok(end),
        false => Err(damaged(path, at, "the segment does not end where the next one says")),
    }
}

/// Replays the last segment; answers where its records end and whether the last was torn.
fn replay_last(
    path: &Path,
    header: SegmentHeader,
    bytes: &[u8],
    visit: &mut impl FnMut(Record) -> bool,
) -> Result<(u64, bool), Error> {
    let mut at = SEGMENT_HEADER as usize;
    loop {
        match record::read(bytes, at, header.salt) {
            Found::Record(record) => {
                at = record.next;
                if !visit(record) {
                    return Err(damaged(path, at, "revisions go backwards before this place"));
                }
            }
            Found::Damaged(what) => return Err(damaged(path, at, what)),
            Found::Nothing | Found::Torn => break,
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let torn = rest.iter().any(|b| *b != 0);
    if torn && record::find(bytes, at + record::RECORD_HEADER, header.salt).is_some() {
        return Err(damaged(path, at, "a record is damaged and whole ones follow it"));
    }
    Ok((at.min(bytes.len()) as u64, torn))
}

fn damaged(path: &Path, at: usize, what: &str) -> Error {
    Error::corrupt(path, format!("at byte {at}: {what}"))
}

#[cfg(test)]
mod tests;
