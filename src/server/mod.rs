//! The control plane: registry, HTTP, authentication, admission, scheduler, controllers.

pub mod addons;
pub mod patch;
