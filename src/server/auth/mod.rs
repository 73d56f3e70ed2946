//! Who a request is from, and what they may do.

pub mod user;
