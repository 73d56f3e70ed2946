//! ConfigMaps and Secrets: `ValidateConfigMap`, `ValidateSecret`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::check::{Errors, IMMUTABLE, entries, is_empty, same, text};
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

/// The most bytes all values together may have.
const LARGEST: usize = 1024 * 1024;
const SEALED: &str = "field is immutable when `immutable` is set";

/// The strategy of ConfigMaps.
pub struct ConfigMapStrategy;

impl Strategy for ConfigMapStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        config_map(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = sealed(new, old, &["data", "binaryData"]);
        errors.extend(config_map(new));
        errors
    }
}

fn config_map(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        let path = Path::new("data").key(key);
        errors.invalid_all(&path, &key.into(), names::config_map_key(key));
        if object["binaryData"].get(key).is_some() {
            errors.push(FieldError::invalid(&path, key, "duplicate of key present in binaryData"));
        }
        size += text(value).len();
    }
    for (key, value) in entries(&object["binaryData"]) {
        errors.invalid_all(&Path::new("binaryData").key(key), &key.into(), names::config_map_key(key));
        size += decoded_len(text(value));
    }
    too_large(size, "[]", &mut errors);
    errors.0
}

fn too_large(size: usize, path: &str, errors: &mut Errors) {
    if size > LARGEST {
        errors.push(FieldError::too_long(&Path::new(path), LARGEST));
    }
}

fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// What once was sealed stays as it is.
fn sealed(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if new["immutable"] != true {
        errors.push(FieldError::forbidden(&Path::new("immutable"), SEALED));
    }
    for field in fields.iter().filter(|f| !same(&new[**f], &old[**f])) {
        errors.push(FieldError::forbidden(&Path::new(field), SEALED));
    }
    errors
}

/// The strategy of Secrets. `stringData` is merged into `data` where defaults are filled in.
pub struct SecretStrategy;

impl Strategy for SecretStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        decode(object)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        secret(object)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        if is_empty(&new["type"]) {
            new["type"] = old["type"].clone();
        }
        decode(new)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if new["type"] != old["type"] {
            errors.push(FieldError::invalid(&Path::new("type"), new["type"].clone(), IMMUTABLE));
        }
        errors.extend(sealed(new, old, &["data"]));
        errors.extend(secret(new));
        errors
    }
}

/// Values must be base64; how they are wrapped or padded is made canonical.
fn decode(object: &mut Value) -> Result<(), Status> {
    for value in
        object.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut())
    {
        let given: String = text(value).chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        let bytes = STANDARD.decode(&given).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => given.len(),
            };
            let why = format!("illegal base64 data at input byte {at}");
            Status::bad_request(format!("Secret in version \"v1\" cannot be handled as a Secret: {why}"))
        })?;
        *value = json!(STANDARD.encode(bytes));
    }
    Ok(())
}

