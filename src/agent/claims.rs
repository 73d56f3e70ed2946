//! The volumes of claims that pods of this node use: where they are, for statistics, and which pod has a
//! volume that only one may have (`ReadWriteOncePod`).

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A volume that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// The pod's uid.
    pub pod: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// The PersistentVolume's name.
    pub persistent: String,
    /// Where it is mounted or lies on the node.
    pub path: PathBuf,
}

/// The volumes of claims in use.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    used: Vec<Used>,
    /// Pods that wait for a volume that another one has.
    waiting: Vec<Weak<Notify>>,
}

impl Claims {
    /// Notes that a pod uses a volume, until the answer is dropped. `None` if it wants the volume `alone`
    /// and another pod has it: then `wake` is notified when a volume comes free.
    pub(crate) fn take(self: &Arc<Self>, used: Used, alone: bool, wake: &Arc<Notify>) -> Option<Hold> {
        let mut state = self.0.lock();
        if alone && state.used.iter().any(|u| u.persistent == used.persistent && u.pod != used.pod) {
            state.waiting.push(Arc::downgrade(wake));
            return None;
        }
        state.used.push(used.clone());
        Some(Hold { claims: Arc::clone(self), used })
    }

    /// The volumes that a pod uses.
    pub(crate) fn of(&self, pod: &str) -> Vec<Used> {
        self.0.lock().used.iter().filter(|u| u.pod == pod).cloned().collect()
    }
}

/// A volume in use, given up when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    claims: Arc<Claims>,
    used: Used,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.claims.0.lock();
        if let Some(at) = state.used.iter().position(|u| *u == self.used) {
            state.used.swap_remove(at);
        }
        for waiting in state.waiting.drain(..).filter_map(|w| w.upgrade()) {
            waiting.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(pod: &str) -> Used {
        Used { pod: pod.into(), volume: "v".into(), persistent: "pv".into(), path: "/x".into() }
    }

    #[tokio::test]
    async fn a_volume_for_one_pod_is_waited_for() {
        let (claims, wake) = (Arc::new(Claims::default()), Arc::new(Notify::new()));
        let first = claims.take(used("a"), true, &wake).expect("it is free");
        assert!(claims.take(used("a"), true, &wake).is_some(), "the same pod may have it twice");
        assert!(claims.take(used("b"), true, &wake).is_none());
        assert!(claims.take(used("c"), false, &wake).is_some(), "others ask for no more than they need");
        assert_eq!((claims.of("a"), claims.of("b")), (vec![used("a")], vec![]));
        drop(first);
        wake.notified().await;
        assert!(claims.take(used("b"), true, &wake).is_some());
        assert_eq!(claims.of("a"), vec![]);
    }
}
