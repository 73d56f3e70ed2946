//! A token ends with what it is bound to.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Claims, Reference, TokenError, seconds};
use crate::api::meta::parse_time;
use crate::api::{Meta, Object};
use crate::server::reader::Reader;

/// A token holds this many seconds longer than an object that is being deleted.
const DELETION_LEEWAY: u64 = 60;

/// The label of a Secret whose token nobody used for so long that it was switched off.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Checks that the service account, and the pod, secret and node if named, are still those of the token.
///
/// # Errors
/// [`TokenError::Unbound`] says which of them is gone.
pub fn check(claims: &Claims, token: &str, reader: &dyn Reader, now: SystemTime) -> Result<(), TokenError> {
    let private = &claims.kubernetes;
    let namespace = Some(private.namespace.as_str());
    let subject = format!("system:serviceaccount:{}:{}", private.namespace, private.service_account.name);
    if claims.sub != subject {
        return Err(TokenError::Foreign);
    }
    let now = seconds(now);
    exists(reader, "serviceaccounts", namespace, &private.service_account, now)
        .map_err(|what| unbound("service account", namespace, &private.service_account, what))?;
    if let Some(secret) = &private.secret {
        exists(reader, "secrets", namespace, secret, now)
            .and_then(|object| holds(&object, token, secret))
            .map_err(|what| unbound("service account token's secret", namespace, secret, what))?;
    }
    if let Some(pod) = &private.pod {
        exists(reader, "pods", namespace, pod, now)
            .map_err(|what| unbound("service account token's pod", namespace, pod, what))?;
    } else if let Some(node) = &private.node {
        exists(reader, "nodes", None, node, now)
            .map_err(|what| unbound("service account token's node", None, node, what))?;
    }
    Ok(())
}

fn exists(
    reader: &dyn Reader,
    resource: &str,
    namespace: Option<&str>,
    wanted: &Reference,
    now: u64,
) -> Result<Arc<Object>, &'static str> {
    let object = reader.get(resource, namespace, &wanted.name).ok_or("has been deleted")?;
    if !wanted.uid.is_empty() && object.uid() != wanted.uid {
        return Err("has been replaced by another of the same name");
    }
    if deleted(&object).is_some_and(|at| at + DELETION_LEEWAY < now) {
        return Err("has been deleted");
    }
    Ok(object)
}

/// A token that lies in its Secret, which binds it by name alone, is good as long as it lies there.
fn holds(secret: &Object, token: &str, reference: &Reference) -> Result<(), &'static str> {
    if !reference.uid.is_empty() {
        return Ok(());
    }
    let value = secret.value();
    if Meta::of(&value).label(INVALID_SINCE).is_some() {
        return Err("has been marked invalid");
    }
    let held = STANDARD.decode(value["data"]["token"].as_str().unwrap_or_default()).unwrap_or_default();
    if held == token.as_bytes() { Ok(()) } else { Err("holds another token") }
}

fn deleted(object: &Object) -> Option<u64> {
    let at = parse_time(object.deletion_timestamp()?)?;
    u64::try_from(at.as_second()).ok()
}

fn unbound(kind: &str, namespace: Option<&str>, object: &Reference, what: &str) -> TokenError {
    let prefix = namespace.map(|n| format!("{n}/")).unwrap_or_default();
    TokenError::Unbound(format!("{kind} {prefix}{} {what}", object.name))
}
