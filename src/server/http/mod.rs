//! HTTP: what comes over the wire, until a handler has it.

pub mod request_info;
