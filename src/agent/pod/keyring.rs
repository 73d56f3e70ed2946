//! Credentials of pull secrets, and for which images they are: kubelet's `credentialprovider` keyring.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::agent::images::{Credential, SecretKey};
use crate::runtime::spec::RegistryAuth;

/// The Hub's place among credentials.
const HUB: &str = "index.docker.io";

#[derive(Deserialize)]
struct DockerConfigJson {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// Credentials by registry, with or without a path.
#[derive(Debug, Default)]
pub(super) struct Keyring(BTreeMap<String, Vec<Credential>>);

impl Keyring {
    /// Adds a secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`; any other,
    /// and one that cannot be read, has none.
    pub(super) fn add(&mut self, secret: &Secret) {
        let data = |key: &str| secret.data.as_ref()?.get(key).map(|v| v.0.as_slice());
        let entries = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
                .and_then(|bytes| serde_json::from_slice::<DockerConfigJson>(bytes).ok())
                .map(|config| config.auths),
            Some("kubernetes.io/dockercfg") => {
                data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok())
            }
            _ => None,
        };
        let metadata = &secret.metadata;
        let [uid, namespace, name] =
            [&metadata.uid, &metadata.namespace, &metadata.name].map(|text| text.clone().unwrap_or_default());
        let source = SecretKey { uid, namespace, name };
        for (location, entry) in entries.unwrap_or_default() {
            if let (Some(key), Some(auth)) = (key(&location), entry.credentials()) {
                self.0.entry(key).or_default().push(Credential { auth, secret: source.clone() });
            }
        }
    }

    /// What fits an image, the most specific first. `repository` is its full name without a tag.
    pub(super) fn lookup(&self, repository: &str) -> Vec<Credential> {
        let fitting = self.0.iter().rev().filter(|(key, _)| fits(key, repository));
        let found: Vec<Credential> = fitting.flat_map(|(_, all)| all.clone()).collect();
        match found.is_empty() && repository.starts_with("docker.io/") {
            true => self.0.get(HUB).cloned().unwrap_or_default(),
            false => found,
        }
    }
}

impl Entry {
    fn credentials(self) -> Option<RegistryAuth> {
        if self.auth.is_empty() {
            return Some(RegistryAuth { username: self.username, password: self.password });
        }
        let decoded = match self.auth.ends_with('=') {
            true => STANDARD.decode(&self.auth),
            false => STANDARD_NO_PAD.decode(&self.auth),
        };
        let text = String::from_utf8(decoded.ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(RegistryAuth { username: username.to_owned(), password: password.to_owned() })
    }
}

/// Host and path of a location. `/v1/` and `/v2/` before the path mean nothing.
fn key(location: &str) -> Option<String> {
    let rest = ["https://", "http://"].iter().find_map(|s| location.strip_prefix(s)).unwrap_or(location);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path);
    match (host, path) {
        ("", _) => None,
        (host, "") => Some(host.to_owned()),
        (host, path) => Some(format!("{host}/{path}")),
    }
}

/// Whether the credentials of `key` are for this repository: the port is the same, each part of the host
/// matches, and the path begins the same.
fn fits(key: &str, repository: &str) -> bool {
    let split = |text: &str| {
        let (authority, path) = text.split_once('/').map_or((text, ""), |(a, p)| (a, p));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((glob, glob_port, glob_path), (host, port, path)) = (split(key), split(repository));
    let (globs, parts): (Vec<_>, Vec<_>) = (glob.split('.').collect(), host.split('.').collect());
    glob_port == port
        && globs.len() == parts.len()
        && path.starts_with(&glob_path)
        && globs.iter().zip(&parts).all(|(glob, part)| matches(glob.as_bytes(), part.as_bytes()))
}

/// Whether a text matches a pattern as Go's `path.Match` has it: `*` is any text, `?` any character, `[a-z]` and
/// `[^a-z]` are characters of a range or not, and a backslash takes its meaning from what follows.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, text) => true,
        (Some((b'*', _)), Some((_, text))) => matches(pattern, text),
        (Some((b'[', class)), Some((t, text))) => in_class(class, *t).is_some_and(|rest| matches(rest, text)),
        (Some((b'\\', [p, pattern @ ..])), Some((t, text))) => p == t && matches(pattern, text),
        (Some((p, pattern)), Some((t, text))) => (p == t || *p == b'?') && matches(pattern, text),
        _ => false,
    }
}

