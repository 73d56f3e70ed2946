//! Checkpoints: generations of the whole state, each a database built once by the engine, closed,
//! verified, synced and only then given its name.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::disk::Disk;
use super::engine::{self, Mode};
use super::error::{Context, Error};
use super::frame::{Frame, Meta};
use super::record::Change;
use super::state::State;

/// How long the engine may take, whatever the size: it may hang on damaged files.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// What a slow SD card needs at least for each MiB, on top of that.
const TIME_PER_MIB: Duration = Duration::from_secs(1);

/// Where checkpoints are built and read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// On a thread of this process. Memory and threads that the engine's database takes stay.
    #[default]
    Thread,
    /// In a process: this command with what to do behind it, which must call
    /// [`super::engine_main`] with the arguments that were added.
    Process(Vec<OsString>),
}

/// The argument by which the executable is told to be an engine: `kedge checkpoint-engine …` must do
/// nothing but call [`super::engine_main`] with the arguments behind it.
pub const ENGINE_COMMAND: &str = "checkpoint-engine";

impl Engine {
    /// A process of this executable, also when its file has been replaced meanwhile.
    pub fn this_executable() -> Self {
        Self::Process(vec!["/proc/self/exe".into(), ENGINE_COMMAND.into()])
    }
}

/// What a generation is built from.
#[derive(Debug)]
pub(super) struct Content {
    pub state: State,
    pub meta: Meta,
    /// Set to give up.
    pub stop: Arc<AtomicBool>,
}

/// The generations in `dir`, newest first.
pub(super) fn generations(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = disk.list(dir).on(dir)?;
    let number = |name: &String| u64::from_str_radix(name, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// The directory of a generation.
pub(super) fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:016x}"))
}

/// Removes all generations but those in `keep`, and unfinished ones.
pub(super) fn remove_except(disk: &dyn Disk, dir: &Path, keep: &[u64]) -> Result<(), Error> {
    for name in disk.list(dir).on(dir)? {
        if !u64::from_str_radix(&name, 16).is_ok_and(|n| keep.contains(&n)) {
            disk.remove_dir_all(&dir.join(name)).on(dir)?;
        }
    }
    disk.sync_dir(dir).on(dir)
}

/// Builds generation `generation` and verifies it. It is durable after that.
pub(super) fn write(
    engine: &Engine,
    disk: &dyn Disk,
    dir: &Path,
    generation: u64,
    content: Content,
) -> Result<Meta, Error> {
    let target = path(dir, generation);
    for left in disk.list(dir).on(dir)?.into_iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove_dir_all(&dir.join(left)).on(dir)?;
    }
    // The engine of a process that was killed may still write to the one it began.
    let temporary = target.with_extension(format!("{}.tmp", std::process::id()));
    disk.create_dir_all(&temporary).on(&temporary)?;
    let build = || {
        let (written, _) = run(engine, Mode::Write, &temporary, Some(content))?;
        let (verified, _) = run(engine, Mode::Verify, &temporary, None)?;
        if written != verified {
            return Err(Error::corrupt(&temporary, "a new checkpoint reads other than it was written"));
        }
        disk.sync_tree(&temporary).on(&temporary)?;
        disk.sync_dir(dir).on(dir)?;
        disk.rename(&temporary, &target).on(&target)?;
        disk.sync_dir(dir).on(dir)?;
        Ok(verified)
    };
    build().inspect_err(|_| {
        // What is left is removed before the next attempt, if it cannot be now.
        let _ = disk.remove_dir_all(&temporary);
    })
}

/// Reads and checks a generation.
pub(super) fn read(
    engine: &Engine,
    disk: &dyn Disk,
    dir: &Path,
    generation: u64,
) -> Result<(Meta, State), Error> {
    let path = path(dir, generation);
    let found = run(engine, Mode::Read, &path, None)?;
    // Opening it has written a little.
    disk.sync_tree(&path).on(&path)?;
    Ok(found)
}

