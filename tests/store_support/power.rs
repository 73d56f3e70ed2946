//! A disk that records what is done to it, and the disks a power cut could leave of that.
//!
//! The model: a write is durable after its file's next sync; until then any of its 512-byte
//! sectors may be there or not. Names made, changed and removed in a directory are durable after
//! the directory's sync; until then any number of them, in order, may be there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kedge::store::disk::{Disk, File, RealDisk};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Shared, files_below};

const SECTOR: usize = 512;

/// Files of a directory tree, by path from its root.
type Tree = Vec<(PathBuf, Vec<u8>)>;

/// What was done to the disk; `T` is what the test notes in between.
#[derive(Debug, Clone)]
pub enum Step<T> {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    MakeDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
    SyncTree(PathBuf, Tree),
    Note(T),
}

/// Does everything really, without syncing, and records it.
#[derive(Debug)]
pub struct Recorder<T> {
    root: PathBuf,
    pub steps: Shared<Step<T>>,
}

impl<T> Recorder<T> {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), steps: Arc::default() }
    }

    fn push(&self, step: impl FnOnce(PathBuf) -> Step<T>, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        self.steps.lock().push(step(path));
    }
}

#[derive(Debug)]
struct RecordedFile<T> {
    file: Box<dyn File>,
    path: PathBuf,
    recorder: Recorder<T>,
}

impl<T: std::fmt::Debug + Send> File for RecordedFile<T> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.recorder.push(|p| Step::Write(p, offset, data.to_vec()), &self.path);
        self.file.write_at(offset, data)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.recorder.push(Step::Sync, &self.path);
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.recorder.push(|p| Step::SetLen(p, len), &self.path);
        self.file.set_len(len)
    }
}

impl<T: std::fmt::Debug + Send + 'static> Recorder<T> {
    /// A segment is renamed once while it is open; its steps carry the name it has afterwards.
    fn file(&self, file: Box<dyn File>, path: &Path) -> Box<dyn File> {
        let recorder = Recorder { root: self.root.clone(), steps: Arc::clone(&self.steps) };
        Box::new(RecordedFile { file, path: path.to_owned(), recorder })
    }
}

impl<T: std::fmt::Debug + Send + 'static> Disk for Recorder<T> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.push(Step::Create, path);
        Ok(self.file(RealDisk.create(path)?, path))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.file(RealDisk.open(path)?, path))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.push(Step::MakeDir, dir);
        RealDisk.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to_recorded = to.strip_prefix(&self.root).unwrap_or(to).to_owned();
        self.push(|from| Step::Rename(from, to_recorded), from);
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)?;
        self.push(Step::Remove, path);
        Ok(())
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.push(Step::Remove, dir);
        RealDisk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.push(Step::SyncDir, dir);
        Ok(())
    }
    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        let files = files_below(dir);
        self.push(|p| Step::SyncTree(p, files), dir);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Node {
    File { durable: Vec<u8>, waiting: Vec<Waiting> },
    Dir { content: Option<Tree> },
}

#[derive(Debug, Clone)]
enum Waiting {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Clone)]
enum Naming {
    Make(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Make(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }

    fn dir(&self) -> &Path {
        let (Self::Make(path, _) | Self::Rename(path, _) | Self::Remove(path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }
}

/// What is on the platter, and what is on its way there.
#[derive(Debug, Default)]
pub struct Platter {
    nodes: Vec<Node>,
    durable: BTreeMap<PathBuf, usize>,
    visible: BTreeMap<PathBuf, usize>,
    waiting: Vec<Naming>,
    /// A file renamed while open is still written to under its first name.
    aliases: BTreeMap<PathBuf, PathBuf>,
}

impl Platter {
    /// Takes the next step.
    pub fn take<T>(&mut self, step: &Step<T>) {
        match step {
            Step::Create(path) => {
                self.aliases.remove(path);
                self.make(path, Node::File { durable: Vec::new(), waiting: Vec::new() });
            }
            Step::MakeDir(path) if self.visible.contains_key(path) => {}
            Step::MakeDir(path) => self.make(path, Node::Dir { content: None }),
            Step::Write(path, offset, data) => {
                self.wait(path, Waiting::Write(*offset, data.clone()));
            }
            Step::SetLen(path, len) => self.wait(path, Waiting::SetLen(*len)),
            Step::Sync(path) => {
                if let Some(Node::File { durable, waiting }) = self.node(path) {
                    for one in std::mem::take(waiting) {
                        reach(durable, &one, |_| true);
                    }
                }
            }
            Step::Rename(from, to) => {
                self.aliases.insert(from.clone(), to.clone());
                self.name(Naming::Rename(from.clone(), to.clone()));
            }
            Step::Remove(path) => self.name(Naming::Remove(path.clone())),
            Step::SyncDir(dir) => {
                let (done, rest): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|n| n.dir() == dir);
                self.waiting = rest;
                done.iter().for_each(|n| n.apply(&mut self.durable));
            }
            Step::SyncTree(path, files) => {
                if let Some(Node::Dir { content }) = self.node(path) {
                    *content = Some(files.clone());
                }
            }
            Step::Note(_) => {}
        }
    }

    fn make(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.name(Naming::Make(path.to_owned(), self.nodes.len() - 1));
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.visible);
        self.waiting.push(naming);
    }

    fn node(&mut self, path: &Path) -> Option<&mut Node> {
        let path = self.aliases.get(path).map_or(path, |p| p);
        self.visible.get(path).map(|node| &mut self.nodes[*node])
    }

    fn wait(&mut self, path: &Path, change: Waiting) {
        if let Some(Node::File { waiting, .. }) = self.node(path) {
            waiting.push(change);
        }
    }

    /// Makes `dir` one of the disks that a power cut now could leave. `seed` chooses which.
    pub fn cut(&self, dir: &Path, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        // Seeds cover the extremes too: nothing that waits is there, or all of it.
        let chance = [0.0, 1.0, 0.5, 0.9, 0.1][(seed % 5) as usize];
        let mut names = self.durable.clone();
        let kept = match chance {
            0.0 => 0,
            1.0 => self.waiting.len(),
            _ => random.random_range(0..=self.waiting.len()),
        };
        self.waiting[..kept].iter().for_each(|n| n.apply(&mut names));
        for (path, node) in names {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match &self.nodes[node] {
                Node::File { durable, waiting } => {
                    let mut bytes = durable.clone();
                    for one in waiting {
                        reach(&mut bytes, one, |_| random.random_bool(chance));
                    }
                    std::fs::write(path, bytes).unwrap();
                }
                Node::Dir { content } => {
                    std::fs::create_dir_all(&path).unwrap();
                    for (name, bytes) in content.iter().flatten() {
                        std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
                        std::fs::write(path.join(name), bytes).unwrap();
                    }
                }
            }
        }
    }
}

/// Applies those sectors of a change for which `is_there` says so.
fn reach(bytes: &mut Vec<u8>, change: &Waiting, mut is_there: impl FnMut(usize) -> bool) {
    match change {
        Waiting::SetLen(len) => {
            if is_there(0) {
                bytes.resize(*len as usize, 0);
            }
        }
        Waiting::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            for sector in start / SECTOR..end.div_ceil(SECTOR) {
                let (from, to) = ((sector * SECTOR).max(start), ((sector + 1) * SECTOR).min(end));
                if is_there(sector) {
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&data[from - start..to - start]);
                }
            }
        }
    }
}
