//! Which kinds the API serves, for controllers that work on all of them.

use kube::Client;
use kube::api::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

use super::Error;

/// A served kind.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Group, preferred version, kind and plural name.
    pub resource: ApiResource,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Objects can be listed and watched.
    pub watchable: bool,
    /// Objects can be deleted.
    pub deletable: bool,
    /// All objects of a namespace can be deleted at once.
    pub collection: bool,
}

impl Kind {
    /// `plural` or `plural.group`.
    pub fn name(&self) -> String {
        let r = &self.resource;
        if r.group.is_empty() { r.plural.clone() } else { format!("{}.{}", r.plural, r.group) }
    }
}

/// Asks the API for all kinds in their preferred versions.
pub async fn kinds(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .map_err(Error::api("discovering the served kinds"))?;
    let mut kinds = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let can = |verb| capabilities.supports_operation(verb);
            kinds.push(Kind {
                namespaced: capabilities.scope == Scope::Namespaced,
                watchable: can(verbs::LIST) && can(verbs::WATCH),
                deletable: can(verbs::DELETE),
                collection: can(verbs::DELETE_COLLECTION),
                resource,
            });
        }
    }
    Ok(kinds)
}
