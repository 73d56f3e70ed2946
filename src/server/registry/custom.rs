//! What the entry of a custom kind brings along, where built-in kinds have what is in the executable.

use serde_json::Value;

use super::Clock;
use crate::api::Schema;

/// One version of a kind that a CustomResourceDefinition declares.
///
/// Objects of the kind lie in the store in one of its versions; the watch cache has them in the storage
/// version. [`Custom::convert_from_stored`] and [`Custom::convert_to_stored`] are the conversion step between that form and
/// this version's.
pub trait Custom: Send + Sync + 'static {
    /// The types: for decoding, patches, apply.
    ///
    /// # Errors
    /// What is wrong with the definition's schema; upstream's checks refuse such a definition.
    fn schema(&self) -> Result<Schema, String>;

    /// Drops what the schema does not have, and fills in defaults.
    fn settle(&self, object: &mut Value);

    /// The version in which objects are stored.
    fn storage_version(&self) -> &str;

    /// Makes a stored object one of this version. Does nothing to an object that is one already.
    fn convert_from_stored(&self, object: &mut Value);

    /// Makes an object of this version one of the storage version.
    fn convert_to_stored(&self, object: &mut Value);

    /// The titles of the columns of a table.
    fn columns(&self) -> Value;

    /// The cells of an object's row.
    fn cells(&self, object: &Value, clock: &Clock) -> Vec<Value>;

    /// Where the scale lies in an object, if the kind has one.
    fn scale(&self) -> Option<&ScalePaths>;

    /// Texts for `Warning` headers of each request.
    fn warnings(&self) -> &[String];

    /// The definition is being deleted: discovery shows fewer verbs.
    fn is_terminating(&self) -> bool;

    /// The version's `openAPIV3Schema`, for the OpenAPI documents.
    fn document(&self) -> Option<Value>;

    /// Another text whenever [`Custom::document`] is another.
    fn fingerprint(&self) -> String;
}

/// Where the parts of a `scale` subresource lie, as `.spec.replicas`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted replicas.
    pub spec_replicas: String,
    /// The replicas there are.
    pub status_replicas: String,
    /// The selector of the pods, as text.
    pub label_selector: Option<String>,
}
