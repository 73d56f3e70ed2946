//! OpenAPI v2 and v3 documents from schemas and a list of served resources.

use super::identity::GroupVersionKind;
use super::schema::Schema;

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
    pub schema: Schema,
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

/// The version documents claim to describe, and the resources they are made of.
#[derive(Clone, Debug)]
pub struct OpenApi {
    version: String,
    served: Vec<Served>,
}

impl OpenApi {
    /// Documents of these resources; `version` is the server's, as in `v1.36.0`. Costs nothing yet.
    pub fn new(version: impl Into<String>, served: Vec<Served>) -> Self {
        Self {
            version: version.into(),
            served,
        }
    }

    /// `/openapi/v3`: the paths of the documents with the hash of each.
    pub fn v3_index(&self) -> Vec<u8> {
        let _ = (&self.version, &self.served);
        todo!()
    }

    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/apps/v1`: JSON of one group version; `None` if nothing is served there.
    /// `path` is what follows `/openapi/v3/`.
    pub fn v3(&self, path: &str) -> Option<Vec<u8>> {
        let _ = path;
        todo!()
    }

    /// `/openapi/v2`: JSON of all.
    pub fn v2(&self) -> Vec<u8> {
        todo!()
    }
}
