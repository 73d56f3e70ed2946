//! Discovery: which groups, versions and resources there are; version; OpenAPI; OpenID.
//!
//! Documents are made once, when they are first asked for, and have an ETag. Those of OpenAPI are large: they are
//! made for those who do not have them yet, and not kept.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::Api;
use super::body::{self, Body};
use super::negotiate;
use super::render;
use crate::api::Schemas;
use crate::api::openapi::{OpenApi, Served, Subresource as ServedSubresource, V2_PROTOBUF, V2_PROTOBUF_OLD};
use crate::server::registry::{Registry, Resource, Storage, Subresource};

/// The version of Kubernetes the API is that of, and this server's mark.
pub(super) const VERSION: &str = "v1.36.0+kedge";

/// A document and the hash of its content.
#[derive(Clone)]
struct Document {
    bytes: Bytes,
    hash: String,
    content_type: &'static str,
}

impl Document {
    fn new(bytes: impl Into<Bytes>, content_type: &'static str) -> Self {
        let bytes = bytes.into();
        let hash = hex::encode_upper(Sha256::digest(&bytes));
        Self { bytes, hash, content_type }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string(), "application/json")
    }

    /// A document of a known hash, made unless the client has it.
    fn unless_known(
        hash: String,
        content_type: &'static str,
        headers: &HeaderMap,
        make: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Arc<Self>> {
        let bytes = if is_known(&hash, headers) { Bytes::new() } else { make()?.into() };
        Some(Arc::new(Self { bytes, hash, content_type }))
    }
}

/// Whether the client has the document of this hash.
fn is_known(hash: &str, headers: &HeaderMap) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    known.is_some_and(|k| k.trim_matches('"') == hash)
}

/// The discovery documents.
pub(super) struct Discovery {
    openapi: OpenApi,
    made: Mutex<HashMap<String, Option<Arc<Document>>>>,
}

impl Discovery {
    pub(super) fn new(registry: &Registry) -> Self {
        let served = registry.entries().iter().filter_map(|e| served(e)).collect();
        Self { openapi: OpenApi::new(VERSION, served), made: Mutex::default() }
    }

    /// The document of a key, made at the first call; `None` if there is no such document.
    fn document(&self, key: &str, make: impl FnOnce() -> Option<Document>) -> Option<Arc<Document>> {
        if let Some(known) = self.made.lock().get(key) {
            return known.clone();
        }
        let document = make().map(Arc::new);
        if document.is_some() {
            self.made.lock().insert(key.to_owned(), document.clone());
        }
        document
    }
}

fn served(entry: &Resource) -> Option<Served> {
    let owned = |verbs: &[&str]| verbs.iter().map(|v| (*v).to_owned()).collect::<Vec<String>>();
    Some(Served {
        kind: entry.gvk(),
        plural: entry.plural.to_string(),
        namespaced: entry.namespaced,
        verbs: owned(entry.verbs),
        subresources: entry
            .subresources
            .iter()
            .map(|s| ServedSubresource {
                name: s.name.to_string(),
                kind: s.kind.clone(),
                verbs: owned(s.verbs),
            })
            .collect(),
        schema: Schemas::builtin().get(&entry.gvk())?,
    })
}

/// Answers the discovery paths; `None` for other paths.
pub(super) fn serve(api: &Api, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let registry = &api.objects.registry;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let discovery = &api.discovery;
    let aggregated = negotiate::aggregated_discovery(headers);
    let document = match (parts.as_slice(), aggregated) {
        (["api"], Some(v)) => discovery.document(&format!("api {v}"), || Some(aggregate(registry, v, true))),
        (["apis"], Some(v)) => {
            discovery.document(&format!("apis {v}"), || Some(aggregate(registry, v, false)))
        }
        (["api"], None) => Some(Arc::new(Document::json(&versions(&api.server_url)))),
        (["apis"], None) => discovery.document("apis", || Some(Document::json(&groups(registry)))),
        (["apis", group], _) => discovery.document(path, || {
            registry.groups().iter().find(|(g, _)| g == group).map(|g| Document::json(&self::group(g)))
        }),
        (["api", version], _) => discovery.document(path, || resources(registry, "", version)),
        (["apis", group, version], _) => discovery.document(path, || resources(registry, group, version)),
        (["openapi", "v2"], _) => openapi_v2(discovery, headers),
        (["openapi", "v3"], _) => {
            discovery.document(path, || Some(Document::new(discovery.openapi.v3_index(), "application/json")))
        }
        (["openapi", "v3", rest @ ..], _) => openapi_v3(discovery, &rest.join("/"), headers),
        (["version"], _) => discovery.document(path, || Some(Document::json(&version()))),
        ([".well-known", "openid-configuration"], _) => {
            Some(Arc::new(Document::json(&api.pki.token_signer().openid_configuration(&api.server_url))))
        }
        (["openid", "v1", "jwks"], _) => {
            let jwks = api.pki.token_signer().jwks();
            Some(Arc::new(Document::new(jwks.to_string(), "application/jwk-set+json")))
        }
        ([], _) => discovery.document("/", || Some(Document::json(&paths(registry)))),
        _ => None,
    }?;
    Some(answer(&document, headers))
}

