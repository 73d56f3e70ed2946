//! `/openapi/v2` and `/openapi/v3`.
//!
//! These documents are large: they are made for those who do not have them yet, and not kept.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{ACCEPT, IF_NONE_MATCH};

use super::discovery::{Document, VERSION};
use super::negotiate;
use crate::api::Schemas;
use crate::api::openapi::{
    CustomTypes, OpenApi, Served, Subresource as ServedSubresource, Types, V2_PROTOBUF, V2_PROTOBUF_OLD,
};
use crate::server::registry::{Registry, Resource};

/// Whether the client has the document of this hash.
pub(super) fn is_known(hash: &str, headers: &HeaderMap) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    known.is_some_and(|k| k.trim_matches('"') == hash)
}

/// A document of a known hash, made unless the client has it.
fn unless_known(
    hash: String,
    content_type: &'static str,
    headers: &HeaderMap,
    make: impl FnOnce() -> Option<Vec<u8>>,
) -> Option<Arc<Document>> {
    let bytes = if is_known(&hash, headers) { Vec::new() } else { make()? };
    Some(Arc::new(Document { bytes: bytes.into(), hash, content_type }))
}

fn served(entry: &Resource) -> Option<Served> {
    let owned = |verbs: &[&str]| verbs.iter().map(|v| (*v).to_owned()).collect::<Vec<String>>();
    let types = match &entry.custom {
        None => Types::Tree(Schemas::builtin().get(&entry.gvk())?),
        Some(custom) => {
            let fingerprint = custom.fingerprint();
            let custom = Arc::clone(custom);
            Types::Custom(CustomTypes { fingerprint, read: Arc::new(move || custom.document()) })
        }
    };
    let subresources = entry.subresources.iter().map(|s| ServedSubresource {
        name: s.name.to_string(),
        kind: s.kind.clone(),
        verbs: owned(s.verbs),
    });
    Some(Served {
        kind: entry.gvk(),
        plural: entry.plural.to_string(),
        namespaced: entry.namespaced,
        verbs: owned(entry.verbs),
        subresources: subresources.collect(),
        types,
    })
}

/// What the documents are made from.
pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Arc<Resource>>) -> OpenApi {
    OpenApi::new(VERSION, entries.filter_map(|e| served(e)).collect())
}

/// `/openapi/v2`; `None` if the client takes neither form.
pub(super) fn v2(registry: &Registry, headers: &HeaderMap) -> Option<Arc<Document>> {
    let openapi = of(registry.entries().iter());
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Clients that can read both name this one only if they prefer it.
    if [V2_PROTOBUF, V2_PROTOBUF_OLD].iter().any(|name| accept.contains(name)) {
        let hash = format!("P{}", openapi.v2_hash());
        return unless_known(hash, V2_PROTOBUF, headers, || Some(openapi.v2_protobuf()));
    }
    negotiate::output(headers, None).ok()?;
    unless_known(openapi.v2_hash(), "application/json", headers, || Some(openapi.v2()))
}

/// `/openapi/v3/<path>`.
pub(super) fn v3(registry: &Registry, path: &str, headers: &HeaderMap) -> Option<Arc<Document>> {
    let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => ("", version),
        ["apis", group, version] => (group, version),
        _ => return None,
    };
    let openapi = of(registry.of_version(group, version));
    unless_known(openapi.v3_hash(path)?, "application/json", headers, || openapi.v3(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Plain;
    use http::HeaderValue;

    #[test]
    fn documents_come_in_the_form_that_is_asked_for() {
        let registry = Registry::builtin(|_| Arc::new(Plain));
        let mut headers = HeaderMap::new();
        let json = v2(&registry, &headers).unwrap();
        assert_eq!((json.content_type, json.bytes[0]), ("application/json", b'{'));
        headers.insert(ACCEPT, HeaderValue::from_static(V2_PROTOBUF_OLD));
        let protobuf = v2(&registry, &headers).unwrap();
        // Field 1, three letters: the version of Swagger.
        assert_eq!((protobuf.content_type, &protobuf.bytes[..5]), (V2_PROTOBUF, &b"\x0a\x032.0"[..]));
        assert_ne!(json.hash, protobuf.hash);
        headers.insert(IF_NONE_MATCH, format!("\"{}\"", protobuf.hash).parse().unwrap());
        assert!(v2(&registry, &headers).unwrap().bytes.is_empty());
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.kubernetes.protobuf"));
        assert!(v2(&registry, &headers).is_none());
        assert!(!v3(&registry, "apis/apps/v1", &headers).unwrap().bytes.is_empty());
        assert!(v3(&registry, "apis/none/v1", &headers).is_none());
    }
}
