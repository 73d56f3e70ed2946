//! The control plane: registry, HTTP, authentication, admission, scheduler, controllers.

pub mod addons;
pub mod admission;
pub mod auth;
pub mod cache;
pub mod http;
pub mod objects;
pub mod patch;
pub mod reader;
pub mod registry;
pub mod request_info;
//! The control plane.

pub mod controllers;
pub mod scheduler;
