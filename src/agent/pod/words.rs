//! A container's last words: its termination message, by path and policy.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::Container;

/// Limits of kubelet.
const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_BYTES: u64 = 2048;
const MAX_LOG_LINES: usize = 80;

/// What the container left in its termination log, or with `FallbackToLogsOnError` the end of its log.
pub(super) fn of(container: Option<&Container>, file: &Path, log: &Path, code: i32) -> String {
    let mut said = String::new();
    if let Ok(opened) = File::open(file) {
        let mut bytes = Vec::new();
        let _ = opened.take(MAX_MESSAGE).read_to_end(&mut bytes);
        said = String::from_utf8_lossy(&bytes).into_owned();
    }
    let policy = container.and_then(|c| c.termination_message_policy.as_deref());
    if said.is_empty() && code != 0 && policy == Some("FallbackToLogsOnError") {
        said = log_tail(log).unwrap_or_default();
    }
    said
}

fn log_tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    // CRI's prefix of each line is not counted against the limit.
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG_BYTES * 4)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut tail = lines[lines.len().saturating_sub(MAX_LOG_LINES)..].join("\n");
    if !tail.is_empty() {
        tail.push('\n');
    }
    let excess = tail.len().saturating_sub(usize::try_from(MAX_LOG_BYTES).unwrap_or(usize::MAX));
    let start = (excess..tail.len()).find(|i| tail.is_char_boundary(*i)).unwrap_or(0);
    Ok(tail[start..].to_owned())
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
}
