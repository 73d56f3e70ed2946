//! Readings of a node's metrics, and what two of them say together.

use std::collections::{BTreeMap, HashMap};

/// What was used up to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// CPU time used so far, in nanoseconds.
    pub cpu: u64,
    /// Working set in bytes.
    pub memory: u64,
    /// When it was started, in milliseconds since the epoch, if that is known.
    pub started: Option<i64>,
}

/// What is used at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// The end of the window, in milliseconds since the epoch.
    pub at: i64,
    /// How long was looked, in milliseconds.
    pub window: i64,
    /// Billionths of a processor.
    pub cpu_nanos: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Point {
    /// What was used between an earlier reading and this one; without one, since the start.
    fn since(&self, before: Option<&Self>) -> Option<Used> {
        let restarted = |b: &Point| b.cpu > self.cpu || self.started.is_some_and(|s| s > b.at);
        let (from, used) = match before.filter(|b| b.at < self.at && !restarted(b)) {
            Some(before) => (before.at, self.cpu - before.cpu),
            None => (self.started?, self.cpu),
        };
        let window = (self.at - from).max(1);
        let nanos = u128::from(used) * 1000 / u128::from(window.unsigned_abs());
        let cpu_nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Some(Used { at: self.at, window, cpu_nanos, memory: self.memory })
    }
}

/// A container: its pod's namespace and name, and its own name.
type Container = (String, String, String);

/// One reading of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// The machine.
    pub node: Option<Point>,
    /// The containers that ran.
    pub containers: BTreeMap<Container, Point>,
}

/// One line of Prometheus' text format: name, labels, value, milliseconds since the epoch.
struct Line<'a> {
    name: &'a str,
    labels: HashMap<&'a str, String>,
    value: f64,
    at: Option<i64>,
}

fn line(text: &str) -> Option<Line<'_>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let end = text.find(['{', ' '])?;
    let (name, rest) = text.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (HashMap::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    Some(Line { name, labels, value, at: words.next().and_then(|at| at.parse().ok()) })
}

/// Labels up to the closing brace, and what follows.
fn labels(text: &str) -> Option<(HashMap<&str, String>, &str)> {
    let mut found = HashMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        found.insert(name.trim(), value);
        rest = &quoted[end + 1..];
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "amounts, far below the limits")]
fn scaled(value: f64, by: f64) -> u64 {
    (value * by).round().max(0.0) as u64
}

impl Reading {
    /// Reads `/metrics/resource`; `now` stands for times that are missing.
    pub(super) fn parse(text: &str, now: i64) -> Self {
        let mut reading = Self::default();
        for line in text.lines().filter_map(line) {
            let at = line.at.unwrap_or(now);
            let point = if line.name.starts_with("node_") {
                reading.node.get_or_insert_default()
            } else if line.name.starts_with("container_") {
                let label = |name: &str| line.labels.get(name).cloned().unwrap_or_default();
                let key = (label("namespace"), label("pod"), label("container"));
                reading.containers.entry(key).or_default()
            } else {
                continue;
            };
            match line.name.split_once('_').map(|(_, rest)| rest) {
                Some("cpu_usage_seconds_total") => (point.cpu, point.at) = (scaled(line.value, 1e9), at),
                Some("memory_working_set_bytes") => point.memory = scaled(line.value, 1.0),
                Some("start_time_seconds") => {
                    point.started = i64::try_from(scaled(line.value, 1e3)).ok();
                }
                _ => {}
            }
        }
        reading.containers.retain(|_, point| point.at > 0);
        reading
    }
}

/// The last two readings of all nodes, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(pub HashMap<String, (Option<Reading>, Reading)>);

impl Sample {
    /// What a node uses.
    pub(super) fn node(&self, node: &str) -> Option<Used> {
        let (before, last) = self.0.get(node)?;
        last.node?.since(before.as_ref().and_then(|b| b.node.as_ref()))
    }

    /// What the containers of a pod use; `None` if none of them is known.
    pub(super) fn pod(&self, node: &str, namespace: &str, pod: &str) -> Option<BTreeMap<String, Used>> {
        let (before, last) = self.0.get(node)?;
        let own = last.containers.iter().filter(|((ns, name, _), _)| ns == namespace && name == pod);
        let used = own.filter_map(|(key, point)| {
            let before = before.as_ref().and_then(|b| b.containers.get(key));
            Some((key.2.clone(), point.since(before)?))
        });
        let used: BTreeMap<String, Used> = used.collect();
        (!used.is_empty()).then_some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE container_cpu_usage_seconds_total counter\n\
        container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 10000\n\
        container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4.096e+03 10000\n\
        container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 5\n\
        container_start_time_seconds{container=\"\\\"}\",namespace=\"n\",pod=\"p\"} 5\n\
        node_cpu_usage_seconds_total 7 10000\nnode_memory_working_set_bytes 1 10000\n\
        pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 9 10000\nresource_scrape_error 0\n";

    #[test]
    fn the_nodes_text_is_read() {
        let reading = Reading::parse(TEXT, 0);
        let point = Point { at: 10_000, cpu: 2_500_000_000, memory: 4096, started: Some(5000) };
        let key = ("n".to_owned(), "p".to_owned(), "c".to_owned());
        assert_eq!(reading.containers, BTreeMap::from([(key, point)]), "what has no CPU time does not run");
        assert_eq!(reading.node.map(|n| (n.cpu, n.memory)), Some((7_000_000_000, 1)));
    }

    #[test]
    fn use_is_what_came_between_two_readings() {
        let point = |at, cpu| Point { at, cpu, memory: 1, started: Some(1_000) };
        let used =
            |before: Option<Point>, last: Point| last.since(before.as_ref()).map(|u| (u.window, u.cpu_nanos));
        assert_eq!(used(Some(point(2_000, 100)), point(4_000, 500)), Some((2_000, 200)));
        assert_eq!(used(None, point(4_000, 600)), Some((3_000, 200)), "since its start");
        assert_eq!(
            used(Some(point(2_000, 700)), point(4_000, 600)),
            Some((3_000, 200)),
            "it was started again"
        );
        let restarted = Point { started: Some(3_000), ..point(4_000, 900) };
        assert_eq!(used(Some(point(2_000, 100)), restarted), Some((1_000, 900)));
        assert_eq!(used(None, Point { started: None, ..point(4_000, 1) }), None);
    }

    #[test]
    fn pods_are_found_on_their_node() {
        let sample = Sample(HashMap::from([("a".to_owned(), (None, Reading::parse(TEXT, 0)))]));
        assert_eq!(sample.pod("a", "n", "p").expect("known")["c"].memory, 4096);
        assert_eq!(sample.pod("b", "n", "p"), None);
        assert_eq!(sample.node("a"), None, "a machine's use is known from the second reading on");
    }
}
