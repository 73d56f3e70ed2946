//! Discovery: which groups, versions and resources there are; version; OpenAPI; OpenID.
//!
//! Documents are made when they are asked for, kept until resources come or go, and have an ETag.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::Api;
use super::body::{self, Body};
use super::negotiate;
use super::openapi;
use super::render;
use crate::api::GroupVersionKind;
use crate::server::registry::{Live, Registry, Resource, Storage, Subresource};

/// The version of Kubernetes the API is that of, and this server's mark.
pub(super) const VERSION: &str = "v1.36.0+kedge";

/// A document and the hash of its content.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    pub(super) hash: String,
    pub(super) content_type: &'static str,
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
}

/// The discovery documents that were asked for since the resources changed last.
#[derive(Default)]
pub(super) struct Discovery {
    made: Mutex<(u64, HashMap<String, Arc<Document>>)>,
}

impl Discovery {
    /// The document of a key, made at the first call; `None` if there is no such document.
    fn document(
        &self,
        live: &Live,
        key: &str,
        make: impl FnOnce(&Registry) -> Option<Document>,
    ) -> Option<Arc<Document>> {
        let generation = live.generation();
        {
            let mut made = self.made.lock();
            if made.0 != generation {
                *made = (generation, HashMap::new());
            }
            if let Some(known) = made.1.get(key) {
                return Some(Arc::clone(known));
            }
        }
        let document = Arc::new(make(&live.all())?);
        let mut made = self.made.lock();
        if made.0 == generation {
            made.1.insert(key.to_owned(), Arc::clone(&document));
        }
        Some(document)
    }
}

/// Answers the discovery paths; `None` for other paths.
pub(super) fn serve(api: &Api, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let live = &*api.objects.registry;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let aggregated = negotiate::aggregated_discovery(headers);
    let made = |key: &str, make: &dyn Fn(&Registry) -> Option<Document>| {
        api.discovery.document(live, key, |registry| make(registry))
    };
    let document = match (parts.as_slice(), aggregated) {
        (["api"], Some(v)) => made(&format!("api {v}"), &|r| Some(aggregate(r, v, true))),
        (["apis"], Some(v)) => made(&format!("apis {v}"), &|r| Some(aggregate(r, v, false))),
        (["api"], None) => Some(Arc::new(Document::json(&versions(&api.server_url)))),
        (["apis"], None) => made("apis", &|r| Some(Document::json(&groups(r)))),
        (["apis", group], _) => made(path, &|r| {
            r.groups().iter().find(|(g, _)| g == group).map(|g| Document::json(&self::group(g)))
        }),
        (["api", version], _) => made(path, &|r| resources(r, "", version)),
        (["apis", group, version], _) => made(path, &|r| resources(r, group, version)),
        (["openapi", "v2"], _) => openapi::v2(&live.all(), headers),
        (["openapi", "v3"], _) => made(path, &|r| {
            let index = openapi::of(r.entries().iter()).v3_index();
            Some(Document::new(index, "application/json"))
        }),
        (["openapi", "v3", rest @ ..], _) => openapi::v3(&live.all(), &rest.join("/"), headers),
        (["version"], _) => made(path, &|_| Some(Document::json(&version()))),
        ([".well-known", "openid-configuration"], _) => {
            Some(Arc::new(Document::json(&api.pki.token_signer().openid_configuration(&api.server_url))))
        }
        (["openid", "v1", "jwks"], _) => {
            let jwks = api.pki.token_signer().jwks();
            Some(Arc::new(Document::new(jwks.to_string(), "application/jwk-set+json")))
        }
        ([], _) => made("/", &|r| Some(Document::json(&paths(r)))),
        _ => None,
    }?;
    Some(answer(&document, headers))
}

fn answer(document: &Document, headers: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let mut response = if openapi::is_known(&document.hash, headers) {
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
            "kind": entry.kind, "verbs": entry.listed_verbs()});
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
        Storage::Own => {
            let version = entry.custom.as_ref().map(|c| c.storage_version().to_owned());
            GroupVersionKind {
                version: version.map_or_else(|| entry.version.clone(), Into::into),
                ..entry.gvk()
            }
        }
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
                "scope": scope, "singularResource": entry.singular, "verbs": entry.listed_verbs()});
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
    use http::header::IF_NONE_MATCH;

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
    fn the_version_is_the_apis() {
        assert_eq!((version()["major"].as_str(), version()["minor"].as_str()), (Some("1"), Some("36")));
    }
}
