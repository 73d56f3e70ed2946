//! The checkpoint engine: the only part that knows sled, best run in a process of its own.
//!
//! sled panics on damaged files, keeps threads that wake every second, and needs as much memory for
//! one scan as it reads. A process that ends takes all of that with it. What goes in or comes out
//! is a stream of frames; [`super::checkpoint`] is the other side.
//!
//! The keys of a generation's one tree: `m` is the [`Meta`]; `e` and a key are `created 8,
//! modified 8, value length 4, CRC32C 4` and the value's start; `x`, the entry's number and a
//! piece's number are the rest of a long value. The CRC covers key, revisions and value.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::{Frame, Meta};
use super::record::Input;
use super::types::Entry;

/// Longer values are split: sled would keep them in files of their own, which it never syncs.
const PIECE: usize = 64 << 10;
/// Operations a batch. Larger ones make sled's memory grow.
const BATCH: usize = 100;
/// sled's cache of pages, which a single pass does not need.
const CACHE: u64 = 8 << 20;

/// How long the files may be locked by the engine of a killed process.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What the engine is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Build a generation from the frames that come in.
    Write,
    /// Check a generation and send its entries out.
    Read,
    /// Check a generation.
    Verify,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Verify => "verify",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Write, Self::Read, Self::Verify].into_iter().find(|m| m.name() == name)
    }
}

/// The main function of a checkpoint process, as [`super::Engine::Process`] starts it: the
/// arguments are what to do and the generation's directory, frames go through standard input and output.
pub fn engine_main(args: &[OsString]) -> ExitCode {
    let mode = args.first().and_then(|a| a.to_str()).and_then(Mode::parse);
    let (Some(mode), Some(dir)) = (mode, args.get(1)) else {
        eprintln!("the checkpoint engine is started by kedge itself");
        return ExitCode::from(2);
    };
    let input = BufReader::new(io::stdin().lock());
    match serve(mode, Path::new(dir), input, io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Does what is asked and ends the output with the generation's [`Meta`], or with why not.
pub(super) fn serve(mode: Mode, dir: &Path, input: impl Read, output: impl Write) -> io::Result<()> {
    let mut output = BufWriter::with_capacity(256 << 10, output);
    let result = match mode {
        Mode::Write => write(dir, input),
        Mode::Read => read(dir, |entry| Frame::Entry(entry).write(&mut output)),
        Mode::Verify => read(dir, |_| Ok(())),
    };
    match result {
        Ok(meta) => Frame::End(meta).write(&mut output)?,
        Err(error) => Frame::Failed(error.to_string()).write(&mut output)?,
    }
    output.flush()
}

fn open(dir: &Path) -> io::Result<sled::Db> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(None);
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match config.open() {
            // The engine of a process that was killed just now ends when it notices. There is no
            // event to wait for, and no kind of error to tell this one by.
            Err(sled::Error::Io(e))
                if e.to_string().contains("acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return Ok(result?),
        }
    }
}

fn write(dir: &Path, mut input: impl Read) -> io::Result<Meta> {
    let db = open(dir)?;
    let mut batch = Batch { db: &db, batch: sled::Batch::default(), len: 0 };
    let mut check = Check::default();
    let meta = loop {
        let entry = match Frame::read(&mut input)? {
            Frame::Entry(entry) => entry,
            Frame::End(meta) => break meta,
            Frame::Failed(reason) => return Err(io::Error::other(reason)),
        };
        let crc = check.add(&entry);
        let mut head = Vec::with_capacity(24 + entry.value.len().min(PIECE));
        head.extend(entry.created.to_le_bytes());
        head.extend(entry.modified.to_le_bytes());
        head.extend((entry.value.len() as u32).to_le_bytes());
        head.extend(crc.to_le_bytes());
        let (start, rest) = entry.value.split_at(entry.value.len().min(PIECE));
        head.extend(start);
        batch.insert([b"e", &entry.key[..]].concat(), head)?;
        for (piece, bytes) in rest.chunks(PIECE).enumerate() {
            batch.insert(piece_key(check.count, piece), bytes.to_vec())?;
        }
    };
    let meta = Meta { count: check.count, hash: check.hash, ..meta };
    batch.insert(b"m".to_vec(), meta.encode())?;
    batch.apply()?;
    db.flush()?;
    Ok(meta)
}

fn read(dir: &Path, mut each: impl FnMut(Entry) -> io::Result<()>) -> io::Result<Meta> {
    let db = open(dir)?;
    let meta = db.get(b"m")?.and_then(|m| Meta::decode(&m));
    let meta = meta.ok_or_else(|| damaged("it has no description of itself"))?;
    let mut check = Check::default();
    for pair in db.scan_prefix(b"e") {
        let (key, head) = pair?;
        let (entry, crc) = assemble(&db, &key[1..], &head, check.count + 1)?;
        if check.add(&entry) != crc {
            return Err(damaged("an entry does not match its CRC"));
        }
        each(entry)?;
    }
    if (check.count, check.hash) != (meta.count, meta.hash) {
        return Err(damaged("its entries are not those that were written"));
    }
    Ok(meta)
}

/// The entry with all pieces of its value, and the CRC it was written with.
fn assemble(db: &sled::Db, key: &[u8], head: &[u8], number: u64) -> io::Result<(Entry, u32)> {
    let mut input = Input(head);
    let fields = (|| Some((input.u64()?, input.u64()?, input.u32()? as usize, input.u32()?)))();
    let (created, modified, length, crc) = fields.ok_or_else(|| damaged("an entry is cut off"))?;
    let mut value = input.0.to_vec();
    let mut piece = 0;
    while value.len() < length {
        let bytes = db.get(piece_key(number, piece))?;
        value.extend_from_slice(&bytes.ok_or_else(|| damaged("a piece of a value is missing"))?);
        piece += 1;
    }
    let key = Bytes::copy_from_slice(key);
    Ok((Entry { key, value: value.into(), created, modified }, crc))
}

fn piece_key(number: u64, piece: usize) -> Vec<u8> {
    let piece = (piece as u32).to_be_bytes();
    [&b"x"[..], &number.to_be_bytes(), &piece].concat()
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Batch<'a> {
    db: &'a sled::Db,
    batch: sled::Batch,
    len: usize,
}

impl Batch<'_> {
    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        self.batch.insert(key, value);
        self.len += 1;
        match self.len < BATCH {
            true => Ok(()),
            false => self.apply(),
        }
    }

    fn apply(&mut self) -> io::Result<()> {
        self.len = 0;
        Ok(self.db.apply_batch(std::mem::take(&mut self.batch))?)
    }
}

/// Count and hash of all entries.
#[derive(Default)]
struct Check {
    count: u64,
    hash: u32,
}

impl Check {
    /// Adds an entry and answers its CRC.
    fn add(&mut self, entry: &Entry) -> u32 {
        let lengths = [entry.created, entry.modified, entry.key.len() as u64];
        let mut crc = 0;
        for number in lengths {
            crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, &entry.key);
        crc = crc32c::crc32c_append(crc, &entry.value);
        self.count += 1;
        self.hash = crc32c::crc32c_append(self.hash, &crc.to_le_bytes());
        crc
    }
}
