//! HTTP: what comes over the wire, until an object is read or written, and the way back.
//!
//! [`listener`] accepts connections, [`chain`] runs every request through one filter chain, [`route`]
//! finds who answers it. Handlers take no part in authentication, authorisation or error encoding.

pub mod api;
mod body;
mod chain;
mod decode;
mod discovery;
mod evict;
mod health;
mod indent;
mod limit;
mod list;
pub mod listener;
mod metrics;
mod negotiate;
mod openapi;
mod params;
mod patch;
mod proxy;
mod read;
mod render;
mod review;
mod route;
mod scale;
mod service;
mod special;
mod strict;
mod table;
mod usage;
mod watch;
mod write;

pub use super::request_info;
pub use api::Api;
pub use body::{Body, BoxError};
pub use service::ApiService;
