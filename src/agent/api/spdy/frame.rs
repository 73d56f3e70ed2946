//! Frames (SPDY draft 3.1, section 2.2).

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::headers::{Deflater, Headers, Inflater};

const CONTROL: u16 = 0x8000;
const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
/// Larger data is sent in several frames.
const MAX_DATA: usize = 32 << 10;
/// Frames of 24 bits of length are allowed by the protocol; nobody sends them here.
const MAX_FRAME: usize = 1 << 20;

/// A frame that means something to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent::api) enum Frame {
    /// The client opens a stream.
    Open {
        /// Its id.
        stream: u32,
        /// Its headers.
        headers: Headers,
        /// It will send nothing on it.
        fin: bool,
    },
    /// We accept a stream.
    Accept(u32),
    /// Bytes of a stream.
    Data {
        /// Which one.
        stream: u32,
        /// They.
        data: Bytes,
        /// They are the last.
        fin: bool,
    },
    /// A stream is broken off.
    Reset {
        /// Which one.
        stream: u32,
        /// Why, as the protocol numbers it.
        status: u32,
    },
    /// To be sent back.
    Ping(u32),
    /// No new streams; the connection ends soon.
    GoAway,
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "SPDY: a frame is cut short")
}

fn word(payload: &[u8], at: usize) -> io::Result<u32> {
    let bytes = payload.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or_else(cut_short)?;
    Ok(u32::from_be_bytes(bytes))
}

const STREAM: u32 = 0x7fff_ffff;

/// Reads frames.
pub(in crate::agent::api) struct Reader<R> {
    io: R,
    inflater: Inflater,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `io`, which may be buffered.
    pub(in crate::agent::api) fn new(io: R) -> Self {
        Self { io, inflater: Inflater::new() }
    }

    /// The next frame; `None` when the connection has ended. Not to be dropped half-way.
    pub(in crate::agent::api) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut head = [0; 8];
            match self.io.read_exact(&mut head).await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                result => result?,
            };
            let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
            if length > MAX_FRAME {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "SPDY: a frame is too long"));
            }
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await?;
            let first = u16::from_be_bytes([head[0], head[1]]);
            let fin = head[4] & FLAG_FIN != 0;
            if first & CONTROL == 0 {
                let stream = word(&head, 0)? & STREAM;
                return Ok(Some(Frame::Data { stream, data: payload.into(), fin }));
            }
            let kind = u16::from_be_bytes([head[2], head[3]]);
            if let Some(frame) = self.control(kind, &payload, fin)? {
                return Ok(Some(frame));
            }
        }
    }

    /// A control frame; `None` if it is one that may be ignored.
    fn control(&mut self, kind: u16, payload: &[u8], fin: bool) -> io::Result<Option<Frame>> {
        Ok(match kind {
            SYN_STREAM => {
                let headers = self.inflater.headers(payload.get(10..).ok_or_else(cut_short)?)?;
                Some(Frame::Open { stream: word(payload, 0)? & STREAM, headers, fin })
            }
            SYN_REPLY => {
                // The compression's state depends on every block.
                self.inflater.headers(payload.get(4..).ok_or_else(cut_short)?)?;
                Some(Frame::Accept(word(payload, 0)? & STREAM))
            }
            RST_STREAM => {
                Some(Frame::Reset { stream: word(payload, 0)? & STREAM, status: word(payload, 4)? })
            }
            PING => Some(Frame::Ping(word(payload, 0)?)),
            GOAWAY => Some(Frame::GoAway),
            // HEADERS carry a block too.
            8 => {
                self.inflater.headers(payload.get(4..).ok_or_else(cut_short)?)?;
                None
            }
            _ => None,
        })
    }
}

/// Writes frames.
pub(in crate::agent::api) struct Writer<W> {
    io: W,
    deflater: Deflater,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes to `io`.
    pub(in crate::agent::api) fn new(io: W) -> io::Result<Self> {
        Ok(Self { io, deflater: Deflater::new()? })
    }

