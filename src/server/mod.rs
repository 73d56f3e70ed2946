//! server

pub mod patch;
