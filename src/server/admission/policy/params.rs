//! The parameters of a policy: objects its bindings name.

use serde_json::Value;

use super::definition::{Binding, Policy};
use crate::server::admission::matching::Asking;

/// The parameters to evaluate a policy with, one after the other; `None` is to evaluate it without.
///
/// # Errors
/// There are none and there have to be some, or the binding makes no sense.
pub(super) fn of(
    policy: &Policy,
    binding: &Binding,
    asking: &Asking<'_>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(wanted)) = (&policy.param_kind, &binding.params) else { return Ok(vec![None]) };
    let resource = asking.of_kind(kind).ok_or_else(|| {
        let (version, kind) = (kind.api_version(), &kind.kind);
        format!("paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known")
    })?;
    let namespace = match (resource.namespaced, wanted.namespace.as_str()) {
        (false, "") => None,
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (true, "") if asking.namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => Some(asking.namespace),
        (true, given) => Some(given),
    };
    let stored = resource.stored_name();
    let found: Vec<_> = match &wanted.selector {
        None => asking.reader.get(&stored, namespace, &wanted.name).into_iter().collect(),
        Some(selector) => {
            let selector = selector.as_ref().map_err(Clone::clone)?;
            let mut all = asking.reader.list(&stored, namespace);
            all.retain(|object| selector.matches(|key| object.label(key)));
            all
        }
    };
    if found.is_empty() && wanted.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found.iter().map(|object| Some(resource.from_stored(object.value()))).collect())
}
