//! Figures of the runtime, one line each: `cargo bench --bench runtime`. Needs root.

#[path = "../tests/runtime_support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use kedge::runtime::spec::{ContainerSpec, Seccomp};
use support::{Fixture, sh};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Proportional and private memory of a process in KiB.
fn memory(pid: &str) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |key: &str| -> u64 {
        let lines = text.lines().filter(|l| l.starts_with(key));
        lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    (field("Pss:"), field("Private_"))
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let f = Fixture::new().await;
    let (mut sandboxes, mut creates, mut starts, mut execs, mut removes) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for n in 0..20 {
        let (s, c) = (format!("s{n}"), format!("c{n}"));
        let spec = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sh(&c, "exec sleep 1000") };
        let t = Instant::now();
        f.sandbox(&s).await;
        sandboxes.push(t.elapsed());
        let t = Instant::now();
        f.create(&s, &spec).await.unwrap();
        creates.push(t.elapsed());
        let t = Instant::now();
        f.runtime.start_container(&c).await.unwrap();
        starts.push(t.elapsed());
        let t = Instant::now();
        f.runtime.exec_sync(&c, &["true".into()], Duration::from_secs(5)).await.unwrap();
        execs.push(t.elapsed());
        // Spaced, as single pods come; the kernel is quicker with bursts.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let shims: Vec<_> = f.processes().into_iter().filter(|p| p.contains("shim\0")).collect();
    let (pss, private) = memory(shims[10].split(' ').next().unwrap());
    for n in 0..20 {
        let t = Instant::now();
        f.runtime.remove_sandbox(&format!("s{n}")).await.unwrap();
        removes.push(t.elapsed());
    }
    println!("sandbox {:?}", median(sandboxes));
    println!("create container {:?}", median(creates));
    println!("start container {:?}", median(starts));
    println!("exec true {:?}", median(execs));
    println!("remove sandbox {:?}", median(removes));
    println!("shim with one container, 20 of them: PSS {pss} KiB, private {private} KiB");
    f.finish().await;
}
