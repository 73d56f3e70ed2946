//! What webhooks and policies have in common: which requests concern them, and what expressions see of those.

mod asking;
mod conditions;
mod criteria;
mod request;
mod rules;
mod scene;

pub(in crate::server::admission) use asking::Asking;
pub(in crate::server::admission) use conditions::Conditions;
pub(in crate::server::admission) use criteria::{Criteria, Objects};
pub(in crate::server::admission) use request::request;
pub(in crate::server::admission) use scene::Scene;
