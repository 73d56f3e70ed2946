//! server
pub mod addons;
