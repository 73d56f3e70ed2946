//! The token a node joins with, in k3s's secure format: <https://docs.k3s.io/cli/token>.
//!
//! `K10<sha256 of the server CA's certificate>::server:<password>`. The hash lets the joining node verify
//! the server before it tells it the password. It is no credential of the API.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::pki::{self, files};

const PREFIX: &str = "K10";
/// Bytes of a password the server chooses.
const RANDOM: usize = 16;

/// Why a token is not one, or not the right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has another shape.
    #[error(
        "the token is malformed: {0}; it looks like K10<64 hexadecimal digits>::server:<password>, \
         and the server keeps it in DATA/server/token"
    )]
    Malformed(&'static str),
    /// It is of another cluster.
    #[error("the token is of another cluster: its CA hash is {expected}, the server's CA has {actual}")]
    OtherCluster {
        /// The hash in the token.
        expected: String,
        /// The hash of the CA the server shows.
        actual: String,
    },
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server CA's PEM, hexadecimal; empty in a short token, which is only a password.
    pub ca_hash: String,
    /// Who joins: `server`, or `node`.
    pub username: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("ca_hash", &self.ca_hash)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}::{}:{}", self.ca_hash, self.username, self.password)
    }
}

/// SHA-256 of a CA's PEM text, as tokens have it.
pub fn ca_hash(ca_pem: &str) -> String {
    hex::encode(Sha256::digest(ca_pem.as_bytes()))
}

impl JoinToken {
    /// Reads a token, in the secure form or as a bare password.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return match text {
                "" => Err(Error::Malformed("it is empty")),
                _ if text.contains("::") => Err(Error::Malformed("it does not begin with K10")),
                _ => Ok(Self {
                    ca_hash: String::new(),
                    username: "server".to_owned(),
                    password: text.to_owned(),
                }),
            };
        };
        let (hash, credentials) = rest.split_once("::").ok_or(Error::Malformed("it has no '::'"))?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Malformed("what follows K10 is not 64 hexadecimal digits"));
        }
        let (username, password) = credentials
            .split_once(':')
            .ok_or(Error::Malformed("it has no user name and password after '::'"))?;
        if username.is_empty() || password.is_empty() {
            return Err(Error::Malformed("its user name or password is empty"));
        }
        Ok(Self {
            ca_hash: hash.to_ascii_lowercase(),
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The token is of the cluster with this CA. A short token is of any.
    ///
    /// # Errors
    /// [`Error::OtherCluster`].
    pub fn verify_ca(&self, ca_pem: &str) -> Result<(), Error> {
        let actual = ca_hash(ca_pem);
        if self.ca_hash.is_empty() || self.ca_hash == actual {
            return Ok(());
        }
        Err(Error::OtherCluster { expected: self.ca_hash.clone(), actual })
    }

    /// The passwords are equal; takes the same time whether they differ early or late.
    pub fn same_password(&self, other: &str) -> bool {
        let digests = (Sha256::digest(&self.password), Sha256::digest(other));
        digests.0.iter().zip(digests.1.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// The server's token at `path`: the one that is there, or one with the user's or a random password. A
/// password the user chose replaces another.
///
/// # Errors
/// The file cannot be read or written.
pub fn ensure(path: &Path, ca_pem: &str, chosen: Option<&str>) -> Result<JoinToken, pki::Error> {
    let stored = files::read(path).map_err(pki::Error::io("read", path))?;
    let known = stored.as_deref().and_then(|text| JoinToken::parse(text).ok());
    let password = match (chosen, known) {
        (Some(chosen), _) => {
            JoinToken::parse(chosen).map(|t| t.password).unwrap_or_else(|_| chosen.to_owned())
        }
        (None, Some(known)) => known.password,
        (None, None) => hex::encode(rand::random::<[u8; RANDOM]>()),
    };
    let token = JoinToken { ca_hash: ca_hash(ca_pem), username: "server".to_owned(), password };
    let text = format!("{token}\n");
    if stored.as_deref() != Some(text.as_str()) {
        files::write_private(path, text.as_bytes()).map_err(pki::Error::io("write", path))?;
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_servers_token_stays_until_the_user_chooses_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let first = ensure(&path, "ca", None).unwrap();
        assert_eq!(first.password.len(), 32);
        assert_eq!(ensure(&path, "ca", None).unwrap(), first);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(JoinToken::parse(&text).unwrap(), first);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let chosen = ensure(&path, "ca", Some("my secret")).unwrap();
        assert_eq!(chosen.password, "my secret");
        assert_eq!(ensure(&path, "ca", None).unwrap(), chosen);
        assert_eq!(ensure(&path, "ca", Some(&chosen.to_string())).unwrap(), chosen);
    }

    #[test]
    fn a_token_of_another_cluster_is_told() {
        let token = JoinToken { ca_hash: ca_hash("ca"), username: "server".into(), password: "x".into() };
        token.verify_ca("ca").unwrap();
        assert!(token.verify_ca("other").unwrap_err().to_string().contains("another cluster"));
        assert!(JoinToken::parse("secret").unwrap().verify_ca("any").is_ok());
        assert!(token.same_password("x") && !token.same_password("y") && !token.same_password(""));
    }

    #[test]
    fn what_is_no_token_is_told_why() {
        let hash = "a".repeat(64);
        for (text, why) in [
            ("", "empty"),
            ("K10abc::server:x", "64 hexadecimal"),
            (&format!("K10{hash}"), "no '::'"),
            (&format!("K10{hash}::server"), "user name and password"),
            (&format!("K10{hash}::server:"), "is empty"),
            (&format!("K11{hash}::server:x"), "does not begin with K10"),
        ] {
            let error = JoinToken::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
