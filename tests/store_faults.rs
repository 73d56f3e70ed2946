//! Disks that are full, fail or rot, and processes that are killed.

mod store_support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use kedge::store::{Error, Event, Expect, Op, Options, Revision, Store};
use store_support::{FaultyDisk, commit, dump, files_below, open, small};

fn faulty() -> (FaultyDisk, Options) {
    let disk = FaultyDisk::default();
    let options = Options { disk: Arc::new(disk.clone()), ..small() };
    (disk, options)
}

fn put(key: impl Into<String>, size: usize) -> Op {
    Op::put(key.into(), vec![b'v'; size], Expect::Any)
}

#[tokio::test]
async fn a_full_disk_is_said_and_writes_go_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, options) = faulty();
    let store = open(dir.path(), options.clone()).unwrap().store;
    disk.0.room.store(20_000, SeqCst);
    let mut written = 0;
    let error = loop {
        match commit(&store, put(format!("key{written}"), 4000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    let before = dump(&store);
    assert_eq!(before.len(), written);
    // Many at once: all fail, none is half there, and what they expected is not kept.
    let many = (0..10).map(|n| store.commit(vec![put(format!("new{n}"), 4000)]));
    for result in futures::future::join_all(many).await {
        assert!(matches!(result, Err(Error::Full { .. })), "{result:?}");
    }
    assert_eq!(dump(&store), before);
    disk.0.room.store(i64::MAX, SeqCst);
    commit(&store, Op::put("new1", "now", Expect::Absent)).await.unwrap();
    let after = dump(&store);
    store.close().unwrap();
    assert_eq!(dump(&open(dir.path(), options).unwrap().store), after);
}

#[tokio::test]
async fn lazy_writes_go_on_while_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, options) = faulty();
    let store = open(dir.path(), options).unwrap().store;
    commit(&store, put("a", 1)).await.unwrap();
    disk.0.room.store(0, SeqCst);
    assert!(commit(&store, put("b", 20_000)).await.is_err());
    commit(&store, put("lease", 20_000).lazy()).await.unwrap();
    assert!(matches!(store.close(), Err(Error::Full { .. })), "the lease could not be written");
}

#[tokio::test]
async fn a_failed_sync_or_write_leaves_nothing_and_a_new_segment_is_used() {
    for fault in ["sync", "half a write"] {
        let dir = tempfile::tempdir().unwrap();
        let (disk, options) = faulty();
        let store = open(dir.path(), options.clone()).unwrap().store;
        let first = commit(&store, put("a", 100)).await.unwrap();
        let flag = if fault == "sync" { &disk.0.no_sync } else { &disk.0.half_writes };
        flag.store(true, SeqCst);
        let error = commit(&store, put("b", 3000)).await.unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{fault}: {error}");
        flag.store(false, SeqCst);
        let next = commit(&store, Op::put("c", "1", Expect::Absent)).await.unwrap();
        assert!(next > first + 1, "{fault}: the failed revision is not used again");
        let segments = std::fs::read_dir(dir.path().join("log")).unwrap().count();
        assert_eq!(segments, 2, "{fault}");
        store.close().unwrap();
        let store = open(dir.path(), options).unwrap().store;
        let keys: Vec<_> = dump(&store).into_keys().collect();
        assert_eq!(keys, ["a", "c"], "{fault}");
    }
}

