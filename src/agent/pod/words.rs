//! A container's last words: its termination message, by path and policy.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Limits of kubelet.
const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// Of all containers of a pod together; each has an equal share.
const MAX_POD: usize = 12 << 10;

/// What the container left in its termination log, or with `FallbackToLogsOnError` the end of its log.
pub(super) fn of(container: Option<&Container>, file: &Path, log: &Path, code: i32) -> String {
    let said = end_of(file, MAX_MESSAGE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = said.unwrap_or_default();
    let policy = container.and_then(|c| c.termination_message_policy.as_deref());
    if said.is_empty() && code != 0 && policy == Some("FallbackToLogsOnError") {
        return log_tail(log).unwrap_or_default();
    }
    said
}

/// The bytes each container of a pod may say at most.
pub(super) fn share(spec: &PodSpec) -> usize {
    let of = |n: Option<usize>| n.unwrap_or(0);
    let count = spec.containers.len()
        + of(spec.init_containers.as_ref().map(Vec::len))
        + of(spec.ephemeral_containers.as_ref().map(Vec::len));
    MAX_POD / count.max(1)
}

/// Cuts a message to so many bytes, at a whole character.
pub(super) fn cut(message: &mut String, bytes: usize) {
    message.truncate(message.floor_char_boundary(bytes));
}

/// The last bytes of a file.
fn end_of(file: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    // The container may still write.
    file.take(bytes).read_to_end(&mut end)?;
    Ok(end)
}

fn log_tail(log: &Path) -> std::io::Result<String> {
    // CRI's prefix of each line is not counted against the limit.
    let bytes = end_of(log, MAX_LOG_BYTES as u64 * 4)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut tail = String::new();
    for line in &lines[lines.len().saturating_sub(MAX_LOG_LINES)..] {
        // The first one may have lost its beginning.
        let mut parts = line.splitn(4, ' ').skip(2);
        let (Some(tag), Some(said)) = (parts.next(), parts.next()) else { continue };
        tail.push_str(said);
        if tag.starts_with('F') {
            tail.push('\n');
        }
    }
    let excess = tail.len().saturating_sub(MAX_LOG_BYTES);
    Ok(tail.split_off(tail.ceil_char_boundary(excess)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_wins_and_the_log_is_the_fallback() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, log) = (directory.path().join("m"), directory.path().join("l"));
        std::fs::write(&file, "").expect("written");
        std::fs::write(&log, "2026-01-01T00:00:00Z stderr F one\n2026-01-01T00:00:01Z stdout F two x\n")
            .expect("written");
        let fallback = Container {
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            ..Container::default()
        };
        assert_eq!(of(Some(&fallback), &file, &log, 1), "one\ntwo x\n");
        assert_eq!(of(Some(&fallback), &file, &log, 0), "", "no error, no fallback");
        assert_eq!(of(Some(&Container::default()), &file, &log, 1), "");
        std::fs::write(&file, "said").expect("written");
        assert_eq!(of(Some(&fallback), &file, &log, 1), "said");
        std::fs::write(&log, format!("t s F {}\n", "ü".repeat(3000))).expect("written");
        std::fs::remove_file(&file).expect("removed");
        assert!(of(Some(&fallback), &file, &log, 1).len() <= 2048);
    }
    #[test]
    fn ends_count_and_parts_of_lines_are_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, log) = (directory.path().join("m"), directory.path().join("l"));
        std::fs::write(&file, format!("{}end", "x".repeat(5000))).expect("written");
        let said = of(None, &file, &log, 0);
        assert!(said.len() == 4096 && said.ends_with("xend"), "{}", said.len());
        std::fs::remove_file(&file).expect("removed");
        let fallback = Container {
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            ..Container::default()
        };
        let many: String = (0..100).map(|n| format!("t stdout F {n}\n")).collect();
        std::fs::write(&log, many).expect("written");
        let said = of(Some(&fallback), &file, &log, 1);
        assert_eq!((said.lines().count(), said.lines().next()), (80, Some("20")));
        std::fs::write(&log, "t stdout P one\nt stdout F  two\nt stderr F three\n").expect("written");
        assert_eq!(of(Some(&fallback), &file, &log, 1), "one two\nthree\n");
    }

    #[test]
    fn containers_share_a_pods_limit() {
        let spec = |n| PodSpec { containers: vec![Container::default(); n], ..PodSpec::default() };
        assert_eq!([0, 1, 2, 10].map(|n| share(&spec(n))), [12288, 12288, 6144, 1228]);
        let mut said = "aüb".to_owned();
        cut(&mut said, 2);
        assert_eq!(said, "a");
    }
}
