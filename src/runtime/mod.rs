//! Containers and images, in-process: what containerd and runc are elsewhere.

pub mod images;
pub mod spec;
