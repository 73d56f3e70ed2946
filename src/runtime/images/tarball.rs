//! Reads tar archives as layers are: ustar, GNU's and PAX (POSIX.1-2001, `pax` utility).
//!
//! Headers are the tar crate's. Its own reader takes PAX records apart at line ends, on which binary
//! attributes such as capabilities break, and takes headers of any size into memory.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::sparse::Sparse;

const BLOCK: usize = 512;
/// Names and attributes of one member; Go's tar has the same limit.
const MAX_HEADER: u64 = 1 << 20;

/// An archive being read. Reading it gives the content of the member that [`Tarball::next`] answered last.
pub(super) struct Tarball<R> {
    source: R,
    /// Bytes of the present member's content, and of what pads it.
    left: u64,
    padding: u64,
}

/// A member, before its content.
#[derive(Debug)]
pub(super) struct Member {
    pub header: Header,
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// PAX records, in order.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is there of a sparse file.
    pub sparse: Sparse,
}

/// What earlier headers say of the member that follows.
#[derive(Default)]
struct Told {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// What it is. Before POSIX, a directory was a file whose name ends in a slash.
    pub(super) fn kind(&self) -> EntryType {
        match self.header.as_bytes()[156] {
            0 if self.path.ends_with(b"/") => EntryType::Directory,
            _ => self.header.entry_type(),
        }
    }

    /// The last record of that name.
    pub(super) fn record(&self, name: &str) -> Option<&[u8]> {
        self.records.iter().rev().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// A record as a number; an error if it is none.
    pub(super) fn number(&self, name: &str) -> io::Result<Option<u64>> {
        let parse =
            |v: &[u8]| std::str::from_utf8(v).ok().and_then(|t| t.trim().parse().ok()).ok_or_else(bad);
        self.record(name).map(parse).transpose()
    }
}

impl<R: Read> Tarball<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next member, `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut told = Told::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => told.path = Some(until_nul(self.small(size)?)),
                EntryType::GNULongLink => told.link = Some(until_nul(self.small(size)?)),
                EntryType::XHeader => told.records.extend(records(&self.small(size)?)?),
                EntryType::XGlobalHeader => self.content(size),
                _ => return self.member(header, size, told).map(Some),
            }
        }
    }

    fn member(&mut self, header: Header, size: u64, told: Told) -> io::Result<Member> {
        let path = told.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = told.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let mut member = Member { header, path, link, records: told.records, sparse: Sparse::default() };
        if let Some(path) = member.record("path") {
            member.path = path.to_vec();
        }
        if let Some(link) = member.record("linkpath") {
            member.link = link.to_vec();
        }
        for (key, value) in &member.records {
            member.sparse.header(key, value)?;
        }
        if let Some(path) = member.sparse.name.take() {
            member.path = path;
        }
        if member.header.entry_type() == EntryType::GNUSparse {
            self.old_sparse(&mut member)?;
        }
        let size = member.number("size")?.unwrap_or(size);
        // What is no file has no content, whatever its header says.
        let is_file =
            matches!(member.kind(), EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        self.content(if is_file { size } else { 0 });
        Ok(member)
    }

    /// GNU's old format: pairs in the header, and in blocks behind it.
    fn old_sparse(&mut self, member: &mut Member) -> io::Result<()> {
        let Some(gnu) = member.header.as_gnu() else { return Err(bad()) };
        member.sparse.set_size(gnu.real_size()?);
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        let mut take = |sparse: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for pair in sparse.iter().filter(|pair| !pair.is_empty()) {
                pairs.push((pair.offset()?, pair.length()?));
            }
            Ok(())
        };
        take(&gnu.sparse)?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let mut block = GnuExtSparseHeader::new();
            self.source.read_exact(block.as_mut_bytes())?;
            take(block.sparse())?;
            goes_on = block.is_extended();
        }
        pairs.into_iter().try_for_each(|(offset, length)| member.sparse.pair(offset, length))
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK];
        let mut size = 0;
        while size < BLOCK {
            match self.source.read(&mut block[size..])? {
                0 if size == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => size += n,
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
            .sum();
        match header.cksum()? == sum {
            true => Ok(Some(header)),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "a header of the archive is damaged")),
        }
    }

    fn content(&mut self, size: u64) {
        (self.left, self.padding) = (size, (512 - size % 512) % 512);
    }

    /// Content that belongs to a header.
    fn small(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_HEADER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a header of the archive is larger than 1 MiB",
            ));
        }
        self.content(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Goes to the end of the present member.
    fn skip(&mut self) -> io::Result<()> {
        let all = self.left + self.padding;
        let skipped = io::copy(&mut self.source.by_ref().take(all), &mut io::sink())?;
        // Padding at the very end may be missing.
        if skipped < self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records `<length> <key>=<value>\n`, whose length counts all of that.
fn records(mut data: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length = std::str::from_utf8(&data[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        let record = data.get(space + 1..length).ok_or_else(bad)?;
        let (Some(b'\n'), Some(equals)) = (record.last(), record.iter().position(|b| *b == b'=')) else {
            return Err(bad());
        };
        found.push((record[..equals].to_vec(), record[equals + 1..record.len() - 1].to_vec()));
        data = &data[length..];
    }
    Ok(found)
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed pax extension")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_have_anything_in_them() {
        let found = records(b"12 path=a/b\n11 x=\n\0=y\n\n").unwrap();
        assert_eq!(found[0], (b"path".to_vec(), b"a/b".to_vec()));
        assert_eq!(found[1], (b"x".to_vec(), b"\n\0=y\n".to_vec()));
        for bad in ["12 path=a/b", "1 a=b\n", "x a=b\n", "99 a=b\n", "6 ab\n\n\n", "0 a=b\n"] {
            assert!(records(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn old_archives_tell_directories_by_their_names() {
        for (path, flag, expected) in [
            ("dir/", 0, EntryType::Directory),
            ("file", 0, EntryType::Regular),
            ("odd/", b'0', EntryType::Regular),
        ] {
            let mut header = Header::new_old();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.as_mut_bytes()[156] = flag;
            header.set_size(0);
            header.set_cksum();
            let member = Tarball::new(&header.as_bytes()[..]).next().unwrap().unwrap();
            assert_eq!(member.kind(), expected, "{path} {flag}");
        }
    }

    #[test]
    fn damaged_headers_and_huge_ones_are_told() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(2 << 20);
        header.set_cksum();
        let error = Tarball::new(&header.as_bytes()[..]).next().unwrap_err();
        assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
        let mut bytes = *header.as_bytes();
        bytes[0] ^= 1;
        let error = Tarball::new(&bytes[..]).next().unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert!(Tarball::new(&bytes[..100]).next().is_err());
        assert!(Tarball::new(&b""[..]).next().unwrap().is_none());
    }
}
