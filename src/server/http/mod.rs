//! HTTP: what comes over the wire, until a handler has it.

pub use super::request_info;
