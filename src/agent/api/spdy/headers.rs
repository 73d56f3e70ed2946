//! Header blocks: counted names and values, compressed with one zlib stream a direction.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary;

/// Names and values; names are lower case.
pub(in crate::agent::api) type Headers = Vec<(String, String)>;

/// A header block larger than this is an attack.
const MAX_BLOCK: usize = 64 << 10;

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY: {text}"))
}

/// Uncompresses the blocks of one direction.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of a block.
    pub(super) fn headers(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        let mut at = 0;
        loop {
            if out.len() == out.capacity() {
                out.reserve(out.len().max(1024));
            }
            if out.len() > MAX_BLOCK {
                return Err(invalid("a header block is too large"));
            }
            let (before_in, before_out) = (self.0.total_in(), out.len());
            let status = match self.0.decompress_vec(&block[at..], &mut out, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary::bytes()).map_err(|_| invalid("unknown dictionary"))?;
                    Status::Ok
                }
                Err(_) => return Err(invalid("a header block is corrupt")),
                Ok(status) => status,
            };
            let consumed = usize::try_from(self.0.total_in() - before_in).unwrap_or(0);
            at += consumed;
            let idle = consumed == 0 && out.len() == before_out && !matches!(status, Status::Ok);
            if at >= block.len() && (out.len() < out.capacity() || idle) {
                return Ok(out);
            }
            if idle {
                return Err(invalid("a header block is cut short"));
            }
        }
    }
}

fn parse(block: &[u8]) -> io::Result<Headers> {
    let mut rest = block;
    let number = |rest: &mut &[u8]| -> io::Result<usize> {
        let (head, tail) =
            rest.split_first_chunk::<4>().ok_or_else(|| invalid("a header block is cut short"))?;
        *rest = tail;
        usize::try_from(u32::from_be_bytes(*head)).map_err(|_| invalid("a length is too large"))
    };
    let text = |rest: &mut &[u8]| -> io::Result<String> {
        let length = number(rest)?;
        let (head, tail) =
            rest.split_at_checked(length).ok_or_else(|| invalid("a header block is cut short"))?;
        *rest = tail;
        Ok(String::from_utf8_lossy(head).into_owned())
    };
    let (count, tail) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("an empty header block"))?;
    rest = tail;
    let count = u32::from_be_bytes(*count);
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?.to_lowercase();
        // Several values of a name are separated by NUL; the first one counts here.
        let value = text(&mut rest)?.split('\0').next().unwrap_or_default().to_owned();
        headers.push((name, value));
    }
    Ok(headers)
}

/// Compresses the blocks of one direction.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::best(), true);
        compress
            .set_dictionary(&dictionary::bytes())
            .map_err(|_| invalid("the dictionary was not accepted"))?;
        Ok(Self(compress))
    }

    /// A block of these headers.
    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let number = |n: usize, plain: &mut Vec<u8>| {
            plain.extend(u32::try_from(n).unwrap_or(0).to_be_bytes());
        };
        number(headers.len(), &mut plain);
        for text in headers.iter().flat_map(|(n, v)| [n, v]) {
            number(text.len(), &mut plain);
            plain.extend(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 128);
        let mut at = 0;
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(&plain[at..], &mut out, FlushCompress::Sync)
                .map_err(|_| invalid("headers could not be compressed"))?;
            at += usize::try_from(self.0.total_in() - before).unwrap_or(0);
            if at >= plain.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(out.len().max(128));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written_one_after_the_other() {
        let (mut deflater, mut inflater) = (Deflater::new().expect("a stream"), Inflater::new());
        for round in 0..3 {
            let id = round.to_string();
            let block = deflater.block(&[("streamtype", "stdin"), ("requestid", &id)]).expect("compressed");
            if round == 0 {
                assert_eq!(
                    &block[..6],
                    &[0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2][..],
                    "zlib header with the dictionary's id"
                );
            }
            let headers = inflater.headers(&block).expect("uncompressed");
            assert_eq!(
                headers,
                [("streamtype".to_owned(), "stdin".to_owned()), ("requestid".to_owned(), id)]
            );
        }
        let none = deflater.block(&[]).expect("compressed");
        assert!(inflater.headers(&none).expect("uncompressed").is_empty());
    }

    #[test]
    fn what_is_corrupt_is_an_error() {
        assert!(Inflater::new().headers(b"garbage").is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']).is_err());
        assert!(parse(&[]).is_err());
    }
}
