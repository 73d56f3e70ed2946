//! OpenAPI v2 and v3 documents from schemas and a list of served resources.
//!
//! A document is written when it is asked for and not kept: clients keep it by its hash. The hash is of what the
//! document is made from, so the index costs no document.

mod custom;
mod operations;
mod protobuf;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::identity::GroupVersionKind;
use super::schema::Schema;

pub use custom::CustomTypes;

/// A resource as the documents describe it.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its kind.
    pub kind: GroupVersionKind,
    /// Its plural name, lower case.
    pub plural: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// Verbs as discovery lists them: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// The schema of the kind.
    pub types: Types,
}

/// Where the schema of a kind comes from.
#[derive(Clone, Debug)]
pub enum Types {
    /// A tree of types.
    Tree(Schema),
    /// A definition of users.
    Custom(CustomTypes),
}

/// A subresource of a resource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name, as in `status`.
    pub name: String,
    /// The kind of its bodies, if not the resource's own.
    pub kind: Option<GroupVersionKind>,
    /// Verbs, as for resources.
    pub verbs: Vec<String>,
}

/// The media type of [`OpenApi::v2_protobuf`].
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What clients ask for that mean [`V2_PROTOBUF`]. It is no valid media type, so no answer may be called so.
pub const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Which form a document has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    V2,
    V3,
}

impl Style {
    /// A reference to a definition.
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Documents of a set of resources.
#[derive(Clone, Debug)]
pub struct OpenApi {
    version: String,
    /// By the path of their group version, as in `apis/apps/v1`.
    served: BTreeMap<String, Vec<Served>>,
}

impl OpenApi {
    /// Documents of these resources; `version` is the server's, as in `v1.36.0`. Costs nothing yet.
    pub fn new(version: impl Into<String>, served: Vec<Served>) -> Self {
        let mut by_path: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for resource in served {
            by_path.entry(path_of(&resource.kind)).or_default().push(resource);
        }
        Self { version: version.into(), served: by_path }
    }

    /// `/openapi/v3`: the paths of the documents with the hash of each.
    pub fn v3_index(&self) -> Vec<u8> {
        let paths = self.served.iter().map(|(path, resources)| {
            let url = format!("/openapi/v3/{path}?hash={}", self.hash(resources));
            (path.clone(), json!({"serverRelativeURL": url}))
        });
        json!({"paths": paths.collect::<Map<_, _>>()}).to_string().into_bytes()
    }

    /// The hash of a group version's document, as the index gives it; `None` if nothing is served there.
    pub fn v3_hash(&self, path: &str) -> Option<String> {
        self.served.get(path).map(|resources| self.hash(resources))
    }

    fn hash(&self, resources: &[Served]) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.version);
        // What is served, and the definitions' texts, which are the executable's own.
        digest.update(format!("{resources:?}"));
        digest.update(env!("CARGO_PKG_VERSION"));
        let mut hash = String::new();
        for byte in digest.finalize() {
            let _ = write!(hash, "{byte:02X}");
        }
        hash
    }

    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/apps/v1`: JSON of one group version; `None` if nothing is served there.
    /// `path` is what follows `/openapi/v3/`.
    pub fn v3(&self, path: &str) -> Option<Vec<u8>> {
        let resources = self.served.get(path)?;
        let paths = operations::paths(Style::V3, path, resources);
        let schemas = schemas::definitions(Style::V3, resources, &roots(resources));
        let document = json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"BearerToken": {
                    "type": "apiKey", "in": "header", "name": "authorization",
                    "description": "Bearer Token authentication",
                }},
            },
        });
        Some(document.to_string().into_bytes())
    }

    /// `/openapi/v2`: JSON of all.
    pub fn v2(&self) -> Vec<u8> {
        self.v2_document().to_string().into_bytes()
    }

    /// `/openapi/v2` for clients that accept only [`V2_PROTOBUF`].
    pub fn v2_protobuf(&self) -> Vec<u8> {
        protobuf::document(&self.v2_document())
    }

    /// The hash of the v2 document, as for an ETag.
    pub fn v2_hash(&self) -> String {
        let all: Vec<Served> = self.served.values().flatten().cloned().collect();
        self.hash(&all)
    }

    fn v2_document(&self) -> Value {
        let mut paths = Map::new();
        for (path, resources) in &self.served {
            paths.extend(operations::paths(Style::V2, path, resources));
        }
        let all: Vec<Served> = self.served.values().flatten().cloned().collect();
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "definitions": schemas::definitions(Style::V2, &all, &roots(&all)),
            "securityDefinitions": {"BearerToken": {
                "type": "apiKey", "in": "header", "name": "authorization",
                "description": "Bearer Token authentication",
            }},
            "security": [{"BearerToken": []}],
        })
    }
}

/// `api/v1` or `apis/apps/v1`.
fn path_of(kind: &GroupVersionKind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

/// The names of the definitions that operations refer to, without lists.
fn roots(resources: &[Served]) -> BTreeSet<String> {
    let common = ["APIResourceList", "DeleteOptions", "ListMeta", "ObjectMeta", "Status", "WatchEvent"];
    let mut roots: BTreeSet<String> = common.into_iter().map(operations::meta).collect();
    for resource in resources {
        roots.insert(operations::definition_of(resource, &resource.kind));
        let kinds = resource.subresources.iter().filter_map(|s| s.kind.as_ref());
        roots.extend(kinds.map(|kind| operations::definition_of(resource, kind)));
    }
    roots
}

/// JSON objects are built by hand here: a shorthand.
fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

#[cfg(test)]
mod tests;
