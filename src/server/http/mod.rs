//! HTTP: what comes over the wire, until a handler has it.

pub use crate::server::request_info;
