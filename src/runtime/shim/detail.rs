//! Why libcontainer failed. Its errors name only the step; the cause is an event that the process in which
//! it happened logs first.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::runtime::error::Error;
use crate::runtime::paths::SandboxDir;

/// A failure logs less than this, in bytes.
const MOST: u64 = 64 * 1024;

/// The place in the shim's log where an attempt began.
pub struct Attempt {
    log: PathBuf,
    from: u64,
}

impl Attempt {
    /// Begins now.
    pub fn begin(dir: &SandboxDir) -> Self {
        let log = dir.log();
        let from = fs::metadata(&log).map_or(0, |m| m.len());
        Self { log, from }
    }

    /// The attempt's error with its cause, if one was logged.
    pub fn explain(&self, error: Error) -> Error {
        match error {
            Error::Start(text) => match self.logged().as_deref().and_then(first_cause) {
                Some(cause) if !text.contains(&cause) => Error::Start(format!("{text}: {cause}")),
                _ => Error::Start(text),
            },
            other => other,
        }
    }

    fn logged(&self) -> Option<String> {
        let mut file = File::open(&self.log).ok()?;
        // A log that became too long began anew.
        let from = if file.metadata().ok()?.len() < self.from { 0 } else { self.from };
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The first error of a piece of log, which is the innermost one.
fn first_cause(log: &str) -> Option<String> {
    let line = log.lines().find_map(|l| l.split_once(" ERROR libcontainer::"))?.1;
    let (_, message) = line.split_once(": ")?;
    Some(mount_failure(message).unwrap_or_else(|| message.to_owned()))
}

/// A mount that failed, in the words other runtimes have for it.
fn mount_failure(message: &str) -> Option<String> {
    let (mount, why) = message.strip_prefix("failed to mount Mount {")?.split_once(" }: ")?;
    let field = |name: &str| mount.split_once(name)?.1.split_once('"').map(|(value, _)| value);
    let (target, source) = (field("destination: \"")?, field("source: Some(\"").unwrap_or_default());
    let why = match why {
        why if why.ends_with("with O_DIRECTORY") => {
            "not a directory: is a directory mounted onto a file, or a file onto a directory? Check that the \
             source exists and is of the expected type"
        }
        why => why,
    };
    Some(format!("error mounting {source:?} to rootfs at {target:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const FAILURE: &str = "2026-01-01T00:00:00Z  WARN kedge::runtime::shim: something else\n\
        2026-01-01T00:00:00Z ERROR libcontainer::rootfs::mount: failed to mount Mount { destination: \"/etc/passwd\", \
        typ: Some(\"bind\"), source: Some(\"/data/e\"), options: Some([\"rbind\"]), uid_mappings: None }: \
        cannot re-open [16]<\"/run/rootfs/etc/passwd\"> with O_DIRECTORY\n\
        2026-01-01T00:00:00Z ERROR libcontainer::process::init::process: failed to prepare rootfs err=Mount(X)\n";

    #[test]
    fn the_cause_is_what_was_logged_first_since_the_attempt_began() {
        let directory = tempfile::tempdir().unwrap();
        let dir = SandboxDir(directory.path().to_owned());
        fs::write(dir.log(), "2026-01-01T00:00:00Z ERROR libcontainer::x: of a former attempt\n").unwrap();
        let attempt = Attempt::begin(&dir);
        let step = || Error::Start("failed to prepare rootfs".into());
        assert_eq!(attempt.explain(step()).to_string(), "failed to prepare rootfs");
        let mut log = fs::OpenOptions::new().append(true).open(dir.log()).unwrap();
        log.write_all(FAILURE.as_bytes()).unwrap();
        assert_eq!(
            attempt.explain(step()).to_string(),
            "failed to prepare rootfs: error mounting \"/data/e\" to rootfs at \"/etc/passwd\": not a directory: is a \
             directory mounted onto a file, or a file onto a directory? Check that the source exists and is of the \
             expected type"
        );
        let other = attempt.explain(Error::Other("x".into()));
        assert_eq!(other.to_string(), "x", "only libcontainer's own");
        fs::write(dir.log(), "t ERROR libcontainer::y: begun anew err=1\n").unwrap();
        assert_eq!(attempt.explain(step()).to_string(), "failed to prepare rootfs: begun anew err=1");
    }

    #[test]
    fn other_failures_of_mounts_keep_their_words() {
        let line = "t ERROR libcontainer::rootfs::mount: failed to mount Mount { destination: \"/m\", typ: Some(\"tmpfs\"), \
            source: None }: EPERM: Operation not permitted\n";
        let told = "error mounting \"\" to rootfs at \"/m\": EPERM: Operation not permitted";
        assert_eq!(first_cause(line).as_deref(), Some(told));
        assert_eq!(first_cause("nothing\n"), None);
    }
}
