//! Admission webhooks: HTTPS services of the cluster's users that change or refuse what is written.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>. The configurations
//! are compiled ([`hook`]) when the first request after their change comes; a request asks each hook whether it is
//! concerned ([`invocation`]), and those that are get an AdmissionReview ([`review`]) over HTTPS ([`client`]), whose
//! answer is checked ([`response`]) and applied ([`mutating`], [`validating`]).

mod call;
mod client;
mod hook;
mod invocation;
mod metrics;
mod mutating;
mod response;
mod review;
mod validating;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Attributes;
use super::matching::Asking;
use crate::api::Status;
use crate::server::auth::Authorizer;
use crate::server::reader::Reader;
use hook::{Hook, Kind};
pub use mutating::Rounds;

/// How long a request may take: upstream's `requestTimeoutUpperBound`.
const REQUEST: Duration = Duration::from_secs(34);

/// The webhooks of the cluster.
pub struct Webhooks {
    mutating: Compiled,
    validating: Compiled,
    roots: client::SystemRoots,
    authorizer: Arc<Authorizer>,
    metrics: metrics::Metrics,
}

/// The hooks of one kind of configuration, as they were at a revision.
struct Compiled {
    kind: Kind,
    set: ArcSwap<Set>,
}

#[derive(Default)]
struct Set {
    revision: Option<u64>,
    hooks: Vec<Arc<Hook>>,
}

impl Compiled {
    fn new(kind: Kind) -> Self {
        Self { kind, set: ArcSwap::default() }
    }

    /// The hooks as they are now.
    fn now(&self, reader: &dyn Reader) -> Arc<Set> {
        let revision = reader.revision(self.kind.resource());
        let set = self.set.load();
        if revision.is_some() && set.revision == revision {
            return Arc::clone(&set);
        }
        let configurations = reader.list(self.kind.resource(), None);
        let hooks = hook::compile(self.kind, &configurations, &set.hooks);
        let set = Arc::new(Set { revision, hooks });
        self.set.store(Arc::clone(&set));
        set
    }
}

impl Webhooks {
    /// The webhooks whose configurations `reader` has; it also answers what expressions ask of `authorizer`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self {
            mutating: Compiled::new(Kind::Mutating),
            validating: Compiled::new(Kind::Validating),
            roots: client::SystemRoots::default(),
            authorizer: Arc::new(Authorizer::new(reader)),
            metrics: metrics::Metrics::default(),
        }
    }

    /// How they do, in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        self.metrics.write(out);
    }

    /// Lets mutating webhooks change the object.
    ///
    /// # Errors
    /// What the first that refuses says, or why one could not be asked.
    pub async fn mutate(&self, attributes: &mut Attributes<'_>, rounds: &mut Rounds) -> Result<(), Status> {
        let set = self.mutating.now(attributes.reader);
        if set.hooks.is_empty() {
            return Ok(());
        }
        let Some(asking) = Asking::of(attributes) else { return Ok(()) };
        in_time(mutating::dispatch(self, &set.hooks, &asking, attributes, rounds)).await
    }

    /// Asks validating webhooks, all at once.
    ///
    /// # Errors
    /// What one that refuses says, or why one could not be asked.
    pub async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let set = self.validating.now(attributes.reader);
        if set.hooks.is_empty() {
            return Ok(());
        }
        let Some(asking) = Asking::of(attributes) else { return Ok(()) };
        in_time(validating::dispatch(self, &set.hooks, &asking, attributes)).await
    }
}

/// All webhooks together have so long.
async fn in_time(asked: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    let late = |_| {
        Err(Status::timeout(
            "request did not complete within requested timeout - context deadline exceeded",
            0,
        ))
    };
    tokio::time::timeout(REQUEST, asked).await.unwrap_or_else(late)
}
