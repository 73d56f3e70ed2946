//! The ways to change an object: JSON patch, merge patch, strategic merge patch, server-side apply; and who owns
//! which field.
//!
//! Everything works on JSON values and the kind's [`Schema`]; nothing here knows a kind. What a patch makes of an
//! object is checked and defaulted by the caller like any other body.

mod apply;
mod declared;
mod fieldset;
mod json;
pub mod managed;
mod managers;
mod strategic;
mod typed;

#[cfg(test)]
mod tests;

pub use apply::apply;
pub use declared::{declared, go, go_type};
pub use json::{json, merge};
pub use strategic::strategic;
