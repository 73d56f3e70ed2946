//! How webhooks do, in upstream's metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::call::Failure;
use super::hook::{Hook, Kind};

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const DURATION: &str = "apiserver_admission_webhook_admission_duration_seconds";
const REJECTIONS: &str = "apiserver_admission_webhook_rejection_count";
const FAILED_OPEN: &str = "apiserver_admission_webhook_fail_open_count";

#[derive(Debug, Default)]
struct Series {
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

#[derive(Debug, Default)]
struct Tables {
    /// By labels.
    durations: BTreeMap<String, Series>,
    rejections: BTreeMap<String, u64>,
    failed_open: BTreeMap<String, u64>,
}

/// Counts what webhooks were asked.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Tables>);

impl Metrics {
    /// Counts one question; `failure` is why the webhook did not let the request pass.
    pub(super) fn count(
        &self,
        (kind, hook): (Kind, &Hook),
        operation: &str,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        let kind = if kind == Kind::Mutating { "admit" } else { "validating" };
        let labels = format!("name=\"{}\",type=\"{kind}\"", hook.name);
        let mut tables = self.0.lock();
        let rejected = failure.is_some_and(|f| !(f.is_calling() && hook.ignore_failure));
        let of = format!("{labels},operation=\"{operation}\"");
        let series = tables.durations.entry(format!("{of},rejected=\"{rejected}\"")).or_default();
        let seconds = took.as_secs_f64();
        (series.count, series.seconds) = (series.count + 1, series.seconds + seconds);
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        let Some(failure) = failure else { return };
        if !rejected {
            *tables.failed_open.entry(labels).or_default() += 1;
            return;
        }
        let (why, code) = failure.kind();
        let of = format!("{of},error_type=\"{why}\",rejection_code=\"{code}\"");
        *tables.rejections.entry(of).or_default() += 1;
    }

    /// In the Prometheus text format; nothing if nothing was asked.
    pub(super) fn write(&self, out: &mut String) {
        let tables = self.0.lock();
        if tables.durations.is_empty() {
            return;
        }
        let _ =
            writeln!(out, "# HELP {DURATION} Latency of admission webhooks.\n# TYPE {DURATION} histogram");
        for (labels, series) in &tables.durations {
            for (bucket, bound) in series.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{DURATION}_bucket{{{labels},le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(out, "{DURATION}_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(out, "{DURATION}_sum{{{labels}}} {}", series.seconds);
            let _ = writeln!(out, "{DURATION}_count{{{labels}}} {}", series.count);
        }
        for (name, help, table) in [
            (REJECTIONS, "Requests that admission webhooks rejected.", &tables.rejections),
            (
                FAILED_OPEN,
                "Requests that passed because a webhook's failure is ignored.",
                &tables.failed_open,
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, count) in table {
                let _ = writeln!(out, "{name}{{{labels}}} {count}");
            }
        }
    }
}
