//! What goes through the pipe between the store and the checkpoint engine.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::record::Input;
use super::types::{Entry, Revision};

const ENTRY: u8 = 1;
const END: u8 = 2;
const FAILED: u8 = 3;

/// What a generation says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// The newest commit in it.
    pub revision: Revision,
    /// No revision above this was handed out when it was made.
    pub reserved: Revision,
    /// The first log segment with later commits; 0 in a snapshot, which has no log.
    pub log_start: u64,
    /// Number of entries.
    pub count: u64,
    /// CRC32C over the CRCs of all entries.
    pub hash: u32,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        for number in [self.revision, self.reserved, self.log_start, self.count] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.hash.to_le_bytes());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let meta = Self {
            revision: input.u64()?,
            reserved: input.u64()?,
            log_start: input.u64()?,
            count: input.u64()?,
            hash: input.u32()?,
        };
        let crc = crc32c::crc32c(&bytes[..36]);
        (input.u32()? == crc && input.0.is_empty()).then_some(meta)
    }
}

/// One message of the stream. A stream ends with `End` or `Failed`; one that just ends was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The next entry, in order of key.
    Entry(Entry),
    /// That was all.
    End(Meta),
    /// It cannot be done.
    Failed(String),
}

impl Frame {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Entry(entry) => {
                let mut head = [ENTRY; 25];
                head[1..5].copy_from_slice(&(entry.key.len() as u32).to_le_bytes());
                head[5..9].copy_from_slice(&(entry.value.len() as u32).to_le_bytes());
                head[9..17].copy_from_slice(&entry.created.to_le_bytes());
                head[17..25].copy_from_slice(&entry.modified.to_le_bytes());
                out.write_all(&head)?;
                out.write_all(&entry.key)?;
                out.write_all(&entry.value)
            }
            Self::End(meta) => out.write_all(&[&[END], &meta.encode()[..]].concat()),
            Self::Failed(reason) => {
                let length = (reason.len() as u32).to_le_bytes();
                out.write_all(&[&[FAILED], &length[..], reason.as_bytes()].concat())
            }
        }
    }

    pub(super) fn read(input: &mut impl Read) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        match array::<1>(input)?[0] {
            ENTRY => {
                let (key, value) = (u32(input)?, u32(input)?);
                let (created, modified) = (u64(input)?, u64(input)?);
                let (key, value) = (bytes(input, key)?, bytes(input, value)?);
                Ok(Self::Entry(Entry { key, value, created, modified }))
            }
            END => {
                let meta = Meta::decode(&array::<40>(input)?);
                Ok(Self::End(meta.ok_or_else(|| invalid("unreadable end"))?))
            }
            FAILED => {
                let length = u32(input)?;
                let text = bytes(input, length)?;
                Ok(Self::Failed(String::from_utf8_lossy(&text).into_owned()))
            }
            _ => Err(invalid("unreadable frame")),
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    input.read_exact(&mut out)?;
    Ok(out)
}

fn u32(input: &mut impl Read) -> io::Result<u32> {
    array(input).map(u32::from_le_bytes)
}

fn u64(input: &mut impl Read) -> io::Result<u64> {
    array(input).map(u64::from_le_bytes)
}

fn bytes(input: &mut impl Read, length: u32) -> io::Result<Bytes> {
    let mut out = vec![0; length as usize];
    input.read_exact(&mut out)?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_a_cut_stream_is_an_error() {
        let entry =
            Entry { key: Bytes::from("k"), value: Bytes::from("value"), created: 1, modified: u64::MAX };
        let meta = Meta { revision: 1, reserved: 2, log_start: 3, count: 4, hash: 5 };
        let frames = [Frame::Entry(entry), Frame::Failed("why".into()), Frame::End(meta)];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write(&mut stream).unwrap();
        }
        let mut input = &stream[..];
        for frame in &frames {
            assert_eq!(&Frame::read(&mut input).unwrap(), frame);
        }
        assert!(Frame::read(&mut input).is_err());
        assert!(Frame::read(&mut &stream[..20]).is_err());
        assert_eq!(Meta::decode(&meta.encode()[..39]), None);
    }
}
