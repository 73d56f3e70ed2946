//! Clients people use, against the real executable: every kubectl at hand through a scripted matrix,
//! the Python and JavaScript clients, kube's own.
//!
//! One cluster with a node serves all; each suite works in a namespace of its own. Run a part by name:
//! `cargo test --test clients -- kubectl/apply 1.36`.

#[path = "../cluster/harness.rs"]
#[allow(dead_code, reason = "the cluster tests use the rest")]
mod harness;
#[path = "../cluster/images.rs"]
mod images;
mod kubectl;
mod languages;
mod rust;
mod script;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use harness::Cluster;

/// A suite: its name, and what it does.
type Suite = (String, Box<dyn Fn(&Cluster) + Send + Sync>);

/// Suites run this many at a time.
const PARALLEL: usize = 3;

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    assert!(nix::unistd::geteuid().is_root(), "tests with a node need root");
    let started = Instant::now();
    let suites: Vec<Suite> = [languages::suites(), rust::suites(), kubectl::suites()]
        .into_iter()
        .flatten()
        .filter(|(name, _)| filters.iter().all(|f| name.contains(f.as_str())))
        .collect();
    let results = Mutex::new(Vec::new());
    if !suites.is_empty() {
        // A file system of its own: what else fills the machine is no pressure on this node.
        let cluster = Cluster::start_on_small_disk("clients", 1024);
        cluster.import_test_images();
        let queue = Mutex::new(suites.iter());
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL {
                scope.spawn(|| {
                    while let Some(suite) = next(&queue) {
                        run(suite, &cluster, &results);
                    }
                });
            }
        });
    }
    let results = results.into_inner().expect("no suite panics with the lock held");
    let failed: Vec<_> = results.iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect();
    failed.iter().for_each(|name| println!("    {name}"));
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, results.len() - failed.len());
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        failed.len(),
        started.elapsed().as_secs_f32()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The admin kubeconfig, which only the cluster's host sees.
fn kubeconfig(cluster: &Cluster) -> String {
    cluster.host.sh(&format!("cat {}", cluster.kubeconfig().display()))
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, Suite>>) -> Option<&'a Suite> {
    queue.lock().expect("no suite runs with the lock held").next()
}

fn run((name, suite): &Suite, cluster: &Cluster, results: &Mutex<Vec<(String, bool)>>) {
    let started = Instant::now();
    let ok = catch_unwind(AssertUnwindSafe(|| suite(cluster))).is_ok();
    let word = if ok { "ok" } else { "FAILED" };
    println!("test {name} ... {word} ({:.1}s)", started.elapsed().as_secs_f32());
    results.lock().expect("no suite panics with the lock held").push((name.clone(), ok));
}