fn answer(document: &Document, headers: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let mut response = if is_known(&document.hash, headers) {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        render::bytes_response(StatusCode::OK, negotiate::Format::Json, document.bytes.clone(), headers)
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    response
}

fn openapi_v2(discovery: &Discovery, headers: &HeaderMap) -> Option<Arc<Document>> {
    let openapi = &discovery.openapi;
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Clients that can read both name this one only if they prefer it.
    if [V2_PROTOBUF, V2_PROTOBUF_OLD].iter().any(|name| accept.contains(name)) {
        let hash = format!("P{}", openapi.v2_hash());
        return Document::unless_known(hash, V2_PROTOBUF, headers, || Some(openapi.v2_protobuf()));
    }
    negotiate::output(headers, None).ok()?;
    Document::unless_known(openapi.v2_hash(), "application/json", headers, || Some(openapi.v2()))
}

fn openapi_v3(discovery: &Discovery, path: &str, headers: &HeaderMap) -> Option<Arc<Document>> {
    let openapi = &discovery.openapi;
    Document::unless_known(openapi.v3_hash(path)?, "application/json", headers, || openapi.v3(path))
}

fn version() -> Value {
    let mut numbers = VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let platform = format!(
        "linux/{}",
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    );
    json!({"major": major, "minor": minor, "gitVersion": VERSION, "gitCommit": env!("CARGO_PKG_VERSION"),
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": platform})
}

fn versions(server_url: &str) -> Value {
    let address = server_url.trim_start_matches("https://");
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

fn group((name, versions): &(&str, Vec<&str>)) -> Value {
    let list: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v})).collect();
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": list, "preferredVersion": list[0]})
}

fn groups(registry: &Registry) -> Value {
    let named = registry.groups();
    let list: Vec<Value> = named
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|g| {
            let mut group = group(g);
            if let Some(map) = group.as_object_mut() {
                map.remove("kind");
                map.remove("apiVersion");
            }
            group
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

/// `APIResourceList` of one version.
fn resources(registry: &Registry, group: &str, version: &str) -> Option<Document> {
    let mut list = Vec::new();
    for entry in registry.of_version(group, version) {
        let mut resource = json!({"name": entry.plural, "singularName": entry.singular, "namespaced": entry.namespaced,
            "kind": entry.kind, "verbs": entry.verbs});
        for (field, names) in [("shortNames", &entry.short_names), ("categories", &entry.categories)] {
            if !names.is_empty() {
                resource[field] = json!(names);
            }
        }
        if let Some(hash) = storage_version_hash(registry, entry) {
            resource["storageVersionHash"] = json!(hash);
        }
        list.push(resource);
        list.extend(entry.subresources.iter().map(|sub| subresource(entry, sub)));
    }
    if list.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut value = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        value["apiVersion"] = json!("v1");
    }
    Some(Document::json(&value))
}

/// In which version objects are stored, in a form that can only be compared: clients that move stored objects
/// from one version to another see by it that they have to.
fn storage_version_hash(registry: &Registry, entry: &Resource) -> Option<String> {
    let stored = match entry.storage {
        Storage::Virtual => return None,
        Storage::Own => entry.gvk(),
        Storage::View(_) => registry.stored(&entry.stored_name())?.gvk(),
    };
    let name = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    Some(STANDARD.encode(&Sha256::digest(name)[..8]))
}

fn subresource(entry: &Resource, sub: &Subresource) -> Value {
    let mut value = json!({"name": format!("{}/{}", entry.plural, sub.name), "singularName": "",
        "namespaced": entry.namespaced, "kind": entry.kind, "verbs": sub.verbs});
    if let Some(kind) = &sub.kind {
        value["kind"] = json!(kind.kind);
        if kind.group != entry.group || kind.version != entry.version {
            value["group"] = json!(kind.group);
            value["version"] = json!(kind.version);
        }
    }
    value
}

/// `APIGroupDiscoveryList`.
fn aggregate(registry: &Registry, version: &'static str, core: bool) -> Document {
    let groups = registry.groups();
    let items: Vec<Value> = groups
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let list: Vec<Value> = versions.iter().map(|v| aggregate_version(registry, name, v)).collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !core {
                metadata["name"] = json!(name);
            }
            json!({"metadata": metadata, "versions": list})
        })
        .collect();
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items});
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    Document::new(value.to_string(), content_type)
}