/// What follows a class of characters, of which `pattern` is what comes after the bracket, if it has the
/// character; `None` also if it has no end.
fn in_class(pattern: &[u8], character: u8) -> Option<&[u8]> {
    let (is_negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut is_in = false;
    loop {
        let (low, after) = match rest {
            [b'\\', c, after @ ..] => (*c, after),
            [c, after @ ..] => (*c, after),
            [] => return None,
        };
        let (high, after) = match after {
            [b'-', b'\\', c, after @ ..] | [b'-', c, after @ ..] if *c != b']' => (*c, after),
            after => (low, after),
        };
        is_in |= (low..=high).contains(&character);
        rest = after;
        if let [b']', rest @ ..] = rest {
            return (is_in != is_negated).then_some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    use super::*;

    fn secret(kind: &str, key: &str, value: &Value) -> Secret {
        Secret {
            type_: Some(format!("kubernetes.io/{kind}")),
            data: Some([(key.to_owned(), ByteString(value.to_string().into_bytes()))].into()),
            ..Secret::default()
        }
    }

    fn keyring(auths: &Value) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add(&secret("dockerconfigjson", ".dockerconfigjson", &json!({ "auths": auths })));
        keyring
    }

    #[test]
    fn credentials_fit_by_host_port_path_and_pattern() {
        for (location, image, expected) in [
            ("https://index.docker.io/v1/", "docker.io/library/nginx", true),
            ("index.docker.io", "docker.io/team/app", true),
            ("https://index.docker.io/v1/", "ghcr.io/a/b", false),
            ("docker.io", "docker.io/library/nginx", true),
            ("r.example", "r.example/x", true),
            ("r.example", "r.example:5000/x", false),
            ("r.example:5000", "r.example:5000/x", true),
            ("https://r.example:5000/v2/", "r.example:5000/x", true),
            ("r.example/team", "r.example/team/x", true),
            ("r.example/team", "r.example/teamwork/x", true),
            ("r.example/team", "r.example/other/x", false),
            ("*.example", "r.example/x", true),
            ("*.example", "a.r.example/x", false),
            ("*.*.example", "a.r.example/x", true),
            ("r*.example", "reg.example/x", true),
            ("r?.example", "reg.example/x", false),
            ("*.example:5000", "r.example:5001/x", false),
            ("reg[0-9].example", "reg7.example/x", true),
            ("reg[^0-9].example", "reg7.example/x", false),
            ("reg[ab-d].example", "regc.example/x", true),
            ("reg[ab-d].example", "rege.example/x", false),
            ("reg[a.example", "rega.example/x", false),
            ("r\\*.example", "reg.example/x", false),
            ("", "docker.io/library/nginx", false),
        ] {
            let keyring = keyring(&json!({location: {"username": "u", "password": "p"}}));
            assert_eq!(!keyring.lookup(image).is_empty(), expected, "{location} {image}");
        }
    }

    #[test]
    fn the_most_specific_come_first_and_all_of_one_place_stay() {
        let mut keyring = keyring(&json!({
            "r.example": {"username": "host", "password": "x"},
            "r.example/team": {"username": "team", "password": "x"}}));
        let old = json!({"r.example": {"username": "old", "password": "x"}});
        keyring.add(&secret("dockercfg", ".dockercfg", &old));
        let users: Vec<_> = keyring.lookup("r.example/team/x").into_iter().map(|c| c.auth.username).collect();
        assert_eq!(users, ["team", "host", "old"]);
    }

    #[test]
    fn the_auth_field_counts_more_and_secrets_of_other_kinds_nothing() {
        let found = |entry: Value| {
            keyring(&json!({ "r.example": entry })).lookup("r.example/x").pop().map(|c| c.auth)
        };
        let pair = |username: &str, password: &str| {
            Some(RegistryAuth { username: username.into(), password: password.into() })
        };
        let auth = STANDARD.encode("u:p:q");
        assert_eq!(found(json!({"auth": auth, "username": "x"})), pair("u", "p:q"));
        assert_eq!(found(json!({"auth": STANDARD_NO_PAD.encode("u:pp")})), pair("u", "pp"));
        assert_eq!(found(json!({"username": "a", "password": "b"})), pair("a", "b"));
        assert_eq!(found(json!({"auth": "%"})), None);
        assert_eq!(found(json!({"auth": STANDARD.encode("none")})), None);
        let mut keyring = Keyring::default();
        let value = json!({"auths": {"r.example": {"username": "u", "password": "p"}}});
        keyring.add(&secret("Opaque", ".dockerconfigjson", &value));
        keyring.add(&secret("dockerconfigjson", ".dockerconfigjson", &json!("nonsense")));
        assert!(keyring.lookup("r.example/x").is_empty());
    }
}