#[tokio::test]
async fn every_rotten_byte_of_the_log_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 4096, ..small() };
    let store = open(dir.path(), options.clone()).unwrap().store;
    for n in 0..12 {
        commit(&store, put(format!("key{n}"), 500)).await.unwrap();
    }
    let content = dump(&store);
    store.close().unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in files_below(&dir.path().join("log")) {
        let path = dir.path().join("log").join(name);
        for at in (0..bytes.len()).step_by(7) {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x20;
            std::fs::write(&path, &rotten).unwrap();
            match open(dir.path(), options.clone()) {
                Err(Error::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("byte {at}: {error}"),
                Ok(opened) => {
                    assert_eq!(dump(&opened.store), content, "byte {at} of {path:?}");
                    opened.store.close().unwrap();
                    harmless += 1;
                }
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(refused > 500 && harmless > 50, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn lazy_values_are_coalesced_and_an_idle_store_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, options) = faulty();
    let options = Options { lazy_interval: Duration::from_millis(300), ..options };
    let store = open(dir.path(), options).unwrap().store;
    let written = || disk.0.written.load(SeqCst);
    commit(&store, put("lease", 1000).lazy()).await.unwrap();
    let reserved = written();
    for _ in 0..50 {
        commit(&store, put("lease", 1000).lazy()).await.unwrap();
    }
    assert_eq!(written(), reserved, "lazy values are not written at once");
    let deadline = Instant::now() + Duration::from_secs(10);
    while written() == reserved {
        assert!(Instant::now() < deadline, "lazy values are never written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let flushed = written();
    assert!(flushed - reserved < 1200, "only the newest is written");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(written(), flushed, "nothing is written without need");
    commit(&store, put("lease", 10).lazy()).await.unwrap();
    commit(&store, put("lease", 20)).await.unwrap();
    let synced = written();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(written(), synced, "a synced write supersedes a lazy one");
    store.close().unwrap();
}

#[tokio::test]
async fn a_second_opener_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), small()).unwrap().store;
    let Err(Error::Locked { pid, path }) = open(dir.path(), small()) else { panic!("opened twice") };
    assert_eq!((pid, &*path), (std::process::id(), dir.path()));
    store.close().unwrap();
    std::fs::write(dir.path().join("format"), "kedge store 9\n").unwrap();
    let before = files_below(dir.path());
    assert!(matches!(open(dir.path(), small()), Err(Error::Newer { found: 9, .. })));
    assert_eq!(files_below(dir.path()), before, "nothing is touched");
}

#[tokio::test]
async fn a_log_that_is_gone_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), small()).unwrap().store;
    commit(&store, put("a", 1)).await.unwrap();
    store.close().unwrap();
    std::fs::remove_file(dir.path().join("log/0000000000000001.log")).unwrap();
    assert!(matches!(open(dir.path(), small()), Err(Error::Corrupt { .. })));
}

/// The writer that [`killed_writers_lose_nothing`] starts and kills.
#[test]
fn killed_writer() {
    let Some(dir) = std::env::var_os("KEDGE_TEST_KILLED_WRITER") else { return };
    let observer = |revision: Revision, events: &[Event]| {
        let mut out = std::io::stdout().lock();
        for event in events {
            let Event::Put { entry, .. } = event else { continue };
            let (key, value) = (entry.key.escape_ascii(), entry.value.escape_ascii());
            writeln!(out, "ack {revision} {key} {value}").unwrap();
        }
    };
    let options = Options { checkpoint_bytes: 100 << 10, segment_bytes: 64 << 10, ..Options::default() };
    let store = Store::open(Path::new(&dir), options, Box::new(observer)).unwrap().store;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in store.revision().. {
            let puts = (0..4).map(|w| {
                let (key, value) = (format!("{w}/{}", n % 50), format!("{n}-{}", "x".repeat(300)));
                store.commit(vec![Op::put(key, value, Expect::Any)])
            });
            futures::future::join_all(puts).await;
        }
    });
}

#[test]
fn killed_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut newest) = (BTreeMap::new(), 0);
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_writer", "--nocapture", "--test-threads=1"])
            .env("KEDGE_TEST_KILLED_WRITER", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut parse = |line: std::io::Result<String>| {
            let line = line.unwrap_or_default();
            let mut words = line.split(' ');
            if words.next() != Some("ack") {
                return 0;
            }
            let (Some(revision), Some(key), Some(value)) = (words.next(), words.next(), words.next()) else {
                return 0;
            };
            let Ok(revision) = revision.parse::<u64>() else { return 0 };
            acknowledged.insert(key.to_owned(), (revision, value.to_owned()));
            assert!(revision > newest, "round {round}: revision {revision} after {newest}");
            newest = revision;
            1
        };
        // Killed after a number of acknowledgements, not a time: also in the middle of checkpoints.
        let mut count = 0;
        while count < 40 + 97 * round {
            count += parse(lines.next().expect("the writer ended by itself"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| _ = parse(line));
        let opened = open(dir.path(), Options::default()).unwrap();
        assert_eq!(opened.recovery.fallback, None);
        for (key, (revision, value)) in &acknowledged {
            let entry = opened.store.get(key.as_bytes()).expect("an acknowledged key is there");
            assert!(entry.modified >= *revision, "round {round}: {key} is older than acknowledged");
            assert!(entry.modified > *revision || entry.value == *value, "round {round}: {key}");
            assert_eq!(entry.value.len(), entry.value.iter().position(|b| *b == b'-').unwrap() + 301);
        }
        assert!(opened.revision >= newest);
        opened.store.close().unwrap();
    }
}
