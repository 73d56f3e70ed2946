//! Decompresses and hashes a stream in one thread while another uses it: two cores make a layer in the
//! time that one needs to write it. Buffers go round, so the memory stays the same.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use super::compression;
use super::digest;
use super::error::Error;

const CHUNK: usize = 256 << 10;
/// Chunks between the two threads.
const WAITING: usize = 4;

/// The uncompressed bytes of `source`, given to `consume`, and their digest, also of what it did not read.
/// `Err` of the source comes to `consume` as the error of a read.
pub(super) fn hashed<T>(
    source: impl Read + Send,
    consume: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
) -> Result<(T, io::Result<String>), Error> {
    std::thread::scope(|scope| {
        let (full, chunks) = sync_channel(WAITING);
        let (empty, spare) = sync_channel(WAITING + 2);
        let producer = scope.spawn(move || produce(source, &full, &spare));
        // Its end tells the producer to stop: it is dropped before that is waited for.
        let mut pipe = Pipe { chunks, empty, chunk: Vec::new(), at: 0 };
        let value = consume(&mut pipe)?;
        let rest = io::copy(&mut pipe, &mut io::sink());
        drop(pipe);
        let found = producer.join().unwrap_or_else(|_| Err(io::Error::other("the decompressor failed")));
        Ok((value, rest.and(found)))
    })
}

fn produce(
    source: impl Read,
    full: &SyncSender<io::Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let work = |hasher: &mut Sha256| -> io::Result<()> {
        let mut stream = compression::open(source)?;
        loop {
            let mut chunk = spare.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let mut size = 0;
            while size < CHUNK {
                match stream.read(&mut chunk[size..])? {
                    0 => break,
                    n => size += n,
                }
            }
            chunk.truncate(size);
            hasher.update(&chunk);
            if size == 0 || full.send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
    };
    match work(&mut hasher) {
        Ok(()) => Ok(digest::finish(hasher)),
        Err(error) => {
            let copy = io::Error::new(error.kind(), error.to_string());
            // Nobody to tell: whoever reads has failed, too, and says why.
            let _ = full.send(Err(error));
            Err(copy)
        }
    }
}

/// The reading end.
struct Pipe {
    chunks: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Ok(next) = self.chunks.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.chunk, next?);
            // A producer that has ended needs none.
            let _ = self.empty.try_send(used);
            self.at = 0;
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Vec<u8> {
        (0..500_000u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn all_is_hashed_whatever_is_read() {
        let content = content();
        for read in [0, 10, content.len()] {
            let (first, found) = hashed(&content[..], |pipe| {
                let mut first = vec![0; read];
                pipe.read_exact(&mut first).map_err(|e| Error::invalid("x", e))?;
                Ok(first)
            })
            .unwrap();
            assert!(first == content[..read]);
            assert_eq!(found.unwrap(), digest::of(&content));
        }
    }

    #[test]
    fn errors_of_either_side_end_both() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.checked_sub(buffer.len()) {
                    Some(left) => self.0 = left,
                    None => return Err(io::Error::other("the cable was pulled")),
                }
                Ok(buffer.len())
            }
        }
        let error = hashed(Broken(2_000_000), |pipe| {
            io::copy(pipe, &mut io::sink()).map_err(|e| Error::invalid("x", e))
        });
        assert!(error.unwrap_err().to_string().contains("the cable was pulled"));
        let gone: Result<((), _), _> = hashed(io::repeat(1), |_| Err(Error::invalid("x", "no more")));
        assert!(gone.unwrap_err().to_string().contains("no more"));
    }
}
