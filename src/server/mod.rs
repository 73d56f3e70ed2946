//! The control plane: registry, HTTP, authentication, admission, scheduler, controllers.
//!
//! [`Server::bind`] opens the store, fills the watch cache, makes certificates and takes the port;
//! [`Server::run`] spawns listener, scheduler and controllers under the supervisor. What runs in this
//! process reaches the API through [`Server::service_as`], past the same filters as requests from
//! the wire.

pub mod addons;
pub mod admission;
pub mod auth;
mod bootstrap;
pub mod cache;
pub mod cel;
pub mod controllers;
pub mod crd;
mod expiry;
pub mod http;
mod lifecycle;
pub mod objects;
pub mod patch;
pub mod reader;
pub mod registry;
pub mod request_info;
pub mod scheduler;
mod service_addresses;

pub use lifecycle::{Error, Server};
