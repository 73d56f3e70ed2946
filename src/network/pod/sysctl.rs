//! Kernel parameters of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::network::{Error, Result};

/// Makes `/proc/sys/net/<name>` have this value. Writes only if it differs, so that a read-only
/// `/proc/sys` that is right already is no error.
pub fn set(name: &str, value: &str) -> Result<()> {
    let path = PathBuf::from("/proc/sys/net").join(name);
    set_at(&path, value).map_err(|source| Error::File { path, source })
}

fn set_at(path: &Path, value: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == value {
        return Ok(());
    }
    fs::write(path, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn writes_only_what_differs() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("ip_forward");
        fs::write(&path, "0\n").expect("written");
        set_at(&path, "1").expect("set");
        assert_eq!(fs::read_to_string(&path).expect("there"), "1");
        let before = fs::metadata(&path).expect("there").modified().expect("known");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        set_at(&path, "1").expect("nothing to do");
        assert_eq!(fs::metadata(&path).expect("there").modified().expect("known"), before);
    }

    #[test]
    fn a_parameter_that_is_not_there_is_named() {
        let error = set("ipv4/no_such_parameter", "1").expect_err("missing");
        assert!(error.to_string().starts_with("/proc/sys/net/ipv4/no_such_parameter: "), "{error}");
    }
}