    /// Writes and flushes a frame.
    pub(in crate::agent::api) async fn send(&mut self, frame: Frame) -> io::Result<()> {
        let bytes = match frame {
            Frame::Data { stream, data, fin } => return self.data(stream, data, fin).await,
            Frame::Open { stream, headers, fin } => {
                let pairs: Vec<(&str, &str)> =
                    headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let block = self.deflater.block(&pairs)?;
                let mut payload = Vec::from(stream.to_be_bytes());
                payload.extend([0; 6]);
                payload.extend(block);
                control(SYN_STREAM, u8::from(fin), &payload)
            }
            Frame::Accept(stream) => {
                let block = self.deflater.block(&[])?;
                control(SYN_REPLY, 0, &[&stream.to_be_bytes(), block.as_slice()].concat())
            }
            Frame::Reset { stream, status } => {
                control(RST_STREAM, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
            }
            Frame::Ping(id) => control(PING, 0, &id.to_be_bytes()),
            Frame::GoAway => control(GOAWAY, 0, &[0; 8]),
        };
        self.io.write_all(&bytes).await?;
        self.io.flush().await
    }

    async fn data(&mut self, stream: u32, mut data: Bytes, fin: bool) -> io::Result<()> {
        loop {
            let part = data.split_to(data.len().min(MAX_DATA));
            let last = data.is_empty();
            let mut head = [0; 8];
            head[..4].copy_from_slice(&(stream & STREAM).to_be_bytes());
            head[4] = u8::from(fin && last);
            head[5..].copy_from_slice(&u32::try_from(part.len()).unwrap_or(0).to_be_bytes()[1..]);
            self.io.write_all(&head).await?;
            self.io.write_all(&part).await?;
            if last {
                return self.io.flush().await;
            }
        }
    }

    /// Says that nothing more comes.
    pub(in crate::agent::api) async fn close(&mut self) {
        let _ = self.send(Frame::GoAway).await;
        let _ = self.io.shutdown().await;
    }
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend((CONTROL | VERSION).to_be_bytes());
    frame.extend(kind.to_be_bytes());
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    frame.extend([flags, length[1], length[2], length[3]]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (mut writer, mut reader) = (Writer::new(ours).expect("a writer"), Reader::new(theirs));
        let headers = vec![("streamtype".to_owned(), "error".to_owned())];
        let frames = [
            Frame::Open { stream: 1, headers, fin: true },
            Frame::Accept(1),
            Frame::Data { stream: 3, data: Bytes::from_static(b"abc"), fin: false },
            Frame::Data { stream: 3, data: Bytes::new(), fin: true },
            Frame::Reset { stream: 3, status: 5 },
            Frame::Ping(7),
            Frame::GoAway,
        ];
        for frame in &frames {
            writer.send(frame.clone()).await.expect("written");
            assert_eq!(reader.next().await.expect("read").as_ref(), Some(frame));
        }
        writer.close().await;
        assert_eq!(reader.next().await.expect("read"), Some(Frame::GoAway));
        assert_eq!(reader.next().await.expect("read"), None);
    }

    #[tokio::test]
    async fn long_data_comes_in_parts_and_unknown_frames_are_skipped() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        // SETTINGS and WINDOW_UPDATE.
        ours.write_all(&control(4, 0, &[0; 4])).await.expect("written");
        ours.write_all(&control(9, 0, &[0; 8])).await.expect("written");
        let (mut writer, mut reader) = (Writer::new(ours).expect("a writer"), Reader::new(theirs));
        let data = Bytes::from(vec![1; MAX_DATA + 1]);
        writer.send(Frame::Data { stream: 1, data, fin: true }).await.expect("written");
        let Ok(Some(Frame::Data { data, fin: false, .. })) = reader.next().await else {
            panic!("the first part")
        };
        assert_eq!(data.len(), MAX_DATA);
        let Ok(Some(Frame::Data { data, fin: true, .. })) = reader.next().await else {
            panic!("the last part")
        };
        assert_eq!(data.len(), 1);
    }
}
