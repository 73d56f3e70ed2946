//! The format of the log: a segment is a header and records, each of one group of commits.
//!
//! ```text
//! segment header, 64 bytes: magic 8, sequence 8, salt 8, end of the previous segment 8, CRC32C 4, zeros
//! record, at a multiple of 32: length 4, revision 8, reserved 8, CRC of the payload 4,
//!                              CRC of this header 4, zeros 4; payload
//! payload: kind 1; operations; 0xff
//! put:     1, key length 4, value length 4, created 8, modified 8, key, value
//! delete:  2, key length 4, revision 8, key
//! ```
//!
//! Numbers are little-endian. A record's header never straddles a sector, so a torn write leaves
//! it whole or all zeros. Every CRC is mixed with the segment's random salt, so that a value which
//! looks like a record (a copy of a log, say) is never taken for one.

use bytes::Bytes;

use super::types::Revision;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 64;
/// Bytes of a record's header, and what records are aligned to.
pub(super) const RECORD_HEADER: usize = 32;
/// What a power cut leaves whole or untouched.
pub(super) const SECTOR: usize = 512;

const MAGIC: &[u8; 8] = b"kedgelog";
const PUT: u8 = 1;
const DELETE: u8 = 2;
const END: u8 = 0xff;

/// What stands at the start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Segments are numbered without gaps.
    pub sequence: u64,
    /// Random.
    pub salt: u64,
    /// Where the valid records of the segment before this one end; what stands there beyond
    /// was never acknowledged.
    pub previous_end: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut out = [0; SEGMENT_HEADER as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out[24..32].copy_from_slice(&self.previous_end.to_le_bytes());
        let crc = crc32c::crc32c(&out[..32]);
        out[32..36].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` if these bytes are no whole header.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes.get(..SEGMENT_HEADER as usize)?);
        let magic = input.take(8)?;
        let header = Self { sequence: input.u64()?, salt: input.u64()?, previous_end: input.u64()? };
        (magic == MAGIC && input.u32()? == crc32c::crc32c(&bytes[..32])).then_some(header)
    }
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Commits.
    Commits,
    /// The store was closed here: no revision above this record's was handed out.
    Closed,
}

/// One operation as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The key has this value.
    Put { key: Bytes, value: Bytes, created: Revision, modified: Revision },
    /// The key was removed.
    Delete { key: Bytes, revision: Revision },
}

impl Change {
    pub(super) fn key(&self) -> &Bytes {
        let (Self::Put { key, .. } | Self::Delete { key, .. }) = self;
        key
    }
}

/// Builds a record in place: room for the header first, so that one write is enough.
#[derive(Debug)]
pub(super) struct RecordBuffer(Vec<u8>);

impl RecordBuffer {
    pub(super) fn new(kind: Kind) -> Self {
        let mut out = vec![0; RECORD_HEADER];
        out.push(match kind {
            Kind::Commits => 0,
            Kind::Closed => 1,
        });
        Self(out)
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, change: &Change) {
        let out = &mut self.0;
        let length = |bytes: &Bytes| (bytes.len() as u32).to_le_bytes();
        match change {
            Change::Put { key, value, created, modified } => {
                out.push(PUT);
                out.extend(length(key));
                out.extend(length(value));
                out.extend(created.to_le_bytes());
                out.extend(modified.to_le_bytes());
                out.extend(key);
                out.extend(value);
            }
            Change::Delete { key, revision } => {
                out.push(DELETE);
                out.extend(length(key));
                out.extend(revision.to_le_bytes());
                out.extend(key);
            }
        }
    }

    /// The whole record, for a segment with this salt.
    pub(super) fn finish(&mut self, salt: u64, revision: Revision, reserved: Revision) -> &[u8] {
        let out = &mut self.0;
        out.push(END);
        let length = (out.len() - RECORD_HEADER) as u32;
        let crc = crc(salt, &out[RECORD_HEADER..]);
        out[..4].copy_from_slice(&length.to_le_bytes());
        out[4..12].copy_from_slice(&revision.to_le_bytes());
        out[12..20].copy_from_slice(&reserved.to_le_bytes());
        out[20..24].copy_from_slice(&crc.to_le_bytes());
        let crc = self::crc(salt, &out[..24]);
        out[24..28].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

fn crc(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

/// A record that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub kind: Kind,
    pub revision: Revision,
    pub reserved: Revision,
    pub changes: Vec<Change>,
    /// Where the next record begins.
    pub next: usize,
}

/// What stands at a place of a segment where a record may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record.
    Record(Record),
    /// Nothing was written here, or its first sector was not.
    Nothing,
    /// A record of which at least one sector was not written.
    Torn,
    /// Something else than was written: no power cut leaves this.
    Damaged(&'static str),
}

/// Reads what stands at `offset`, a multiple of [`RECORD_HEADER`].
pub(super) fn read(segment: &[u8], offset: usize, salt: u64) -> Found {
    let Some(header) = segment.get(offset..offset + RECORD_HEADER) else {
        return Found::Nothing;
    };
    if header.iter().all(|b| *b == 0) {
        return Found::Nothing;
    }
    let Some((length, revision, reserved, payload_crc)) = read_header(header, salt) else {
        return Found::Damaged("a record's header is damaged");
    };
    let start = offset + RECORD_HEADER;
    let end = start + length as usize;
    let Some(payload) = segment.get(start..end) else {
        return Found::Damaged("the segment is shorter than its records");
    };
    if crc(salt, payload) != payload_crc {
        return match has_empty_sector(segment, start, end) {
            true => Found::Torn,
            false => Found::Damaged("a record does not match its CRC"),
        };
    }
    match decode(payload) {
        Some((kind, changes)) => {
            Found::Record(Record { kind, revision, reserved, changes, next: align(end) })
        }
        None => Found::Damaged("a record matches its CRC but cannot be read"),
    }
}

/// Where the first record at or after `offset` is, if any is whole.
pub(super) fn find(segment: &[u8], offset: usize, salt: u64) -> Option<usize> {
    (align(offset)..segment.len())
        .step_by(RECORD_HEADER)
        .filter(|at| segment.get(*at).is_some_and(|_| has_header(segment, *at, salt)))
        .find(|at| matches!(read(segment, *at, salt), Found::Record(_)))
}

fn has_header(segment: &[u8], at: usize, salt: u64) -> bool {
    let header = segment.get(at..at + RECORD_HEADER);
    header.is_some_and(|h| h[..4] != [0; 4] && read_header(h, salt).is_some())
}

fn read_header(header: &[u8], salt: u64) -> Option<(u32, Revision, Revision, u32)> {
    let mut input = Input(header);
    let fields = (input.u32()?, input.u64()?, input.u64()?, input.u32()?);
    let whole = input.u32()? == crc(salt, &header[..24]) && input.u32()? == 0;
    whole.then_some(fields)
}

/// A power cut leaves sectors as they were, which is zeros, since segments are filled with them.
fn has_empty_sector(segment: &[u8], start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        let next = ((at / SECTOR + 1) * SECTOR).min(end);
        if segment[at..next].iter().all(|b| *b == 0) {
            return true;
        }
        at = next;
    }
    false
}

pub(super) fn align(offset: usize) -> usize {
    offset.next_multiple_of(RECORD_HEADER)
}

fn decode(payload: &[u8]) -> Option<(Kind, Vec<Change>)> {
    let mut input = Input(payload);
    let kind = match input.u8()? {
        0 => Kind::Commits,
        1 => Kind::Closed,
        _ => return None,
    };
    let mut changes = Vec::new();
    loop {
        changes.push(match input.u8()? {
            PUT => {
                let (key, value) = (input.u32()?, input.u32()?);
                let (created, modified) = (input.u64()?, input.u64()?);
                let key = Bytes::copy_from_slice(input.take(key as usize)?);
                let value = Bytes::copy_from_slice(input.take(value as usize)?);
                Change::Put { key, value, created, modified }
            }
            DELETE => {
                let (key, revision) = (input.u32()?, input.u64()?);
                let key = Bytes::copy_from_slice(input.take(key as usize)?);
                Change::Delete { key, revision }
            }
            END => return input.0.is_empty().then_some((kind, changes)),
            _ => return None,
        });
    }
}

/// Reads numbers off the front of a slice.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
