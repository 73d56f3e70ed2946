//! What every controller is made of: shared informers, a work queue, an event recorder, and helpers
//! for owners, labels and patches. Nothing here knows a particular controller.

pub mod discovery;
pub mod informer;
pub mod informers;
pub mod meta;
pub mod patch;
pub mod pod;
pub mod podcontrol;
pub mod quantity;
pub mod queue;
pub mod recorder;
pub mod revisions;

pub use crate::api::scheduling::{node_selectors, tolerations};

use std::sync::Arc;

use kube::Client;

pub use informer::{Change, Informer, Key, Subscription};
pub use informers::Informers;
pub use queue::{Next, Queue};
pub use recorder::Recorder;

/// Why a reconciliation failed. The work queue tries again with back-off, whatever the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or could not be reached.
    #[error("{doing}: {source}")]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// The API's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object does not hold what it must.
    #[error("{0}")]
    Invalid(String),
    /// The work is not finished and shall be tried again with back-off.
    #[error("{0}")]
    Unfinished(String),
}

impl Error {
    /// A function for `map_err` that says what was attempted.
    pub fn api(doing: &'static str) -> impl Fn(kube::Error) -> Error {
        move |source| Error::Api { doing, source: Box::new(source) }
    }

    /// The HTTP status code of the API's refusal; 0 when there was none.
    pub fn code(&self) -> u16 {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.code,
                _ => 0,
            },
            _ => 0,
        }
    }

    /// The machine-readable reason of the API's refusal.
    pub fn reason(&self) -> &str {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => &status.reason,
                _ => "",
            },
            _ => "",
        }
    }

    /// The API's own words when it refused, else this error's.
    pub fn message(&self) -> String {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Somebody else wrote the object in between.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// The namespace is on its way out and takes nothing new.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status
                    .details
                    .as_ref()
                    .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Treats "not found" as success: somebody else was faster.
pub fn ignore_not_found(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}

/// What a controller works with.
#[derive(Clone)]
pub struct Context {
    /// The controller's own client: RBAC and audit see its identity.
    pub client: Client,
    /// Informers shared by all controllers.
    pub informers: Arc<Informers>,
    /// Records events under the controller's name.
    pub recorder: Recorder,
    /// Settings.
    pub config: Arc<super::config::ControllerConfig>,
}
