//! Metrics in Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::fmt::{Display, Write};

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// The text of an answer.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// The head of a metric, before its samples.
    pub(crate) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample; `at` is in milliseconds since the epoch.
    pub(crate) fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
        at: Option<i64>,
    ) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let list: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let _ = write!(self.0, "{{{}}}", list.join(","));
        }
        let _ = write!(self.0, " {value}");
        if let Some(at) = at {
            let _ = write!(self.0, " {at}");
        }
        self.0.push('\n');
    }

    /// A metric with one sample without labels.
    pub(crate) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value, None);
    }

    /// All of it.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Milliseconds since the epoch as seconds.
pub(crate) fn epoch_seconds(milliseconds: i64) -> f64 {
    std::time::Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_labels_and_times() {
        let mut text = Text::default();
        text.metric("a_total", Kind::Counter, "Counts.");
        text.sample("a_total", &[("x", "1\"2\\"), ("y", "z")], seconds(1_500_000_000), Some(7));
        text.single("b", Kind::Gauge, "One.", 2);
        let wanted = "# HELP a_total Counts.\n# TYPE a_total counter\na_total{x=\"1\\\"2\\\\\",y=\"z\"} 1.5 7\n\
                      # HELP b One.\n# TYPE b gauge\nb 2\n";
        assert_eq!(text.finish(), wanted);
        assert_eq!(epoch_seconds(1_700_000_000_250), 1_700_000_000.25);
    }
}
