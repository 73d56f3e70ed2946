//! The real executable, real kubectl, real containers: what a user sees.
//!
//! Each cluster is a node in a network and mount namespace of its own with a data directory of its
//! own, so nothing here touches the machine's. The harness is our own because the shared cluster
//! must be taken down when all tests are done; its closing line is libtest's.

mod harness;
mod images;
mod registry;
mod suite;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use harness::Cluster;

/// A test on the cluster all share; each works in a namespace of its own.
pub type Shared = fn(&Cluster);
/// A test that makes clusters itself, since it stops, kills or breaks them.
pub type Alone = fn();

/// Tests on the shared cluster run this many at a time.
const PARALLEL: usize = 3;

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    assert!(nix::unistd::geteuid().is_root(), "cluster tests need root");
    let started = Instant::now();
    let results = Mutex::new(Vec::new());

    let shared: Vec<_> = suite::shared().into_iter().filter(|(name, _)| wanted(name)).collect();
    if !shared.is_empty() {
        run_shared(&shared, &results);
    }
    for (name, test) in suite::alone().into_iter().filter(|(name, _)| wanted(name)) {
        run(name, &results, test);
    }

    let results = results.into_inner().expect("no test panics with the lock held");
    let failed: Vec<_> = results.iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect();
    for name in &failed {
        println!("    {name}");
    }
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, results.len() - failed.len());
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        failed.len(),
        started.elapsed().as_secs_f32()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_shared(tests: &[(&'static str, Shared)], results: &Mutex<Vec<(&'static str, bool)>>) {
    let cluster = Cluster::start("shared", &[]);
    cluster.import_test_images();
    let queue = Mutex::new(tests.iter());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some((name, test)) = next(&queue) {
                    run(name, results, || test(&cluster));
                }
            });
        }
    });
}

fn next<'a, T>(queue: &Mutex<std::slice::Iter<'a, T>>) -> Option<&'a T> {
    queue.lock().expect("no test runs with the lock held").next()
}

fn run(name: &'static str, results: &Mutex<Vec<(&'static str, bool)>>, test: impl FnOnce()) {
    let started = Instant::now();
    let ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
    let word = if ok { "ok" } else { "FAILED" };
    println!("test {name} ... {word} ({:.1}s)", started.elapsed().as_secs_f32());
    results.lock().expect("no test panics with the lock held").push((name, ok));
}
