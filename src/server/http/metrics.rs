//! `/metrics`: a small set that says how the server does, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::api::Api;
use super::health;
use crate::server::request_info::RequestInfo;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.2, 0.6, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Default)]
struct Series {
    by_code: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

/// Counts requests by verb, group and resource.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(String, String, String), Series>>,
}

impl Metrics {
    /// Counts a request that was answered; `took` is the time until the answer began.
    pub(super) fn count(&self, info: &RequestInfo, code: u16, took: Duration) {
        let key = (info.verb.clone(), info.api_group.clone(), info.resource.clone());
        let mut requests = self.requests.lock();
        let series = requests.entry(key).or_default();
        *series.by_code.entry(code).or_default() += 1;
        // Watches are as long as their clients like.
        if info.verb == "watch" {
            return;
        }
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    fn write(&self, out: &mut String) {
        let requests = self.requests.lock();
        out.push_str("# HELP apiserver_request_total Requests by verb, group, resource and code.\n# TYPE apiserver_request_total counter\n");
        for ((verb, group, resource), series) in requests.iter() {
            for (code, count) in &series.by_code {
                let labels =
                    format!("verb=\"{}\",group=\"{group}\",resource=\"{resource}\"", verb.to_uppercase());
                let _ = writeln!(out, "apiserver_request_total{{{labels},code=\"{code}\"}} {count}");
            }
        }
        let name = "apiserver_request_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} Time until the answer began, watches left out.\n# TYPE {name} histogram"
        );
        for ((verb, group, resource), series) in requests.iter().filter(|(_, s)| s.count > 0) {
            let labels =
                format!("verb=\"{}\",group=\"{group}\",resource=\"{resource}\"", verb.to_uppercase());
            for (bucket, bound) in series.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(
                out,
                "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}",
                series.seconds, series.count
            );
        }
    }
}

/// The text of `/metrics`.
pub(super) fn text(api: &Api) -> String {
    let mut out = String::new();
    api.metrics.write(&mut out);
    out.push_str("# HELP apiserver_storage_objects Stored objects by resource.\n# TYPE apiserver_storage_objects gauge\n");
    let mut kinds: Vec<_> =
        api.objects.cache.kinds().iter().map(|k| (k.name().to_owned(), k.len())).collect();
    kinds.sort_unstable();
    for (name, count) in kinds {
        let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{name}\"}} {count}");
    }
    let revision = api.objects.cache.revision();
    let _ = writeln!(
        out,
        "# HELP kedge_store_revision Newest revision.\n# TYPE kedge_store_revision counter\nkedge_store_revision {revision}"
    );
    let (reads, writes) = api.limits.in_flight();
    let name = "apiserver_current_inflight_requests";
    let _ = writeln!(
        out,
        "# HELP {name} Requests in flight that are limited.\n# TYPE {name} gauge\n\
         {name}{{request_kind=\"readOnly\"}} {reads}\n{name}{{request_kind=\"mutating\"}} {writes}"
    );
    api.objects.admission.write_metrics(&mut out);
    write_tasks(&mut out, health::components(api));
    write_process(&mut out, &std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    out
}

/// The long-lived tasks of the process.
fn write_tasks(out: &mut String, tasks: Vec<health::Check>) {
    let name = "kedge_task_up";
    let _ = writeln!(out, "# HELP {name} Whether a task of the process runs.\n# TYPE {name} gauge");
    for (task, problem) in tasks {
        let _ = writeln!(out, "{name}{{task=\"{task}\"}} {}", u8::from(problem.is_none()));
    }
}

/// What the process takes, from the text of `/proc/self/status`.
fn write_process(out: &mut String, status: &str) {
    let find = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let figures = [
        ("process_resident_memory_bytes", "Resident memory.", find("VmRSS:").map(|kib| kib << 10)),
        ("process_threads", "Threads.", find("Threads:")),
    ];
    for (name, help, value) in figures {
        if let Some(value) = value {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are() {
        let metrics = Metrics::default();
        let info = RequestInfo { verb: "list".into(), resource: "pods".into(), ..RequestInfo::default() };
        metrics.count(&info, 200, Duration::from_millis(50));
        metrics.count(&info, 200, Duration::from_millis(1));
        metrics.count(&RequestInfo { verb: "watch".into(), ..info }, 200, Duration::ZERO);
        let mut text = String::new();
        metrics.write(&mut text);
        let labels = "verb=\"LIST\",group=\"\",resource=\"pods\"";
        for line in [
            format!("apiserver_request_total{{{labels},code=\"200\"}} 2\n"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("count{verb=\"WATCH\""), "{text}");
    }

    #[test]
    fn tasks_and_the_process_are_shown() {
        let mut text = String::new();
        write_tasks(&mut text, vec![("api".into(), None), ("scheduler".into(), Some("why".into()))]);
        write_process(&mut text, "Name:\tkedge\nVmRSS:\t     2 kB\nThreads:\t7\n");
        for line in [
            "kedge_task_up{task=\"api\"} 1\n",
            "kedge_task_up{task=\"scheduler\"} 0\n",
            "\nprocess_resident_memory_bytes 2048\n",
            "\nprocess_threads 7\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("why"));
    }
}
