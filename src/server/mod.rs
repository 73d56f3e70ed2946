//! The control plane.

pub mod controllers;
pub mod scheduler;
