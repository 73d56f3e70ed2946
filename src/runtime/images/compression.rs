//! Compressed or not: told by the first bytes, since media types are often wrong.

use std::io::{self, BufRead, BufReader, Read};

use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const BUFFER: usize = 64 << 10;
/// Larger windows would need as much memory; zstd itself refuses them too.
const MAX_WINDOW: u64 = 128 << 20;

/// The uncompressed bytes of a stream in gzip, zstd, bzip2, LZ4 or none of these.
pub(super) fn open<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let stream = Peeked::new(stream)?;
    let start = stream.start.clone();
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, stream)))
        }
        [b'B', b'Z', b'h', b'1'..=b'9'] => {
            Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(BUFFER, stream)))
        }
        [0x04, 0x22, 0x4d, 0x18] => Box::new(Lz4(Lz4Decoder::new(BufReader::with_capacity(BUFFER, stream)))),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Zstd::new(stream)),
        _ => Box::new(stream),
    })
}

/// A stream whose first four bytes are known.
struct Peeked<R> {
    start: Vec<u8>,
    at: usize,
    inner: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut inner: R) -> io::Result<Self> {
        let mut start = Vec::new();
        inner.by_ref().take(4).read_to_end(&mut start)?;
        Ok(Self { start, at: 0, inner })
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.start.get(self.at..) {
            Some(mut rest) if !rest.is_empty() => {
                let n = rest.read(buffer)?;
                self.at += n;
                Ok(n)
            }
            _ => self.inner.read(buffer),
        }
    }
}

/// LZ4 with any number of frames: the decoder takes the end of one for that of the stream.
struct Lz4<R: Read>(Lz4Decoder<BufReader<R>>);

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.0.read(buffer)?;
            if n > 0 || buffer.is_empty() || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(n);
            }
        }
    }
}

/// zstd with any number of frames, also such to be skipped.
struct Zstd<R: Read> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    /// A frame has begun.
    within: bool,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { source: BufReader::with_capacity(BUFFER, source), decoder, within: false }
    }

    /// Begins the next frame with content; answers whether there is one.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let skip = match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => u64::from(length),
                Err(e) => return Err(invalid(e)),
            };
            io::copy(&mut self.source.by_ref().take(skip), &mut io::sink())?;
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within && !self.next_frame()? {
                return Ok(0);
            }
            self.within = true;
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let missing = buffer.len() - self.decoder.can_collect();
                let strategy = BlockDecodingStrategy::UptoBytes(missing);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(invalid)?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            self.within = false;
        }
    }
}

fn invalid(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests;
