//! Workers for the pods that files of the node define.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Source;
use crate::agent::mirrors::{is_static, key};
use crate::agent::pod::Wanted;
use crate::agent::spec::uid;

impl Source {
    /// Starts the pods that files define, and ends those that they do not define any more. Of one name
    /// there is one at a time: a changed file's new pod waits for the end of the old one.
    pub(super) async fn static_pods(&self) {
        let statics = &self.context.statics;
        let desired = statics.desired();
        for pod in self.context.pods.all().into_iter().filter(|p| is_static(p)) {
            if !desired.iter().any(|d| uid(d) == uid(&pod)) {
                self.gone(pod);
            }
        }
        for pod in desired.iter().filter(|p| !statics.is_running(&key(p))) {
            let joined = self.context.pods.set(statics.joined(pod));
            statics.started(pod);
            let admission = self.admit(&joined).await;
            let entry = self.start(Wanted::Pod(joined), admission);
            self.workers.lock().insert(uid(pod).to_owned(), entry);
        }
    }

    /// A mirror pod is there or changed: what the API knows of a static pod.
    pub(super) fn mirror(&self, mirror: Arc<Pod>) {
        let statics = &self.context.statics;
        let desired = statics.desired();
        let pod = desired.iter().find(|d| key(d) == key(&mirror)).cloned();
        statics.set_mirror(mirror);
        if let Some(pod) = pod {
            self.show(&pod);
        }
    }

    pub(super) fn mirror_gone(&self, mirror: &Pod) {
        self.context.statics.remove_mirror(mirror);
        if let Some(pod) = self.context.statics.desired().iter().find(|d| key(d) == key(mirror)) {
            self.show(pod);
        }
    }

    /// Gives a static pod's worker the newest picture that the API has of it.
    fn show(&self, pod: &Pod) {
        if let Some(entry) = self.workers.lock().get(uid(pod)) {
            let joined = self.context.pods.set(self.context.statics.joined(pod));
            entry.wanted.send_replace(Wanted::Pod(joined));
        }
    }
}
