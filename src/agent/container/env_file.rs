//! Variables from files of a volume (`fileKeyRef`): a subset of the shell's syntax, in which every value
//! stands between single quotes
//! (<https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/>).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The text of a file of a volume; links are resolved as if the volume were `/`.
pub(super) fn read(volume: &Path, path: &str) -> io::Result<String> {
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(root, path, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of `key`, if it is in the text; the error says what is wrong in which line.
pub(super) fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let blank = [' ', '\t'];
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(blank);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| Err(format!("invalid environment variable format at line {number}: {what}"));
        let Some((name, rest)) = line.split_once('=') else { return wrong("missing '='") };
        if name.trim_end_matches(blank).is_empty() {
            return wrong("empty variable name");
        }
        if name.ends_with(blank) {
            return wrong("whitespace before '=' is not allowed");
        }
        if rest.starts_with(blank) {
            // To a shell this is an assignment of nothing.
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let Some(mut rest) = rest.strip_prefix('\'') else {
            return wrong("value must be enclosed in single quotes");
        };
        let mut value = String::new();
        loop {
            if let Some((last, after)) = rest.split_once('\'') {
                value.push_str(last);
                let after = after.trim_start_matches(blank);
                if !after.is_empty() && !after.starts_with('#') {
                    return wrong("unexpected content after closing quote");
                }
                break;
            }
            value.push_str(rest);
            value.push('\n');
            match lines.next() {
                Some((_, line)) => rest = line,
                None => return wrong("unclosed single quote"),
            }
        }
        if name == key {
            return Ok(Some(value).filter(|v| !v.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_single_quotes() {
        let text = "# c\n\n  A='1'\nB='two\nlines # x' # comment\nC= 'x'\nD=''\nE='$A'\n";
        for (key, expected) in [
            ("A", Some("1")),
            ("B", Some("two\nlines # x")),
            ("C", None),
            ("D", None),
            ("E", Some("$A")),
            ("F", None),
        ] {
            assert_eq!(value(text, key), Ok(expected.map(str::to_owned)), "{key}");
        }
        for (text, problem) in [
            ("A", "1: missing '='"),
            ("\n='x'", "2: empty variable name"),
            ("A ='x'", "1: whitespace before '=' is not allowed"),
            ("A=x", "1: value must be enclosed in single quotes"),
            ("A='x'y", "1: unexpected content after closing quote"),
            ("A='x\ny", "1: unclosed single quote"),
        ] {
            let error = value(text, "Z").expect_err(text);
            assert_eq!(error, format!("invalid environment variable format at line {problem}"));
        }
    }

    #[test]
    fn files_are_read_inside_the_volume_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = directory.path().join("v");
        std::fs::create_dir(&volume).expect("made");
        std::fs::write(directory.path().join("secret"), "host").expect("written");
        std::fs::write(volume.join("secret"), "own").expect("written");
        std::os::unix::fs::symlink("/secret", volume.join("link")).expect("linked");
        std::os::unix::fs::symlink("../secret", volume.join("up")).expect("linked");
        for path in ["secret", "link", "up", "../secret"] {
            assert_eq!(read(&volume, path).expect("read"), "own", "{path}");
        }
        assert_eq!(read(&volume, "none").expect_err("missing").kind(), io::ErrorKind::NotFound);
        assert!(read(&volume, ".").is_err());
    }
}
