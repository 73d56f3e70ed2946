//! Bootstrap tokens: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.
//!
//! `abcdef.0123456789abcdef` is good while the Secret `bootstrap-token-abcdef` of kube-system says so. Its
//! holder is `system:bootstrap:abcdef` of the group `system:bootstrappers`, and may do little: ask for a
//! node's certificate.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::Meta;
use crate::api::meta::parse_time;
use crate::server::auth::user::User;
use crate::server::reader::Reader;

/// The type of Secrets that hold bootstrap tokens.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What precedes the token's id in the name of its Secret.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
const NAMESPACE: &str = "kube-system";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";

/// Why a bootstrap token is not good. The client only learns that it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no Secret for it.
    #[error("there is no Secret {SECRET_PREFIX}{0} in {NAMESPACE}")]
    Unknown(String),
    /// The Secret does not let it in.
    #[error("Secret {NAMESPACE}/{SECRET_PREFIX}{id} matching the bearer token {why}")]
    Secret {
        /// The token's id.
        id: String,
        /// What is wrong with the Secret.
        why: &'static str,
    },
}

/// The id and the secret of a text that looks like a bootstrap token.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let ok = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    token.split_once('.').filter(|(id, secret)| ok(id, 6) && ok(secret, 16))
}

/// Whose token this is.
///
/// # Errors
/// [`Refused`].
pub fn user(reader: &dyn Reader, id: &str, secret: &str, now: SystemTime) -> Result<User, Refused> {
    let name = format!("{SECRET_PREFIX}{id}");
    let object =
        reader.get("secrets", Some(NAMESPACE), &name).ok_or_else(|| Refused::Unknown(id.to_owned()))?.value();
    let refuse = |why| Err(Refused::Secret { id: id.to_owned(), why });
    if Meta::of(&object).deletion_timestamp().is_some() {
        return refuse("is deleted and awaiting removal");
    }
    if object["type"].as_str() != Some(SECRET_TYPE) {
        return refuse("has another type than bootstrap.kubernetes.io/token");
    }
    if !same(&datum(&object, "token-secret"), secret) {
        return refuse("has another token-secret");
    }
    if datum(&object, "token-id") != id {
        return refuse("has another token-id");
    }
    if expired(&object, now) {
        return refuse("has expired");
    }
    if datum(&object, "usage-bootstrap-authentication") != "true" {
        return refuse("is not marked usage-bootstrap-authentication=true");
    }
    let Some(groups) = groups(&datum(&object, "auth-extra-groups")) else {
        return refuse("has auth-extra-groups that do not all begin with system:bootstrappers:");
    };
    Ok(User { name: format!("{USER_PREFIX}{id}"), groups, ..User::default() })
}

fn datum(secret: &Value, key: &str) -> String {
    let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Equal; takes the same time whether they differ early or late.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// A time that cannot be read counts as over.
fn expired(secret: &Value, now: SystemTime) -> bool {
    let text = datum(secret, "expiration");
    !text.is_empty() && parse_time(&text).is_none_or(|at| SystemTime::from(at) <= now)
}

/// The user's groups; `None` if an extra one is none of bootstrappers'.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut groups = vec![GROUP.to_owned()];
    for group in extra.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        if !is_bootstrap_group(group) {
            return None;
        }
        if !groups.iter().any(|g| g == group) {
            groups.push(group.to_owned());
        }
    }
    groups.sort();
    Some(groups)
}

/// `system:bootstrappers:` and then letters, digits, colons and dashes, ending with a letter or digit.
fn is_bootstrap_group(group: &str) -> bool {
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 255
        && rest.bytes().all(|b| alphanumeric(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::json;
    use std::time::Duration;

    const ID: &str = "abcdef";
    const SECRET: &str = "0123456789abcdef";

    fn secret(change: &[(&str, &str)]) -> Value {
        let mut data = vec![
            ("token-id", ID),
            ("token-secret", SECRET),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a"),
        ];
        data.retain(|(key, _)| !change.iter().any(|(k, _)| k == key));
        data.extend(change);
        let data: serde_json::Map<String, Value> =
            data.into_iter().map(|(k, v)| (k.to_owned(), json!(STANDARD.encode(v)))).collect();
        json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": NAMESPACE},
            "type": SECRET_TYPE, "data": data})
    }

    fn ask(object: Value, secret: &str) -> Result<User, String> {
        let fake = Fake::default();
        fake.put("secrets", object);
        user(&fake, ID, secret, SystemTime::now()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_token_has_six_and_sixteen_small_letters_or_digits() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some((ID, SECRET)));
        for text in
            ["", "abcdef", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn its_holder_is_named_by_its_id_and_has_its_groups() {
        let user = ask(secret(&[]), SECRET).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b"]);
    }

    #[test]
    fn it_is_good_only_while_its_secret_says_so() {
        let at = |seconds: i64| {
            let (now, by) = (jiff::Timestamp::now(), Duration::from_secs(seconds.unsigned_abs()));
            crate::api::meta::time(if seconds < 0 { now - by } else { now + by })
        };
        assert!(ask(secret(&[("expiration", &at(60))]), SECRET).is_ok());
        let mut opaque = secret(&[]);
        opaque["type"] = json!("Opaque");
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = json!(crate::api::meta::now());
        for (object, given, why) in [
            (secret(&[]), "0123456789abcdeX", "another token-secret"),
            (secret(&[("expiration", &at(-60))]), SECRET, "has expired"),
            (secret(&[("expiration", "tomorrow")]), SECRET, "has expired"),
            (secret(&[("token-id", "fedcba")]), SECRET, "another token-id"),
            (secret(&[("usage-bootstrap-authentication", "false")]), SECRET, "is not marked"),
            (secret(&[("auth-extra-groups", "system:masters")]), SECRET, "auth-extra-groups"),
            (opaque, SECRET, "another type"),
            (going, SECRET, "awaiting removal"),
        ] {
            let refused = ask(object, given).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let none = user(&Fake::default(), ID, SECRET, SystemTime::now()).unwrap_err();
        assert_eq!(none, Refused::Unknown(ID.to_owned()));
    }
}
