//! kedge: Kubernetes for small machines, in one executable.
#![deny(unsafe_code)]

pub mod network;
pub mod runtime;
pub mod server;
pub mod supervisor;