fn secret(object: &Value) -> Vec<FieldError> {
    let (data, path) = (&object["data"], Path::new("data"));
    let mut errors = Errors::default();
    let mut size = 0;
    for (key, value) in entries(data) {
        errors.invalid_all(&path.key(key), &key.into(), names::config_map_key(key));
        size += decoded_len(text(value));
    }
    too_large(size, "data", &mut errors);
    let need = |keys: &[&str], errors: &mut Errors| {
        for key in keys.iter().filter(|k| data.get(**k).is_none()) {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if Meta::of(object).annotation(ACCOUNT).is_none_or(str::is_empty) {
                let path = Path::new("metadata").child("annotations").key(ACCOUNT);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => docker(data, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => docker(data, ".dockerconfigjson", &mut errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            need(&["username", "password"], &mut errors);
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").is_none_or(is_empty) => {
            errors.push(FieldError::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"], &mut errors),
        _ => {}
    }
    errors.0
}

/// Credentials of registries are JSON.
fn docker(data: &Value, key: &str, errors: &mut Errors) {
    let path = Path::new("data").key(key);
    let Some(value) = data.get(key) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let why = STANDARD.decode(text(value)).ok().and_then(|bytes| not_an_object(&bytes));
    errors.0.extend(why.map(|why| FieldError::invalid(&path, "<secret contents redacted>", why)));
}

/// Why bytes are no JSON object, in the words of Go's decoder where it has one way to say it.
fn not_an_object(bytes: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_) | Value::Null) => None,
        Ok(other) => {
            let kind = match other {
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
        }
        Err(error) if error.is_eof() => Some("unexpected end of JSON input".to_owned()),
        Err(error) => {
            let first = bytes.iter().find(|b| !b.is_ascii_whitespace()).copied().unwrap_or_default();
            let starts = b"{[\"-0123456789tfn".contains(&first);
            Some(if starts {
                error.to_string()
            } else {
                format!("invalid character {:?} looking for beginning of value", char::from(first))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context {
            user: &User::loopback(),
            namespace: Some("a"),
            reader: &Fake::default(),
            dry_run: false,
        })
    }

    fn created(strategy: &dyn Strategy, mut object: Value) -> Vec<String> {
        with(|cx| match strategy.prepare_create(cx, &mut object) {
            Ok(()) => strategy.validate_create(cx, &object).iter().map(ToString::to_string).collect(),
            Err(status) => vec![status.message],
        })
    }

    fn updated(strategy: &dyn Strategy, new: Value, old: Value) -> Vec<String> {
        with(|cx| strategy.validate_update(cx, &new, &old)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_and_sizes_of_config_maps() {
        assert_eq!(created(&ConfigMapStrategy, json!({"data": {"a.conf": "x"}})), [] as [&str; 0]);
        let bad = created(&ConfigMapStrategy, json!({"data": {"a b": "x"}}));
        assert!(
            bad[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"),
            "{bad:?}"
        );
        let twice = created(&ConfigMapStrategy, json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}));
        assert_eq!(twice, ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]);
        let large = created(&ConfigMapStrategy, json!({"data": {"a": "x".repeat(LARGEST + 1)}}));
        assert_eq!(large, ["[]: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn what_is_immutable_stays() {
        let old = json!({"immutable": true, "data": {"a": "x"}});
        assert_eq!(updated(&ConfigMapStrategy, old.clone(), old.clone()), [] as [&str; 0]);
        assert_eq!(
            updated(&ConfigMapStrategy, json!({"data": {"a": "y"}}), old),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
        let secret = json!({"type": "Opaque"});
        assert_eq!(
            updated(
                &SecretStrategy,
                json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": "eA=="}}),
                secret
            ),
            ["type: Invalid value: \"kubernetes.io/ssh-auth\": field is immutable"]
        );
    }

    #[test]
    fn secrets_have_what_their_type_needs() {
        let tls = created(&SecretStrategy, json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}));
        assert_eq!(tls, ["data[tls.key]: Required value"]);
        let basic = created(&SecretStrategy, json!({"type": "kubernetes.io/basic-auth"}));
        assert_eq!(basic, ["data[username]: Required value", "data[password]: Required value"]);
        let docker = created(
            &SecretStrategy,
            json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
        );
        assert_eq!(
            docker,
            [
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of value"
            ]
        );
        let account = created(&SecretStrategy, json!({"type": "kubernetes.io/service-account-token"}));
        assert_eq!(account, ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]);
        let garbage = created(&SecretStrategy, json!({"type": "Opaque", "data": {"a": "a!b="}}));
        assert_eq!(
            garbage,
            ["Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 1"]
        );
    }

    #[test]
    fn base64_is_made_canonical() {
        let mut secret = json!({"type": "Opaque", "data": {"a": "aGVs\nbG8="}});
        with(|cx| SecretStrategy.prepare_create(cx, &mut secret)).unwrap();
        assert_eq!(secret["data"]["a"], "aGVsbG8=");
    }
}
