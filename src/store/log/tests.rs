use super::*;
use crate::store::disk::RealDisk;
use crate::store::record::{Change, Kind};

fn open(dir: &Path) -> Result<(Log, Tail, Vec<Record>), Error> {
    let mut records = Vec::new();
    let (log, tail) = Log::open(Arc::new(RealDisk), dir, 1, false, 8192, |r| records.push(r))?;
    Ok((log, tail, records))
}

fn write(log: &mut Log, revision: Revision, size: usize) {
    let mut record = RecordBuffer::new(Kind::Commits);
    let (key, value) = ("key".into(), vec![b'v'; size].into());
    record.add(&Change::Put { key, value, created: 1, modified: revision });
    log.append(&mut record, revision, revision + 10).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn records_survive_rotation_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    for revision in 1..=40 {
        write(&mut log, revision, 1000);
    }
    assert!(log.sequence() > 3);
    let used = log.used();
    write(&mut log, 41, 100_000);
    drop(log);
    let (log, tail, records) = open(dir.path()).unwrap();
    assert_eq!(tail, Tail { records: 41, torn: false });
    assert_eq!(records.last().map(|r| (r.revision, r.reserved)), Some((41, 51)));
    assert!(log.used() >= used);
}

#[test]
fn a_torn_tail_is_wiped_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 1, 100);
    let end = log.end;
    write(&mut log, 2, 2000);
    drop(log);
    let path = dir.path().join("0000000000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1024..1536].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (mut log, tail, _) = open(dir.path()).unwrap();
    assert_eq!((tail, log.end), (Tail { records: 1, torn: true }, end));
    write(&mut log, 3, 10);
    drop(log);
    let (_, tail, records) = open(dir.path()).unwrap();
    assert_eq!((tail.torn, records[1].revision), (false, 3));
}

#[test]
fn damage_is_refused_wherever_it_is() {
    for (at, what) in [(20, "header"), (100, "CRC"), (70, "header"), (1200, "CRC")] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, ..) = open(dir.path()).unwrap();
        write(&mut log, 1, 1000);
        write(&mut log, 2, 1000);
        drop(log);
        flip(&dir.path().join("0000000000000001.log"), at);
        let error = open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(what), "{at}: {error}");
    }
}

#[test]
fn zeroed_records_before_whole_ones_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    (1..=3).for_each(|revision| write(&mut log, revision, 1000));
    drop(log);
    let path = dir.path().join("0000000000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1024..2048].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let error = open(dir.path()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("whole ones follow"), "{error}");
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    (1..=30).for_each(|revision| write(&mut log, revision, 1000));
    drop(log);
    std::fs::remove_file(dir.path().join("0000000000000002.log")).unwrap();
    let error = open(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("0000000000000002.log"), "{error}");
    let error = Log::open(Arc::new(RealDisk), dir.path(), 99, true, 8192, |_| ()).map(|_| ());
    assert!(matches!(error, Err(Error::Corrupt { .. })));
}
