//! URLs.

use std::sync::Arc;

use super::{Library, text};
use crate::server::cel::EvalError;
use crate::server::cel::containers::Map;
use crate::server::cel::opaque::Opaque;
use crate::server::cel::url::Url;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("string_to_url url string > url", |a| {
        let text = text(a, 0)?;
        let url = Url::parse_request(text).ok_or_else(|| {
            EvalError::failed(format!(
                "URL parse error during conversion from string: parse {}: invalid URI for request",
                crate::api::field::quote(text)
            ))
        })?;
        Ok(Value::opaque(Opaque::Url(url)))
    }),
    ("is_url_string isURL string > bool", |a| Ok(Value::Bool(Url::parse_request(text(a, 0)?).is_some()))),
    ("url_get_scheme .getScheme url > string", |a| part(a, |u| u.scheme.clone())),
    ("url_get_host .getHost url > string", |a| part(a, |u| u.host.clone())),
    ("url_get_hostname .getHostname url > string", |a| part(a, |u| u.hostname().to_owned())),
    ("url_get_port .getPort url > string", |a| part(a, |u| u.port().to_owned())),
    ("url_get_escaped_path .getEscapedPath url > string", |a| part(a, Url::escaped_path)),
    ("url_get_query .getQuery url > map(string,list(string))", |a| {
        let entries = url(a)?.query().into_iter().map(|(name, values)| {
            let key = Value::text(name);
            let values = Value::list(values.into_iter().map(Value::text).collect());
            (key.key().unwrap_or(crate::server::cel::value::Key::Bool(false)), (key, values))
        });
        Ok(Value::Map(Map::Made(Arc::new(entries.collect()))))
    }),
];

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(opaque)) => match &**opaque {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Result<Value<'a>, EvalError> {
    url(args).map(|u| Value::text(of(u)))
}
