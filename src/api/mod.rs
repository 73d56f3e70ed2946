//! What an object of the API is: identity, metadata, schema, selectors, quantities, errors.
//!
//! Generic code handles objects as [`serde_json::Value`]; what is stored and served is the canonical
//! JSON of an [`Object`]. A request body goes through [`decode`], then its kind's [`Schema`]: `check`
//! (types, unknown and duplicate fields), `default`. Everything a client can do wrong becomes a
//! [`Status`] with upstream's reason and text.

pub mod cron;
pub mod csr;
pub mod decode;
mod defaults;
pub mod duration;
pub mod field;
pub mod identity;
pub mod meta;
pub mod names;
pub mod object;
pub mod openapi;
pub mod pod_requests;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod scheduling;
pub mod schema;
pub mod selector;
pub mod status;

pub use duration::go_duration;
pub use field::{FieldError, Path};
pub use identity::{GroupKind, GroupResource, GroupVersionKind, GroupVersionResource};
pub use meta::{Meta, MetaMut};
pub use object::Object;
pub use quantity::Quantity;
pub use schema::{Checked, FieldValidation, Schema, Schemas};
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Reason, Status};
