//! Sparse files in archives: GNU tar's PAX formats 0.0, 0.1 and 1.0 ("Storing Sparse Files" in its
//! manual). Its old format is the tar crate's to read; here its holes become holes again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

/// A file's holes are told by as many pairs at most: a megabyte of them.
const MAX_PAIRS: usize = 65_536;
const BLOCK: usize = 4096;

/// What the PAX headers of an entry say about its holes.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    major: u32,
    /// The file's real size.
    size: Option<u64>,
    /// The file's real name, where the entry has a made-up one.
    pub name: Option<Vec<u8>>,
    /// Offset and length of what is there.
    map: Vec<(u64, u64)>,
    /// The offset of a pair whose length follows.
    offset: Option<u64>,
}

impl Sparse {
    /// Takes one PAX header; others than those of sparse files are ignored.
    pub(super) fn header(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let Some(key) = key.strip_prefix(b"GNU.sparse.") else { return Ok(()) };
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = u32::try_from(number(value)?).map_err(|_| bad())?,
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"map" => {
                let mut numbers = value.split(|b| *b == b',').map(number);
                while let Some(offset) = numbers.next() {
                    self.pair(offset?, numbers.next().ok_or_else(bad)??)?;
                }
            }
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(bad)?;
                self.pair(offset, number(value)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the entry is a sparse file.
    pub(super) fn is_some(&self) -> bool {
        self.size.is_some()
    }

    fn pair(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or_else(bad)?;
        if self.map.len() == MAX_PAIRS || self.size.is_some_and(|size| end > size) {
            return Err(bad());
        }
        self.map.push((offset, length));
        Ok(())
    }

    /// Writes the file from what the archive has of it; answers how many bytes that are.
    pub(super) fn write(mut self, entry: &mut impl Read, file: &mut File) -> io::Result<u64> {
        if self.major == 1 {
            self.read_map(entry)?;
        }
        let mut written = 0;
        for (offset, length) in &self.map {
            let mut at = At { file, offset: *offset };
            let n = io::copy(&mut entry.take(*length), &mut at)?;
            if n < *length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            written += n;
        }
        file.set_len(self.size.unwrap_or(0))?;
        Ok(written)
    }

    /// Format 1.0: before the data there is a line with the number of pairs, and two lines each.
    fn read_map(&mut self, entry: &mut impl Read) -> io::Result<()> {
        let mut read = 0;
        let mut line = || -> io::Result<u64> {
            let mut digits = Vec::new();
            loop {
                let mut byte = [0];
                entry.read_exact(&mut byte)?;
                read += 1;
                match byte[0] {
                    b'\n' => return number(&digits),
                    _ if digits.len() == 20 => return Err(bad()),
                    byte => digits.push(byte),
                }
            }
        };
        let mut pairs = Vec::new();
        for _ in 0..line()?.min(MAX_PAIRS as u64 + 1) {
            pairs.push((line()?, line()?));
        }
        for (offset, length) in pairs {
            self.pair(offset, length)?;
        }
        // Padded to whole records.
        let padding = (512 - read % 512) % 512;
        io::copy(&mut entry.take(padding), &mut io::sink()).map(drop)
    }
}

fn number(digits: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(digits).ok().and_then(|t| t.trim().parse().ok()).ok_or_else(bad)
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the map of a sparse file is wrong")
}

/// Writes at a place of its own.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(bytes, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies a file with its zeros left out; answers how many bytes were written.
pub(super) fn copy_with_holes(from: &mut impl Read, file: &mut File) -> io::Result<u64> {
    let (mut offset, mut written, mut block) = (0, 0, [0; BLOCK]);
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match from.read(&mut block[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if block[..filled].iter().any(|b| *b != 0) {
            file.write_all_at(&block[..filled], offset)?;
            written += filled as u64;
        }
        offset += filled as u64;
        if filled < BLOCK {
            file.set_len(offset)?;
            return Ok(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn write(headers: &[(&str, &str)], mut data: &[u8]) -> io::Result<Vec<u8>> {
        let mut sparse = Sparse::default();
        for (key, value) in headers {
            sparse.header(key.as_bytes(), value.as_bytes())?;
        }
        assert!(sparse.is_some());
        let mut file = tempfile::tempfile()?;
        sparse.write(&mut data, &mut file)?;
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    #[test]
    fn all_three_formats_are_read() {
        let expected = b"\0\0ab\0c\0\0";
        let old = [
            ("GNU.sparse.size", "8"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "2"),
            ("GNU.sparse.numbytes", "2"),
            ("GNU.sparse.offset", "5"),
            ("GNU.sparse.numbytes", "1"),
        ];
        assert_eq!(write(&old, b"abc").unwrap(), expected);
        let one = [("GNU.sparse.size", "8"), ("GNU.sparse.map", "2,2,5,1")];
        assert_eq!(write(&one, b"abc").unwrap(), expected);
        let new = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "8")];
        let mut data = b"2\n2\n2\n5\n1\n".to_vec();
        data.resize(512, 0);
        data.extend(b"abc");
        assert_eq!(write(&new, &data).unwrap(), expected);
    }

    #[test]
    fn wrong_maps_are_refused() {
        let size = ("GNU.sparse.size", "8");
        for headers in [
            vec![size, ("GNU.sparse.map", "2")],
            vec![size, ("GNU.sparse.map", "7,2")],
            vec![size, ("GNU.sparse.map", "18446744073709551615,2")],
            vec![size, ("GNU.sparse.numbytes", "2")],
            vec![size, ("GNU.sparse.map", "0,4")],
            vec![size, ("GNU.sparse.major", "1")],
        ] {
            assert!(write(&headers, b"abc").is_err(), "{headers:?}");
        }
    }

    #[test]
    fn zeros_become_holes() {
        let mut data = vec![0; 1 << 20];
        data.extend(b"end");
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(copy_with_holes(&mut &data[..], &mut file).unwrap(), 3);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), data.len() as u64);
        assert!(metadata.blocks() * 512 < 100_000, "{} blocks", metadata.blocks());
    }
}
