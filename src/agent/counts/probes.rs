//! `/metrics/probes`: how often probes succeeded and failed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::text::{Kind, Text};
use crate::agent::spec::{name, namespace, uid};

/// What results are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    container: String,
    namespace: String,
    pod: String,
    uid: String,
    kind: &'static str,
    result: &'static str,
}

/// Results of probes so far.
#[derive(Debug, Default)]
pub(crate) struct ProbeCounts(Mutex<BTreeMap<Key, u64>>);

impl ProbeCounts {
    /// Counts a result of a probe of this kind (`Startup`, `Readiness`, `Liveness`).
    pub(crate) fn count(&self, pod: &Pod, container: &str, kind: &'static str, success: bool) {
        let key = Key {
            container: container.to_owned(),
            namespace: namespace(pod).to_owned(),
            pod: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            kind,
            result: if success { "successful" } else { "failed" },
        };
        *self.0.lock().entry(key).or_default() += 1;
    }

    /// The metrics of pods that are still here; others are forgotten.
    pub(crate) fn text(&self, pods: &BTreeSet<&str>) -> String {
        let mut counts = self.0.lock();
        counts.retain(|key, _| pods.contains(&*key.uid));
        let mut text = Text::default();
        let name = "prober_probe_total";
        let help =
            "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
        text.metric(name, Kind::Counter, help);
        for (key, count) in counts.iter() {
            let labels = [
                ("container", &*key.container),
                ("namespace", &*key.namespace),
                ("pod", &*key.pod),
                ("pod_uid", &*key.uid),
                ("probe_type", key.kind),
                ("result", key.result),
            ];
            text.sample(name, &labels, count, None);
        }
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_counted_while_their_pod_is_here() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}}))
                .expect("a pod");
        let counts = ProbeCounts::default();
        counts.count(&pod, "c", "Liveness", true);
        counts.count(&pod, "c", "Liveness", true);
        counts.count(&pod, "c", "Liveness", false);
        let line = "prober_probe_total{container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"} 2";
        assert!(counts.text(&BTreeSet::from(["u"])).lines().any(|l| l == line));
        assert!(!counts.text(&BTreeSet::new()).contains("pod_uid"));
    }
}
