//! The directory of static pods: read at the start, and again when inotify tells of a change.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::mirrors::key;
use crate::agent::spec::full_name;

/// Larger files define no pod.
const MAX_FILE: u64 = 10 << 20;

/// What one file said when it was read last.
#[derive(Clone, Debug)]
struct File {
    text: String,
    /// The pod of the newest text that defined one.
    pod: Option<Arc<Pod>>,
    error: Option<String>,
}

/// The directory and what its files define.
pub(crate) struct Directory {
    path: PathBuf,
    node: String,
    files: Mutex<BTreeMap<PathBuf, File>>,
}

impl Directory {
    /// Nothing is read yet.
    pub(crate) fn new(path: &Path, node: &str) -> Self {
        Self { path: path.to_path_buf(), node: node.to_owned(), files: Mutex::default() }
    }

    /// Reads the files. Of two that define a pod of the same name the first one by name counts. A file
    /// that went bad leaves the pod it defined as it is.
    pub(crate) fn read(&self) -> Vec<Arc<Pod>> {
        let mut files = self.files.lock();
        let mut found = BTreeMap::new();
        for path in manifests(&self.path) {
            // What vanished between the two looks is gone.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let known = files.remove(&path);
            let file = match known {
                Some(known) if known.text == text => known,
                known => read(&path, text, known.and_then(|k| k.pod), &self.node),
            };
            found.insert(path, file);
        }
        *files = found;
        let mut pods: Vec<Arc<Pod>> = Vec::new();
        for (path, pod) in files.iter().filter_map(|(p, f)| Some((p, f.pod.as_ref()?))) {
            if pods.iter().any(|p| key(p) == key(pod)) {
                tracing::error!(file = %path.display(), pod = %full_name(pod), "another file defines a static pod of that name");
            } else {
                pods.push(Arc::clone(pod));
            }
        }
        pods
    }

    /// What is wrong with which file.
    pub(crate) fn problems(&self) -> Vec<String> {
        let files = self.files.lock();
        let bad = files.iter().filter_map(|(path, f)| Some((path, f.error.as_ref()?)));
        bad.map(|(path, error)| format!("{}: {error}", path.display())).collect()
    }

    /// Follows the directory until cancelled.
    pub(crate) async fn run(&self, context: &Context, token: CancellationToken) -> Result<(), Error> {
        std::fs::create_dir_all(&self.path).map_err(Error::io("make", &self.path))?;
        let watch = |e: Errno| Error::io("watch", &self.path)(e.into());
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(watch)?;
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(&self.path, changes).map_err(watch)?;
        let descriptor = inotify.as_fd().try_clone_to_owned().map_err(Error::io("watch", &self.path))?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd, which stays open while registered; its successor is an unsafe fn"
        )]
        let readable = AsyncFd::new(descriptor).map_err(Error::io("watch", &self.path))?;
        let mut told = Vec::new();
        loop {
            let pods = self.read();
            if *context.statics.desired() != pods {
                context.statics.define(pods);
            }
            let problems = self.problems();
            for problem in problems.iter().filter(|p| !told.contains(*p)) {
                context.node_event("Warning", "InvalidStaticPod", format!("static pod file {problem}"));
            }
            told = problems;
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                ready = readable.readable() => {
                    ready.map_err(Error::io("watch", &self.path))?.clear_ready();
                    while !matches!(inotify.read_events(), Err(Errno::EAGAIN)) {}
                }
            }
        }
    }
}

fn read(path: &Path, text: String, before: Option<Arc<Pod>>, node: &str) -> File {
    match manifest::parse(&text, node) {
        Ok(pod) => File { text, pod: Some(Arc::new(pod)), error: None },
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a static pod's file cannot be used; correct it, and it is read again");
            File { text, pod: before, error: Some(error.to_string()) }
        }
    }
}

/// Regular files, by name, without hidden ones, as kubelet reads a directory: whatever their ending.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .filter(|e| !e.file_name().to_string_lossy().starts_with('.'))
        .map(|e| e.path())
        .filter(|p| p.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE))
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::spec::name;

    fn pod(name: &str, image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
        )
    }

    #[test]
    fn files_come_change_go_bad_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let statics = Directory::new(directory.path(), "n");
        assert!(statics.read().is_empty());
        std::fs::write(file("a.yaml"), pod("a", "x:1")).expect("written");
        std::fs::write(file(".hidden.yaml"), pod("h", "x:1")).expect("written");
        std::fs::write(file("twice.yaml"), pod("a", "x:2")).expect("written");
        std::fs::create_dir(file("directory")).expect("made");
        let first = statics.read();
        assert_eq!(first.iter().map(|p| name(p)).collect::<Vec<_>>(), ["a-n"]);
        assert_eq!(statics.read(), first, "a file that did not change is the same pod");
        std::fs::write(file("a.yaml"), "kind: [").expect("written");
        assert_eq!(statics.read(), first, "a typing error ends no pod");
        assert!(statics.problems()[0].contains("a.yaml: "), "{:?}", statics.problems());
        std::fs::write(file("a.yaml"), pod("a", "x:3")).expect("written");
        assert_ne!(statics.read()[0].metadata.uid, first[0].metadata.uid);
        assert!(statics.problems().is_empty());
        std::fs::remove_file(file("a.yaml")).expect("removed");
        let image = |p: &Pod| p.spec.as_ref().and_then(|s| s.containers[0].image.clone());
        assert_eq!(image(&statics.read()[0]).as_deref(), Some("x:2"), "the other file's turn");
    }
}
