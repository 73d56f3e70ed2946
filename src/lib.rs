//! kedge: Kubernetes for small machines, in one executable.
#![deny(unsafe_code)]

pub mod runtime;
pub mod store;
pub mod network;
pub mod supervisor;
