use super::*;

const SALT: u64 = 0x1234_5678_9abc_def0;

fn record(values: &[&[u8]]) -> Vec<u8> {
    let mut buffer = RecordBuffer::new(Kind::Commits);
    for (i, value) in values.iter().enumerate() {
        let (key, value) = (format!("key{i}").into(), Bytes::copy_from_slice(value));
        buffer.add(&Change::Put { key, value, created: 1, modified: 2 + i as u64 });
    }
    buffer.add(&Change::Delete { key: Bytes::from("gone"), revision: 9 });
    buffer.finish(SALT, 10, 99).to_vec()
}

fn segment(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0; SEGMENT_HEADER as usize];
    for record in records {
        out.resize(align(out.len()), 0);
        out.extend(record);
    }
    out.resize(16 * 1024, 0);
    out
}

#[test]
fn records_come_back_as_they_were_written() {
    let segment = segment(&[record(&[b"one", b""]), record(&[])]);
    let Found::Record(first) = read(&segment, 64, SALT) else { panic!("no first record") };
    assert_eq!((first.kind, first.revision, first.reserved), (Kind::Commits, 10, 99));
    let (key, value) = (Bytes::from("key1"), Bytes::new());
    assert_eq!(first.changes[1], Change::Put { key, value, created: 1, modified: 3 });
    assert_eq!(first.changes[2], Change::Delete { key: Bytes::from("gone"), revision: 9 });
    let Found::Record(second) = read(&segment, first.next, SALT) else { panic!("no second") };
    assert_eq!(second.changes.len(), 1);
    assert_eq!(read(&segment, second.next, SALT), Found::Nothing);
}

#[test]
fn another_segments_record_is_none() {
    let segment = segment(&[record(&[b"one"])]);
    assert!(matches!(read(&segment, 64, SALT + 1), Found::Damaged(_)));
}

#[test]
fn every_loss_of_sectors_is_torn_or_nothing() {
    let value = vec![b'v'; 3000];
    let whole = segment(&[record(&[&value])]);
    let length = align(64 + record(&[&value]).len());
    let sectors = length.div_ceil(SECTOR);
    for mask in 0..(1u32 << sectors) - 1 {
        let mut torn = whole.clone();
        for sector in (0..sectors).filter(|s| mask & (1 << s) == 0) {
            torn[(sector * SECTOR).max(64)..(sector + 1) * SECTOR].fill(0);
        }
        match read(&torn, 64, SALT) {
            Found::Nothing => assert_eq!(mask & 1, 0),
            found => assert_eq!(found, Found::Torn, "mask {mask:b}"),
        }
        assert_eq!(find(&torn, 64, SALT), None);
    }
}

#[test]
fn every_flipped_byte_is_damage() {
    let whole = segment(&[record(&[b"value"])]);
    let length = record(&[b"value"]).len();
    for at in 64..64 + length {
        let mut rotten = whole.clone();
        rotten[at] ^= 0x40;
        assert!(matches!(read(&rotten, 64, SALT), Found::Damaged(_)), "byte {at}");
    }
}

#[test]
fn a_later_record_is_found_and_a_value_like_a_record_is_not() {
    let inner = record(&[b"x"]);
    let mut forged = inner.clone();
    forged[24] ^= 1;
    let segment = segment(&[record(&[&forged]), inner]);
    let Found::Record(first) = read(&segment, 64, SALT) else { panic!("no record") };
    assert_eq!(find(&segment, 96, SALT), Some(first.next));
}

#[test]
fn segment_headers_are_checked() {
    let header = SegmentHeader { sequence: 7, salt: SALT, previous_end: 4096 };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::decode(&bytes), Some(header));
    for at in 0..36 {
        let mut bad = bytes;
        bad[at] ^= 1;
        assert_eq!(SegmentHeader::decode(&bad), None, "byte {at}");
    }
}
