//! Checkpoints by an engine process: this test is its own engine, so it has its own main.

mod store_support;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kedge::store::{Engine, Error, Expect, Op, Options, Store, engine_main};
use store_support::{commit, dump, files_below, open, small};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|a| a.to_str()) {
        Some("engine") => return engine_main(&args[1..]),
        // Names of tests to run are for others.
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        checkpoints_shorten_the_log().await;
        rotten_checkpoints_fall_back().await;
        a_snapshot_opens_as_a_store().await;
        a_dead_engine_stops_no_commit().await;
    });
    ExitCode::SUCCESS
}

fn options() -> Options {
    let engine = Engine::Process(vec![std::env::current_exe().unwrap().into(), "engine".into()]);
    Options { engine, checkpoint_bytes: 100 << 10, ..small() }
}

fn generations(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("checkpoints")).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|n| !n.ends_with(".tmp"));
    names.sort();
    names
}

/// Writes until there are generations up to `wanted`; long values too.
async fn fill(store: &Store, dir: &Path, wanted: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let name = format!("{wanted:016x}");
    for n in 0.. {
        let size = if n % 31 == 0 { 200_000 } else { 1000 };
        let op = Op::put(format!("key{}", n % 100), format!("{n}{}", "x".repeat(size)), Expect::Any);
        commit(store, op).await.unwrap();
        if generations(dir).contains(&name) {
            break;
        }
        assert!(Instant::now() < deadline, "no checkpoint is taken");
    }
}

async fn checkpoints_shorten_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), options()).unwrap().store;
    fill(&store, dir.path(), 4).await;
    commit(&store, Op::delete("key3", Expect::Any)).await.unwrap();
    let content = dump(&store);
    let revision = store.revision();
    store.close().unwrap();
    let found = generations(dir.path());
    assert!(found.len() <= 3, "old generations are removed: {found:?}");
    assert!(!dir.path().join("log/0000000000000001.log").exists(), "old log is removed");
    let opened = open(dir.path(), options()).unwrap();
    assert!(opened.recovery.generation >= Some(3), "{:?}", opened.recovery);
    assert_eq!((opened.revision, dump(&opened.store)), (revision, content));
    opened.store.close().unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
    assert_eq!(names.filter(|n| n.starts_with("sled")).count(), 0, "no thread stays");
}

async fn rotten_checkpoints_fall_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), options()).unwrap().store;
    fill(&store, dir.path(), 3).await;
    let content = dump(&store);
    store.close().unwrap();
    let whole = files_below(dir.path());
    let newest = dir.path().join("checkpoints").join(generations(dir.path()).pop().unwrap());
    let restore = || {
        std::fs::remove_dir_all(dir.path().join("checkpoints")).unwrap();
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        for (name, bytes) in &whole {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        std::fs::create_dir_all(newest.join("blobs")).unwrap();
    };
    let db = std::fs::read(newest.join("db")).unwrap();
    let (mut fallbacks, mut harmless) = (0, 0);
    for round in 0..24 {
        let mut rotten = db.clone();
        let at = db.len() / 25 * (round + 1);
        match round % 3 {
            0 => rotten[at..(at + 4096).min(db.len())].fill(0),
            1 => rotten[at] ^= 0x10,
            _ => rotten.truncate(at),
        }
        std::fs::write(newest.join("db"), rotten).unwrap();
        let opened = open(dir.path(), options()).unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!(dump(&opened.store), content, "round {round}");
        match opened.recovery.fallback {
            Some(_) => fallbacks += 1,
            None => harmless += 1,
        }
        opened.store.close().unwrap();
        restore();
    }
    assert!(fallbacks >= 8, "{fallbacks} fell back, {harmless} did not need to");
    // Both damaged and the first log gone: nothing is guessed.
    for generation in generations(dir.path()) {
        std::fs::write(dir.path().join("checkpoints").join(generation).join("db"), "rot").unwrap();
    }
    assert!(matches!(open(dir.path(), options()), Err(Error::Corrupt { .. })));
}

async fn a_snapshot_opens_as_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target) = (dir.path().join("data"), dir.path().join("snapshot"));
    let store = open(&data, options()).unwrap().store;
    fill(&store, &data, 1).await;
    let content = dump(&store);
    let taken = store.snapshot(&target);
    commit(&store, Op::put("later", "1", Expect::Any)).await.unwrap();
    let revision = taken.await.unwrap();
    assert!(matches!(store.snapshot(&target).await, Err(Error::Io { .. })), "not overwritten");
    store.close().unwrap();
    let opened = open(&target, options()).unwrap();
    let mut found = dump(&opened.store);
    found.remove("later");
    assert_eq!(found, content);
    assert!(opened.revision >= revision);
    fill(&opened.store, &target, 3).await;
    let content = dump(&opened.store);
    opened.store.close().unwrap();
    assert_eq!(dump(&open(&target, options()).unwrap().store), content);
}

async fn a_dead_engine_stops_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Options { engine: Engine::Process(vec!["/bin/false".into()]), ..options() };
    let store = open(dir.path(), broken).unwrap().store;
    for n in 0..400 {
        let op = Op::put(format!("key{}", n % 10), "x".repeat(1000), Expect::Any);
        commit(&store, op).await.unwrap();
    }
    let content = dump(&store);
    store.close().unwrap();
    assert_eq!(generations(dir.path()), Vec::<String>::new());
    assert_eq!(dump(&open(dir.path(), options()).unwrap().store), content);
}
