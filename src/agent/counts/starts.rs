//! How long pods take to start, seen from the watch of the API.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::text::{Kind, Text};
use crate::agent::spec::uid;

/// Upper bounds in seconds: kubelet's.
const BUCKETS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

#[derive(Debug, Default)]
struct State {
    /// Pods that have not started yet, since when they are known.
    pending: HashMap<String, Instant>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

/// Durations from the first sight of a pod until it runs.
#[derive(Debug, Default)]
pub(crate) struct Starts(Mutex<State>);

impl Starts {
    /// A pod's newest state.
    pub(crate) fn observe(&self, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        let mut state = self.0.lock();
        if phase == "Pending" {
            state.pending.entry(uid(pod).to_owned()).or_insert_with(Instant::now);
        } else if let Some(since) = state.pending.remove(uid(pod)) {
            state.add(since.elapsed());
        }
    }

    /// A pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().pending.remove(uid);
    }

    /// Adds the histogram.
    pub(crate) fn write(&self, text: &mut Text) {
        let name = "kubelet_pod_start_duration_seconds";
        let help = "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run";
        let state = self.0.lock();
        text.metric(name, Kind::Histogram, help);
        let bucket = format!("{name}_bucket");
        for (count, bound) in state.buckets.iter().zip(BUCKETS) {
            text.sample(&bucket, &[("le", &bound.to_string())], count, None);
        }
        text.sample(&bucket, &[("le", "+Inf")], state.count, None);
        text.sample(&format!("{name}_sum"), &[], state.seconds, None);
        text.sample(&format!("{name}_count"), &[], state.count, None);
    }
}

impl State {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds += seconds;
        for (count, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_start_is_counted_once_and_only_if_it_was_seen() {
        let pod = |uid: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": uid}, "status": {"phase": phase}}))
                .expect("a pod")
        };
        let starts = Starts::default();
        starts.observe(&pod("old", "Running"));
        starts.observe(&pod("a", "Pending"));
        starts.observe(&pod("a", "Running"));
        starts.observe(&pod("a", "Running"));
        starts.observe(&pod("b", "Pending"));
        starts.forget("b");
        starts.observe(&pod("b", "Running"));
        let mut text = Text::default();
        starts.write(&mut text);
        let text = text.finish();
        assert!(text.contains("kubelet_pod_start_duration_seconds_bucket{le=\"0.5\"} 1\n"), "{text}");
        assert!(text.contains("kubelet_pod_start_duration_seconds_count 1\n"), "{text}");
    }
}
