//! kedge: Kubernetes for small machines, in one executable.
#![deny(unsafe_code)]

pub mod agent;
pub mod api;
pub mod config;
pub mod network;
pub mod runtime;
pub mod supervisor;
