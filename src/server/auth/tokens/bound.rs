//! A token ends with what it is bound to.

use std::time::SystemTime;

use super::{Claims, Reference, TokenError, seconds};
use crate::api::Object;
use crate::api::meta::parse_time;
use crate::server::reader::Reader;

/// A token holds this many seconds longer than an object that is being deleted.
const DELETION_LEEWAY: u64 = 60;

/// Checks that the service account, and the pod, secret and node if named, are still those of the token.
///
/// # Errors
/// [`TokenError::Unbound`] says which of them is gone.
pub fn check(claims: &Claims, reader: &dyn Reader, now: SystemTime) -> Result<(), TokenError> {
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
) -> Result<(), &'static str> {
    let object = reader.get(resource, namespace, &wanted.name).ok_or("has been deleted")?;
    if !wanted.uid.is_empty() && object.uid() != wanted.uid {
        return Err("has been replaced by another of the same name");
    }
    if deleted(&object).is_some_and(|at| at + DELETION_LEEWAY < now) {
        return Err("has been deleted");
    }
    Ok(())
}

fn deleted(object: &Object) -> Option<u64> {
    let at = parse_time(object.deletion_timestamp()?)?;
    u64::try_from(at.as_second()).ok()
}

fn unbound(kind: &str, namespace: Option<&str>, object: &Reference, what: &str) -> TokenError {
    let prefix = namespace.map(|n| format!("{n}/")).unwrap_or_default();
    TokenError::Unbound(format!("{kind} {prefix}{} {what}", object.name))
}
