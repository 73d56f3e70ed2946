//! What the node is short of, and who is to be evicted for it: told to the pods' workers, and written
//! down before anything is killed, so that a pod whose eviction was begun is not started again by an
//! agent that was restarted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};

use crate::agent::paths::Paths;

/// What a node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// `MemoryPressure`
    pub memory: bool,
    /// `DiskPressure`
    pub disk: bool,
    /// `PIDPressure`
    pub pids: bool,
}

/// Upstream's reason of an evicted pod.
pub(crate) const REASON: &str = "Evicted";

/// That a pod is evicted, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Eviction {
    /// [`REASON`], or why else, for its status.
    pub reason: String,
    /// Why, for its status.
    pub message: String,
    /// Seconds its containers get.
    pub grace: i64,
    /// For the node's sake and not for a limit of its own: `DisruptionTarget` is to say so, with this message.
    pub disruption: Option<String>,
}

#[derive(Default)]
struct Entry {
    wake: Option<Arc<Notify>>,
    eviction: Option<Eviction>,
    done: watch::Sender<bool>,
    /// When it was ordered, or found to have been.
    since: Option<Instant>,
    /// The pod is to give back what its ended containers have; dropped when that is done.
    reclaim: Option<mpsc::Sender<()>>,
}

/// The evictions of this node, by pod uid.
pub(crate) struct Orders {
    paths: Paths,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Orders {
    /// None yet.
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths, entries: Mutex::default() }
    }

    fn file(&self, uid: &str) -> std::path::PathBuf {
        self.paths.pod(uid).join("eviction.json")
    }

    /// A pod has a worker, which is notified when its pod is to go. What was ordered before the agent
    /// started holds.
    pub(crate) fn know(&self, uid: &str, wake: Arc<Notify>) {
        let former = std::fs::read(self.file(uid)).ok();
        let former = former.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut entries = self.entries.lock();
        let entry = entries.entry(uid.to_owned()).or_default();
        entry.wake = Some(wake);
        entry.eviction = entry.eviction.take().or(former);
        if entry.eviction.is_some() {
            entry.since.get_or_insert_with(Instant::now);
        }
    }

    /// Has all pods looked at anew.
    pub(crate) fn wake_all(&self) {
        self.entries.lock().values().filter_map(|e| e.wake.as_ref()).for_each(|wake| wake.notify_one());
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    /// The pod's eviction, if it is to go.
    pub(crate) fn of(&self, uid: &str) -> Option<Eviction> {
        self.entries.lock().get(uid)?.eviction.clone()
    }

    /// Has the pod evicted; `false` if it is already, or has no worker.
    pub(crate) fn give(&self, uid: &str, eviction: Eviction) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid).filter(|e| e.eviction.is_none()) else { return false };
        if let Err(error) = write(&self.file(uid), &eviction) {
            // Without room on the disk it goes all the same: that is why it has to.
            tracing::warn!(%error, pod = uid, "an eviction could not be written down");
        }
        entry.eviction = Some(eviction);
        entry.since = Some(Instant::now());
        if let Some(wake) = &entry.wake {
            wake.notify_one();
        }
        true
    }

    /// Nothing of the pod runs any more.
    pub(crate) fn done(&self, uid: &str) {
        if let Some(entry) = self.entries.lock().get(uid) {
            entry.done.send_replace(true);
        }
    }

    /// Has all pods give back what their ended containers have on the disk; ends when they did.
    pub(super) async fn reclaim(&self) {
        let (asked, mut all_gave) = mpsc::channel(1);
        for entry in self.entries.lock().values_mut() {
            if let Some(wake) = &entry.wake {
                entry.reclaim = Some(asked.clone());
                wake.notify_one();
            }
        }
        drop(asked);
        // Nothing is ever sent.
        let _: Option<()> = all_gave.recv().await;
    }

    /// Whether the pod is to give back what it can do without; what is answered is dropped when that is done.
    pub(crate) fn to_reclaim(&self, uid: &str) -> Option<mpsc::Sender<()>> {
        self.entries.lock().get_mut(uid)?.reclaim.take()
    }

    /// Some pod is on its way out, and not for longer than its grace period and `patience`: what it gives
    /// back is worth waiting for.
    pub(super) fn under_way(&self, patience: Duration) -> bool {
        self.entries.lock().values().any(|entry| {
            let (Some(eviction), Some(since)) = (&entry.eviction, entry.since) else { return false };
            let grace = Duration::from_secs(u64::try_from(eviction.grace).unwrap_or(0));
            !*entry.done.borrow() && since.elapsed() < grace + patience
        })
    }

    /// Waits until nothing of the pod runs any more.
    pub(crate) async fn ended(&self, uid: &str) {
        let receiver = self.entries.lock().get(uid).map(|e| e.done.subscribe());
        if let Some(mut done) = receiver {
            // An error means that the pod was forgotten, with all it had.
            let _ = done.wait_for(|done| *done).await;
        }
    }
}

fn write(file: &std::path::Path, eviction: &Eviction) -> std::io::Result<()> {
    let new = file.with_extension("new");
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&new, serde_json::to_vec(eviction)?)?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eviction() -> Eviction {
        Eviction { reason: REASON.into(), message: "m".into(), grace: 1, disruption: Some("d".into()) }
    }

    #[tokio::test]
    async fn an_order_wakes_the_worker_once_and_survives_the_agent() {
        let directory = tempfile::tempdir().expect("a directory");
        let orders = Orders::new(Paths::new(directory.path()));
        assert!(!orders.give("u", eviction()), "nobody is there to do it");
        let wake = Arc::new(Notify::new());
        orders.know("u", Arc::clone(&wake));
        assert_eq!(orders.of("u"), None);
        assert!(orders.give("u", eviction()));
        wake.notified().await;
        assert!(!orders.give("u", Eviction { grace: 9, ..eviction() }), "the first one holds");
        assert_eq!(orders.of("u"), Some(eviction()));

        let restarted = Orders::new(Paths::new(directory.path()));
        restarted.know("u", wake);
        assert_eq!(restarted.of("u"), Some(eviction()));
        assert!(restarted.under_way(Duration::from_secs(30)) && orders.under_way(Duration::from_secs(30)));
        restarted.done("u");
        restarted.ended("u").await;
        assert!(!restarted.under_way(Duration::from_secs(30)));
        let gave = async {
            drop(restarted.to_reclaim("u").expect("asked"));
            assert!(restarted.to_reclaim("u").is_none());
        };
        tokio::join!(restarted.reclaim(), gave);
        restarted.forget("u");
        restarted.ended("u").await;
        assert_eq!(restarted.of("u"), None);
    }
}
