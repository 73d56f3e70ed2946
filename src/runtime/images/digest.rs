//! Digests: always SHA-256, written `sha256:<hex>`.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::error::Error;

/// The digest of these bytes.
pub(super) fn of(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}

pub(super) fn finish(hasher: Sha256) -> String {
    format!("sha256:{}", hex::encode(hasher.finalize()))
}

/// An error if `bytes` are not what `expected` says. `what` is named in it.
pub(super) fn check(what: &str, expected: &str, bytes: &[u8]) -> Result<(), Error> {
    equal(what, expected, &of(bytes))
}

pub(super) fn equal(what: &str, expected: &str, found: &str) -> Result<(), Error> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
    }
}

/// An error unless this is a SHA-256 digest: it becomes part of paths.
pub(super) fn validate(name: &str, digest: &str) -> Result<(), Error> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match is_hex {
        true => Ok(()),
        false => Err(Error::invalid(name, format!("{digest:?} is not a sha256 digest"))),
    }
}

/// Names of stacks of layers, lowest first, as image-spec's config.md defines `ChainID`.
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chains
}

/// Hashes what is read through it.
pub(super) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// Reads what is left and answers the digest of everything.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(finish(self.hasher))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_name_stacks() {
        let ids = ["sha256:a".to_owned(), "sha256:b".to_owned()];
        let chains = chain_ids(&ids);
        assert_eq!(chains, ["sha256:a".to_owned(), of(b"sha256:a sha256:b")]);
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn what_could_leave_the_directory_is_no_digest() {
        assert!(validate("x", &of(b"")).is_ok());
        for bad in ["", "sha256:", "sha256:../../etc", "sha512:00", &of(b"").to_uppercase()] {
            assert!(validate("x", bad).is_err(), "{bad}");
        }
        assert!(matches!(check("x", &of(b"a"), b"b"), Err(Error::DigestMismatch { .. })));
    }

    #[test]
    fn the_reader_hashes_also_what_nobody_read() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap(), of(b"hello"));
    }
}