/// Runs the engine, guarded: a panic, an exit and a hang are errors.
fn run(engine: &Engine, mode: Mode, dir: &Path, content: Option<Content>) -> Result<(Meta, State), Error> {
    let size = content.as_ref().map_or_else(|| size_of(dir), |c| c.state.bytes());
    let limit = TIME_LIMIT + TIME_PER_MIB * u32::try_from(size >> 20).unwrap_or(u32::MAX);
    let mut running = Running::start(engine, mode, dir).on(dir)?;
    let (input, output) = running.pipes.take().expect("just started");
    let (sender, receiver) = mpsc::sync_channel(1);
    let talk = move || {
        // The other end sees end of file, or a broken pipe, as soon as one of them is dropped.
        let _ = sender.send(talk(input, output, content));
    };
    let name = format!("checkpoint-{}", mode.name());
    thread::Builder::new().name(name).spawn(talk).on(dir)?;
    match receiver.recv_timeout(limit) {
        Ok(Ok((Frame::End(meta), state))) => {
            running.wait();
            Ok((meta, state))
        }
        Ok(Ok((Frame::Failed(reason), _))) => Err(failure(dir, reason)),
        Ok(Ok((Frame::Entry(_), _))) => Err(Error::corrupt(dir, "the engine stopped early")),
        Ok(Err(e)) => Err(failure(dir, format!("the checkpoint engine failed: {e}"))),
        Err(_) => Err(Error::corrupt(dir, format!("reading it took more than {limit:?}"))),
    }
}

/// A full disk is told apart by its text, which is all that crosses the pipe.
fn failure(dir: &Path, reason: String) -> Error {
    match reason.contains("os error 28") || reason.contains("os error 122") {
        true => Error::Full { path: dir.to_owned() },
        false => Error::corrupt(dir, reason),
    }
}

type Pipes = (Box<dyn Write + Send>, Box<dyn Read + Send>);

fn talk(
    input: Box<dyn Write + Send>,
    output: Box<dyn Read + Send>,
    content: Option<Content>,
) -> io::Result<(Frame, State)> {
    if let Some(Content { state, meta, stop }) = content {
        let mut input = BufWriter::with_capacity(256 << 10, input);
        let mut send = || {
            for entry in state.iter() {
                if stop.load(Ordering::Relaxed) {
                    return Err(io::Error::other("the store is being closed"));
                }
                Frame::Entry(entry).write(&mut input)?;
            }
            Frame::End(meta).write(&mut input)?;
            input.flush()
        };
        match send() {
            // The engine gave up, and says why in its output.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    let mut output = BufReader::with_capacity(256 << 10, output);
    let mut state = State::default();
    loop {
        match Frame::read(&mut output)? {
            Frame::Entry(e) => {
                let (created, modified) = (e.created, e.modified);
                state.apply(Change::Put { key: e.key, value: e.value, created, modified });
            }
            end => return Ok((end, state)),
        }
    }
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

/// A started engine. Dropping it ends a process that still runs.
struct Running {
    child: Option<Child>,
    thread: Option<thread::JoinHandle<()>>,
    pipes: Option<Pipes>,
}

impl Running {
    fn start(engine: &Engine, mode: Mode, dir: &Path) -> io::Result<Self> {
        match engine {
            Engine::Thread => Self::thread(mode, dir.to_owned()),
            Engine::Process(command) => Self::process(command, mode, dir),
        }
    }

    fn thread(mode: Mode, dir: PathBuf) -> io::Result<Self> {
        let (their_input, input) = io::pipe()?;
        let (output, their_output) = io::pipe()?;
        let serve = move || {
            // An error is a pipe that the other side has closed.
            let _ = engine::serve(mode, &dir, BufReader::new(their_input), their_output);
        };
        let thread = thread::Builder::new().name("checkpoint-engine".to_owned()).spawn(serve)?;
        let pipes: Pipes = (Box::new(input), Box::new(output));
        Ok(Self { child: None, thread: Some(thread), pipes: Some(pipes) })
    }

    fn process(command: &[OsString], mode: Mode, dir: &Path) -> io::Result<Self> {
        let Some((program, args)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no engine command"));
        };
        let mut child = Command::new(program)
            .args(args)
            .arg(mode.name())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes: Pipes = match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => (Box::new(input), Box::new(output)),
            _ => return Err(io::Error::other("the engine has no pipes")),
        };
        Ok(Self { child: Some(child), thread: None, pipes: Some(pipes) })
    }

    /// Waits until its files are closed.
    fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("child", &self.child).finish_non_exhaustive()
    }
}
