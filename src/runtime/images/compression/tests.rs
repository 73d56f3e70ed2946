use std::io::Write;

use super::*;

fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    open(&bytes[..])?.read_to_end(&mut out)?;
    Ok(out)
}

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressions_and_plain_are_told_apart() {
    let content = content();
    assert_eq!(read(content.clone()).unwrap(), content);
    assert_eq!(read(gzip(&content)).unwrap(), content);
    assert_eq!(read(zstd(&content)).unwrap(), content);
    assert_eq!(read(bzip2(&content)).unwrap(), content);
    assert_eq!(read(lz4(&content)).unwrap(), content);
    for short in [&b""[..], b"a", b"abc"] {
        assert_eq!(read(short.to_vec()).unwrap(), short);
    }
}

#[test]
fn several_members_and_frames_are_one_stream() {
    let content = content();
    let (first, second) = content.split_at(100_000);
    for pack in [gzip, bzip2, lz4] {
        assert_eq!(read([pack(first), pack(second)].concat()).unwrap(), content);
    }
    // Between and after them there may be frames to be skipped, as zstd:chunked has.
    let skip = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3].to_vec();
    let stream = [skip.clone(), zstd(first), skip.clone(), zstd(second), skip].concat();
    assert_eq!(read(stream).unwrap(), content);
}

#[test]
fn a_cut_or_damaged_stream_is_an_error() {
    for whole in [gzip(&content()), zstd(&content()), bzip2(&content()), lz4(&content())] {
        assert!(read(whole[..whole.len() / 2].to_vec()).is_err());
    }
}
