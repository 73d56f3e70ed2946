//! CustomResourceDefinitions: kinds that users add while the server runs.
//!
//! ```text
//! definition written -> DefinitionStrategy   checks it (validate), keeps the status
//!                    -> task::run            accepts names, establishes; empties the kind when it goes
//! status committed   -> Served               entries into registry::Live, a Kind into the cache
//! request            -> the generic handlers, by the entry: Instances (strategy), Version (registry::Custom)
//! ```
//!
//! A definition is served from the commit on that makes it Established, so who reads that can use it. Schemas are
//! compiled at the first use.

mod columns;
mod conditions;
mod definition;
mod instances;
mod jsonpath;
pub mod schema;
mod served;
mod strategy;
mod task;
mod validate;
mod version;

pub use definition::DEFINITIONS;
pub use served::{DefinitionFeed, Served};
pub use strategy::DefinitionStrategy;
pub use task::run;
