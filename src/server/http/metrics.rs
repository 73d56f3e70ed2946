//! `/metrics`: a small set that says how the server does, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::api::Api;
use super::health;
use crate::server::request_info::RequestInfo;

/// Upper bounds of the duration buckets, in seconds: upstream's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

#[derive(Clone, Debug, Default)]
struct Series {
    by_code: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

impl Key {
    fn of(info: &RequestInfo, dry_run: bool) -> Self {
        let subresource = info.subresource.clone().unwrap_or_default();
        Self {
            verb: verb(info, &subresource),
            dry_run: if dry_run { "All" } else { "" },
            scope: scope(info),
            group: info.api_group.clone(),
            version: info.api_version.clone(),
            resource: info.resource.clone(),
            subresource,
        }
    }

    fn labels(&self) -> String {
        let Self { verb, dry_run, scope, group, version, resource, subresource } = self;
        format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{group}\",resource=\"{resource}\",\
             scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

/// The verb as upstream's metrics call it: the method, but for reads.
fn verb(info: &RequestInfo, subresource: &str) -> &'static str {
    if matches!(subresource, "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match info {
        RequestInfo { is_resource: false, .. } => "",
        RequestInfo { name: Some(_), .. } => "resource",
        RequestInfo { verb, .. } if verb == "create" => "resource",
        RequestInfo { namespace: Some(_), .. } => "namespace",
        _ => "cluster",
    }
}

/// Counts requests by what they are about.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<Key, Series>>,
}

impl Metrics {
    /// Counts a request that was answered; `took` is the time until the answer began.
    pub(super) fn count(&self, info: &RequestInfo, dry_run: bool, code: u16, took: Duration) {
        let key = Key::of(info, dry_run);
        // How long these take is up to their clients.
        let long_running = matches!(key.verb, "WATCH" | "CONNECT");
        let mut requests = self.requests.lock();
        let series = requests.entry(key).or_default();
        *series.by_code.entry(code).or_default() += 1;
        if long_running {
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
        out.push_str(
            "# HELP apiserver_request_total Requests by verb, group, version, resource, scope and code.\n\
             # TYPE apiserver_request_total counter\n",
        );
        for (key, series) in requests.iter() {
            let labels = key.labels();
            for (code, count) in &series.by_code {
                let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {count}");
            }
        }
        let name = "apiserver_request_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} Time until the answer began, watches left out.\n# TYPE {name} histogram"
        );
        for (key, series) in requests.iter().filter(|(_, s)| s.count > 0) {
            let labels = key.labels();
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
    write_build(&mut out);
    write_process(&mut out, &std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    out
}

/// What the API is a version of.
fn write_build(out: &mut String) {
    let (name, version) = ("kubernetes_build_info", super::discovery::VERSION);
    let numbers: Vec<&str> = version.trim_start_matches('v').split('.').collect();
    let (major, minor) = (numbers.first().unwrap_or(&""), numbers.get(1).unwrap_or(&""));
    let _ = writeln!(
        out,
        "# HELP {name} The version, always 1.\n# TYPE {name} gauge\n\
         {name}{{git_version=\"{version}\",major=\"{major}\",minor=\"{minor}\"}} 1"
    );
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
        ("process_virtual_memory_bytes", "Virtual memory.", find("VmSize:").map(|kib| kib << 10)),
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

    fn info(verb: &str, namespace: Option<&str>, name: Option<&str>) -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb: verb.into(),
            api_version: "v1".into(),
            resource: "pods".into(),
            namespace: namespace.map(Into::into),
            name: name.map(Into::into),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn requests_are_counted_by_what_they_are() {
        let metrics = Metrics::default();
        metrics.count(&info("list", None, None), false, 200, Duration::from_millis(50));
        metrics.count(&info("list", None, None), false, 200, Duration::from_millis(1));
        metrics.count(&info("watch", None, None), false, 200, Duration::ZERO);
        metrics.count(&info("create", Some("n"), None), true, 201, Duration::ZERO);
        let mut text = String::new();
        metrics.write(&mut text);
        let labels = |scope: &str, verb: &str, dry_run: &str| {
            format!(
                "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"\",resource=\"pods\",scope=\"{scope}\",\
                 subresource=\"\",verb=\"{verb}\",version=\"v1\""
            )
        };
        let list = labels("cluster", "LIST", "");
        for line in [
            format!("apiserver_request_total{{code=\"200\",{list}}} 2\n"),
            format!("apiserver_request_total{{code=\"201\",{}}} 1\n", labels("resource", "POST", "All")),
            format!("apiserver_request_duration_seconds_bucket{{{list},le=\"0.005\"}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{list},le=\"+Inf\"}} 2\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains(&format!("seconds_count{{{}}}", labels("cluster", "WATCH", ""))), "{text}");
    }

    #[test]
    fn verbs_and_scopes_are_upstreams() {
        for (info, verb_, scope_) in [
            (info("get", Some("n"), Some("p")), "GET", "resource"),
            (info("update", Some("n"), Some("p")), "PUT", "resource"),
            (info("deletecollection", Some("n"), None), "DELETECOLLECTION", "namespace"),
            (RequestInfo { verb: "get".into(), ..RequestInfo::default() }, "GET", ""),
        ] {
            assert_eq!((verb(&info, ""), scope(&info)), (verb_, scope_), "{info:?}");
        }
        assert_eq!(verb(&info("create", Some("n"), Some("p")), "exec"), "CONNECT");
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
