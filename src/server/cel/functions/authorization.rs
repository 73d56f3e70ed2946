//! What the user of a request may do: `authorizer.group('').resource('pods').check('get').allowed()`.

use std::sync::Arc;

use super::{Library, text};
use crate::server::cel::EvalError;
use crate::server::cel::authorizer::{Attributes, Authorizer, Decision};
use crate::server::cel::opaque::{CheckKind, Opaque};
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("authorizer_path .path authorizer string > path_check", |a| {
        let path = text(a, 1)?.to_owned();
        if path.is_empty() {
            return Err(EvalError::failed("path must not be empty"));
        }
        asked(a, CheckKind::Path, |attributes| attributes.path = Some(path))
    }),
    ("authorizer_group .group authorizer string > group_check", |a| {
        let group = text(a, 1)?.to_owned();
        asked(a, CheckKind::Group, |attributes| attributes.group = group)
    }),
    ("authorizer_serviceaccount .serviceAccount authorizer string string > authorizer", |a| {
        let (namespace, name) = (text(a, 1)?.to_owned(), text(a, 2)?.to_owned());
        for (what, wrong) in [
            ("name", crate::api::names::dns1123_subdomain(&name)),
            ("namespace", crate::api::names::dns1123_label(&namespace)),
        ] {
            if let Some(why) = wrong.first() {
                return Err(EvalError::failed(format!("Invalid service account {what}: {why}")));
            }
        }
        let other = OfServiceAccount { inner: authorizer(a)?.0, account: (namespace, name) };
        Ok(Value::authorizer(Arc::new(other)))
    }),
    ("groupcheck_resource .resource group_check string > resource_check", |a| {
        let resource = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.resource = resource)
    }),
    ("resourcecheck_subresource .subresource resource_check string > resource_check", |a| {
        let subresource = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.subresource = subresource)
    }),
    ("resourcecheck_namespace .namespace resource_check string > resource_check", |a| {
        let namespace = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.namespace = namespace)
    }),
    ("resourcecheck_name .name resource_check string > resource_check", |a| {
        let name = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.name = name)
    }),
    ("authorizer_fieldselector .fieldSelector resource_check string > resource_check", |a| {
        let selector = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.field_selector = Some(selector))
    }),
    ("authorizer_labelselector .labelSelector resource_check string > resource_check", |a| {
        let selector = text(a, 1)?.to_owned();
        asked(a, CheckKind::Resource, |attributes| attributes.label_selector = Some(selector))
    }),
    ("pathcheck_check .check path_check string > decision", check),
    ("resourcecheck_check .check resource_check string > decision", check),
    ("decision_allowed .allowed decision > bool", |a| Ok(Value::Bool(decision(a)?.allowed))),
    ("decision_reason .reason decision > string", |a| Ok(Value::text(decision(a)?.reason.as_str()))),
    ("decision_errored .errored decision > bool", |a| Ok(Value::Bool(decision(a)?.error.is_some()))),
    ("decision_error .error decision > string", |a| {
        Ok(Value::text(decision(a)?.error.as_deref().unwrap_or_default()))
    }),
];

/// Asks for a service account in the place of the user.
#[derive(Debug)]
struct OfServiceAccount {
    inner: Arc<dyn Authorizer>,
    account: (String, String),
}

impl Authorizer for OfServiceAccount {
    fn authorize(&self, attributes: &Attributes) -> Decision {
        let mut attributes = attributes.clone();
        attributes.service_account = Some(self.account.clone());
        self.inner.authorize(&attributes)
    }
}

fn authorizer(args: &[Value<'_>]) -> Result<(Arc<dyn Authorizer>, Attributes), EvalError> {
    match args.first() {
        Some(Value::Opaque(opaque)) => match &**opaque {
            Opaque::Authorizer(authorizer) => Ok((Arc::clone(authorizer), Attributes::default())),
            Opaque::Check(authorizer, _, attributes) => Ok((Arc::clone(authorizer), attributes.clone())),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn asked<'a>(
    args: &[Value<'a>],
    kind: CheckKind,
    set: impl FnOnce(&mut Attributes),
) -> Result<Value<'a>, EvalError> {
    let (authorizer, mut attributes) = authorizer(args)?;
    set(&mut attributes);
    Ok(Value::opaque(Opaque::Check(authorizer, kind, attributes)))
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (authorizer, mut attributes) = authorizer(args)?;
    attributes.verb = text(args, 1)?.to_owned();
    Ok(Value::opaque(Opaque::Decision(authorizer.authorize(&attributes))))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvalError> {
    match args.first() {
        Some(Value::Opaque(opaque)) => match &**opaque {
            Opaque::Decision(decision) => Ok(decision),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
