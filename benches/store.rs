//! The store's figures, one a line: `cargo bench --bench store [directory on the disk to measure]`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kedge::store::{Engine, Event, Expect, Op, Opened, Options, Revision, Store, engine_main};

const VALUE: usize = 1024;
const ENTRIES: usize = 50_000;
const RUNS: usize = 3;
const RUN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).filter(|a| a != "--bench").collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("engine") => return engine_main(&args[1..]),
        Some("opened") => return opened(Path::new(&args[1])),
        _ => {}
    }
    let base = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(base).expect("a directory to write in");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for in_flight in [1, 32, 256] {
        let rates = (0..RUNS).map(|run| {
            let dir = dir.path().join(format!("commits-{in_flight}-{run}"));
            runtime.block_on(commits_per_second(&dir, in_flight))
        });
        let (rate, p99) = median(rates.collect());
        println!("durable commits, {in_flight} in flight: {rate:.0}/s, p99 {p99:.2} ms");
    }
    let data = dir.path().join("entries");
    runtime.block_on(fill(&data));
    let mut runs: Vec<_> = (0..RUNS).map(|_| child(&data)).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2].1.iter().for_each(|line| println!("{line}"));
    ExitCode::SUCCESS
}

fn open(dir: &Path, checkpoint_bytes: u64) -> Opened {
    let exe = std::env::current_exe().expect("this program has a path");
    let engine = Engine::Process(vec![exe.into(), "engine".into()]);
    let options = Options { engine, checkpoint_bytes, ..Options::default() };
    Store::open(dir, options, Box::new(|_: Revision, _: &[Event]| ())).expect("the store opens")
}

/// The run with the middle rate.
fn median(mut runs: Vec<(f64, f64)>) -> (f64, f64) {
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[runs.len() / 2]
}

async fn commits_per_second(dir: &Path, in_flight: usize) -> (f64, f64) {
    let store = open(dir, 64 << 20).store;
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let write = |task| {
        let (store, count) = (store.clone(), Arc::clone(&count));
        tokio::spawn(async move {
            let value = bytes::Bytes::from(vec![b'v'; VALUE]);
            let mut latencies = Vec::new();
            while start.elapsed() < RUN {
                let n = count.fetch_add(1, Ordering::Relaxed) % 1000;
                let op = Op::put(format!("/{task}/{n}"), value.clone(), Expect::Any);
                let from = Instant::now();
                store.commit(vec![op]).await.expect("the commit is written");
                latencies.push(from.elapsed());
            }
            latencies
        })
    };
    let tasks: Vec<_> = (0..in_flight).map(write).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("the writer ends"));
    }
    let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    latencies.sort();
    let p99 = latencies[latencies.len() * 99 / 100].as_secs_f64() * 1000.0;
    store.close().expect("the store closes");
    (rate, p99)
}

/// Makes a store of many entries, most of them in a checkpoint.
async fn fill(dir: &Path) {
    let store = open(dir, 40 << 20).store;
    for chunk in 0..ENTRIES / 500 {
        let commits = (0..500).map(|n| {
            let key = format!("/registry/pods/namespace/{:06}", chunk * 500 + n);
            store.commit(vec![Op::put(key, vec![b'v'; VALUE], Expect::Absent)])
        });
        for result in futures::future::join_all(commits).await {
            result.expect("the commit is written");
        }
    }
    let generation = dir.join("checkpoints/0000000000000001");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !generation.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().expect("the store closes");
}

/// A fresh process, so that memory is only what a start needs: its time to load, and its lines.
fn child(dir: &Path) -> (f64, Vec<String>) {
    let exe = std::env::current_exe().expect("this program has a path");
    let output = Command::new(exe).arg("opened").arg(dir).output().expect("the child runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(str::to_owned);
    let loaded = lines.next().and_then(|n| n.parse().ok()).expect("the child tells its time");
    (loaded, lines.collect())
}

fn opened(dir: &Path) -> ExitCode {
    let before = field("/proc/self/smaps_rollup", "Pss:");
    let start = Instant::now();
    let Opened { store, entries, recovery, .. } = open(dir, 64 << 20);
    let loaded = start.elapsed().as_secs_f64() * 1000.0;
    let count = entries.len();
    drop(entries);
    let (generation, records) = (recovery.generation, recovery.records);
    println!("{loaded}");
    println!(
        "load of {count} entries of {VALUE} bytes (checkpoint {generation:?}, {records} log records): {loaded:.0} ms"
    );
    let pss = field("/proc/self/smaps_rollup", "Pss:") - before;
    println!("memory of {count} entries of {VALUE} bytes: {:.1} MiB PSS", pss as f64 / 1024.0);
    let (written, waited) = (field("/proc/self/io", "wchar:"), switches());
    std::thread::sleep(Duration::from_secs(10));
    let written = field("/proc/self/io", "wchar:") - written;
    println!("written in 10 s idle: {written} bytes; wakeups: {}", switches() - waited);
    store.close().expect("the store closes");
    ExitCode::SUCCESS
}

/// The number in the line of a /proc file that begins with `name`.
fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Times that threads other than the main one waited.
fn switches() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let others = tasks.filter(|t| *t.file_name() != *std::process::id().to_string());
    let count =
        |t: std::fs::DirEntry| field(&t.path().join("status").to_string_lossy(), "voluntary_ctxt_switches:");
    others.map(count).sum()
}
