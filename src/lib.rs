//! kedge: Kubernetes for small machines, in one executable.
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod agent;
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod network;
pub mod runtime;
pub mod server;
pub mod store;
pub mod supervisor;
