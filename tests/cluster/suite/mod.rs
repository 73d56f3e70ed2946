//! All cluster tests, by what they show.

mod errors;
mod images;
mod install;
mod kubectl;
mod pods;
mod restart;
mod services;

use crate::{Alone, Shared};

/// Tests that share one cluster.
pub fn shared() -> Vec<(&'static str, Shared)> {
    [pods::SHARED, services::SHARED, kubectl::SHARED, images::SHARED, errors::SHARED].concat()
}

/// Tests that make their own.
pub fn alone() -> Vec<(&'static str, Alone)> {
    [restart::ALONE, errors::ALONE, install::ALONE].concat()
}
