//! Static tokens in a file:
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file>.
//!
//! CSV (RFC 4180): token, user name, user uid, and if wanted groups, as one quoted column with commas.
//! The file is read once, at start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::server::auth::user::User;

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("token file {}: {source}; see --kube-apiserver-arg=token-auth-file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is not what it must be.
    #[error(
        "token file {}, line {line}: {problem}; each line is token,user name,user uid and, if wanted, \
         \"group1,group2\"",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Users by the SHA-256 of their tokens: looking one up takes the same time whatever is guessed.
#[derive(Debug, Default)]
pub struct TokenFile(HashMap<[u8; 32], User>);

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let fail = |problem: String| Error::Line { path: path.to_owned(), line: line_number, problem };
            if line.trim().is_empty() {
                continue;
            }
            let columns = columns(line).map_err(fail)?;
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                let found = columns.len();
                return Err(fail(format!(
                    "must have at least 3 columns (token, user name, user uid), found {found}"
                )));
            };
            if token.is_empty() {
                tracing::warn!(file = %path.display(), line = line_number, "a token is empty: ignored");
                continue;
            }
            let groups = rest.first().map(|g| g.split(',').map(str::to_owned).collect()).unwrap_or_default();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            if users.insert(Sha256::digest(token).into(), user).is_some() {
                tracing::warn!(file = %path.display(), line = line_number, "a token comes twice: the last counts");
            }
        }
        Ok(Self(users))
    }

    /// Whose token this is, if it is in the file.
    pub fn user(&self, token: &str) -> Option<&User> {
        self.0.get::<[u8; 32]>(&Sha256::digest(token).into())
    }
}

/// The columns of a line of CSV.
fn columns(line: &str) -> Result<Vec<String>, String> {
    let mut columns = Vec::new();
    let mut rest = line;
    loop {
        let (column, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_column(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote stands inside a column that does not begin with one".to_owned());
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        columns.push(column);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(columns),
        }
    }
}

/// A column after its opening quote, and what follows its closing one. Two quotes stand for one.
fn quoted_column(text: &str) -> Result<(String, &str), String> {
    let mut column = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        column.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                column.push('"');
                rest = after;
            }
            None if rest.is_empty() || rest.starts_with(',') => return Ok((column, rest)),
            None => return Err("text follows a closing quote".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TokenFile, String> {
        TokenFile::parse(Path::new("tokens.csv"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_line_is_a_user() {
        let file = parse("t1,jane,1\n\nt2,joe,2,\"dev,ops\"\n\"a,\"\"b\",x,3,one,ignored\n").unwrap();
        let jane = User { name: "jane".into(), uid: "1".into(), ..User::default() };
        assert_eq!(file.user("t1"), Some(&jane));
        assert_eq!(
            file.user("t2").map(|u| u.groups.as_slice()),
            Some(["dev".to_owned(), "ops".to_owned()].as_slice())
        );
        assert_eq!(file.user("a,\"b").map(|u| u.groups.as_slice()), Some(["one".to_owned()].as_slice()));
        assert_eq!(file.user("t3"), None);
        assert_eq!(parse(",nobody,1\n").unwrap().user(""), None, "an empty token is none");
    }

    #[test]
    fn a_wrong_line_is_told_with_its_number() {
        for (text, told) in [
            ("t,jane,1\nt,u\n", "line 2: must have at least 3 columns (token, user name, user uid), found 2"),
            ("\"t,jane,1\n", "line 1: a quote is not closed"),
            ("t,ja\"ne,1\n", "line 1: a quote stands inside"),
            ("\"t\"x,jane,1\n", "line 1: text follows a closing quote"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told) && error.contains("tokens.csv"), "{error}");
        }
        let missing = TokenFile::read(Path::new("/nowhere/tokens.csv")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/tokens.csv") && missing.contains("token-auth-file"), "{missing}");
    }
}
