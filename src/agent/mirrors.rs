//! What is known of static pods: which ones files define, which mirror pods the API has, which have a
//! worker. [`crate::agent::statics`] keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::spec::{name, namespace, uid};

/// Where a pod comes from; `file` for static pods.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
/// Digest of the file's content, which is the static pod's uid.
pub(crate) const HASH: &str = "kubernetes.io/config.hash";
/// On mirror pods: the hash of the static pod they mirror.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// When the file was read.
pub(crate) const SEEN: &str = "kubernetes.io/config.seen";

/// An annotation of a pod.
pub(crate) fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod is the API's picture of a static pod.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// The pod is defined by a file.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some("file") && !is_mirror(pod)
}

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Namespace and name: what a static pod and its mirror have in common.
pub(crate) fn key(pod: &Pod) -> Key {
    (namespace(pod).to_owned(), name(pod).to_owned())
}

/// What files define, and which mirror pods there are.
pub(crate) struct Statics {
    desired: watch::Sender<Arc<Vec<Arc<Pod>>>>,
    mirrors: Mutex<BTreeMap<Key, Arc<Pod>>>,
    /// Names of static pods that have a worker, by uid.
    running: Mutex<BTreeMap<String, Key>>,
    /// The mirror pods may need work.
    work: Notify,
    /// A static pod's worker has ended.
    ended: Notify,
}

impl Statics {
    /// Of a node whose files define these pods.
    pub(crate) fn new(desired: Vec<Arc<Pod>>) -> Self {
        Self {
            desired: watch::Sender::new(Arc::new(desired)),
            mirrors: Mutex::default(),
            running: Mutex::default(),
            work: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// The pods that files define now.
    pub(crate) fn desired(&self) -> Arc<Vec<Arc<Pod>>> {
        Arc::clone(&self.desired.borrow())
    }

    /// Changes of [`Self::desired`].
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Vec<Arc<Pod>>>> {
        self.desired.subscribe()
    }

    /// Files define these pods now.
    pub(crate) fn define(&self, pods: Vec<Arc<Pod>>) {
        self.desired.send_replace(Arc::new(pods));
        self.work.notify_one();
    }

    /// The API has this mirror pod.
    pub(crate) fn set_mirror(&self, pod: Arc<Pod>) {
        self.mirrors.lock().insert(key(&pod), pod);
        self.work.notify_one();
    }

    /// The API has this mirror pod no more.
    pub(crate) fn remove_mirror(&self, pod: &Pod) {
        let mut mirrors = self.mirrors.lock();
        if mirrors.get(&key(pod)).is_some_and(|m| uid(m) == uid(pod)) {
            mirrors.remove(&key(pod));
        }
        drop(mirrors);
        self.work.notify_one();
    }

    /// All mirror pods.
    pub(crate) fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.mirrors.lock().values().cloned().collect()
    }

    /// The mirror pod of a static pod, if it is of the present state of its file.
    pub(crate) fn mirror_of(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let mirror = self.mirrors.lock().get(&key(pod)).cloned()?;
        (annotation(&mirror, MIRROR) == annotation(pod, HASH)).then_some(mirror)
    }

    /// The static pod with the status that its mirror has.
    pub(crate) fn joined(&self, pod: &Pod) -> Pod {
        let status = self.mirror_of(pod).and_then(|m| m.status.clone());
        Pod { status: status.or_else(|| pod.status.clone()), ..pod.clone() }
    }

    /// A static pod has a worker now.
    pub(crate) fn started(&self, pod: &Pod) {
        self.running.lock().insert(uid(pod).to_owned(), key(pod));
    }

    /// It has none any more, and nothing of the pod is left.
    pub(crate) fn gone(&self, uid: &str) {
        self.running.lock().remove(uid);
        self.work.notify_one();
        self.ended.notify_one();
    }

    /// Some static pod of that name has a worker.
    pub(crate) fn is_running(&self, key: &Key) -> bool {
        self.running.lock().values().any(|k| k == key)
    }

    /// Ends when the mirror pods may need work.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// Ends when a static pod's worker has ended.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, annotations: serde_json::Value) -> Arc<Pod> {
        let meta = json!({"name": "p-n", "namespace": "ns", "uid": uid, "annotations": annotations});
        let pod = json!({"metadata": meta, "spec": {"containers": []}, "status": {"phase": "Running"}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn a_mirror_is_of_one_state_of_the_file() {
        let file = pod("h1", json!({SOURCE: "file", HASH: "h1"}));
        assert!(is_static(&file) && !is_mirror(&file));
        let statics = Statics::new(vec![Arc::clone(&file)]);
        assert!(statics.mirror_of(&file).is_none());
        let mirror = pod("u1", json!({SOURCE: "file", HASH: "h1", MIRROR: "h1"}));
        assert!(is_mirror(&mirror) && !is_static(&mirror));
        statics.set_mirror(Arc::clone(&mirror));
        assert_eq!(statics.joined(&file).status, mirror.status);
        assert!(statics.mirror_of(&pod("h2", json!({SOURCE: "file", HASH: "h2"}))).is_none());
        statics.remove_mirror(&pod("other", json!({})));
        assert_eq!(statics.mirrors().len(), 1, "another pod of that name is not the mirror");
        statics.remove_mirror(&mirror);
        assert!(statics.mirrors().is_empty());
    }
}
