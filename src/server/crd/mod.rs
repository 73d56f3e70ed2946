//! CustomResourceDefinitions: kinds that users add while the server runs.

pub mod schema;