fn aggregate_version(registry: &Registry, group: &str, version: &str) -> Value {
    let kind_of =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let resources: Vec<Value> = registry
        .of_version(group, version)
        .map(|entry| {
            let scope = if entry.namespaced { "Namespaced" } else { "Cluster" };
            let mut resource = json!({"resource": entry.plural, "responseKind": kind_of(group, version, &entry.kind),
                "scope": scope, "singularResource": entry.singular, "verbs": entry.verbs});
            for (field, names) in [("shortNames", &entry.short_names), ("categories", &entry.categories)] {
                if !names.is_empty() {
                    resource[field] = json!(names);
                }
            }
            let subs: Vec<Value> = entry
                .subresources
                .iter()
                .map(|sub| {
                    let kind = sub.kind.clone().unwrap_or_else(|| entry.gvk());
                    json!({"subresource": sub.name, "responseKind": kind_of(&kind.group, &kind.version, &kind.kind),
                        "verbs": sub.verbs})
                })
                .collect();
            if !subs.is_empty() {
                resource["subresources"] = json!(subs);
            }
            resource
        })
        .collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

/// The paths of `/`.
fn paths(registry: &Registry) -> Value {
    let mut list: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, versions) in registry.groups().iter().filter(|(name, _)| !name.is_empty()) {
        list.push(format!("/apis/{group}"));
        list.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    list.sort();
    json!({"paths": list})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::strategy::Plain;

    fn registry() -> Registry {
        Registry::builtin(|_| Arc::new(Plain))
    }

    fn parsed(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).unwrap()
    }

    #[test]
    fn resource_lists_have_subresources_with_their_kinds() {
        let apps = parsed(&resources(&registry(), "apps", "v1").unwrap());
        let find = |name: &str| {
            apps["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone()
        };
        assert_eq!(find("deployments")["shortNames"], json!(["deploy"]));
        assert_eq!(find("deployments/scale")["kind"], "Scale");
        assert_eq!(find("deployments/scale")["group"], "autoscaling");
        assert_eq!(find("deployments/status")["kind"], "Deployment");
        assert!(resources(&registry(), "apps", "v9").is_none());
    }

    #[test]
    fn aggregated_discovery_has_what_the_lists_have() {
        let registry = registry();
        let all = parsed(&aggregate(&registry, "v2", false));
        assert_eq!(all["apiVersion"], "apidiscovery.k8s.io/v2");
        let count: usize =
            all["items"].as_array().unwrap().iter().map(|g| g["versions"].as_array().unwrap().len()).sum();
        let wanted: usize =
            registry.groups().iter().filter(|(n, _)| !n.is_empty()).map(|(_, v)| v.len()).sum();
        assert_eq!(count, wanted);
        let core = parsed(&aggregate(&registry, "v2", true));
        let pods = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["resource"] == "pods");
        assert_eq!(pods.unwrap()["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    }

    #[test]
    fn the_stored_version_is_told_by_a_hash() {
        let registry = registry();
        let hash = |group, version, plural| {
            storage_version_hash(&registry, registry.find(group, version, plural).unwrap())
        };
        assert_eq!(hash("", "v1", "pods").as_deref(), Some("xPOwRZ+Yhw8="));
        assert_eq!(hash("apps", "v1", "deployments").as_deref(), Some("8aSe+NMegvE="));
        assert_eq!(hash("", "v1", "events").as_deref(), Some("r2yiGXH7wu8="));
        assert_eq!(hash("events.k8s.io", "v1", "events"), hash("", "v1", "events"));
        assert_eq!(hash("", "v1", "bindings"), None);
    }

    #[test]
    fn an_etag_spares_the_body() {
        let document = Document::json(&json!({"a": 1}));
        let first = answer(&document, &HeaderMap::new());
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(answer(&document, &headers).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn openapi_comes_in_the_form_that_is_asked_for_and_is_not_kept() {
        let discovery = Discovery::new(&registry());
        let mut headers = HeaderMap::new();
        let json = openapi_v2(&discovery, &headers).unwrap();
        assert_eq!((json.content_type, json.bytes[0]), ("application/json", b'{'));
        headers.insert(ACCEPT, HeaderValue::from_static(V2_PROTOBUF_OLD));
        let protobuf = openapi_v2(&discovery, &headers).unwrap();
        // Field 1, three letters: the version of Swagger.
        assert_eq!((protobuf.content_type, &protobuf.bytes[..5]), (V2_PROTOBUF, &b"\x0a\x032.0"[..]));
        assert_ne!(json.hash, protobuf.hash);
        headers.insert(IF_NONE_MATCH, format!("\"{}\"", protobuf.hash).parse().unwrap());
        assert!(openapi_v2(&discovery, &headers).unwrap().bytes.is_empty());
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.kubernetes.protobuf"));
        assert!(openapi_v2(&discovery, &headers).is_none());
        assert!(!openapi_v3(&discovery, "apis/apps/v1", &headers).unwrap().bytes.is_empty());
        assert!(openapi_v3(&discovery, "apis/none/v1", &headers).is_none());
        assert!(discovery.made.lock().is_empty());
    }

    #[test]
    fn the_version_is_the_apis() {
        assert_eq!((version()["major"].as_str(), version()["minor"].as_str()), (Some("1"), Some("36")));
    }
}
