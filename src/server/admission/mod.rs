//! Admission: what is checked and filled in beyond a kind's own rules, because it depends on other objects.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>. Each plugin is a file;
//! [`Chain::standard`] is their order.

mod asked;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_preset;
mod pod_security;
mod policy;
mod priority;
pub mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes;
#[cfg(test)]
mod testing;
mod webhook;

use std::sync::Arc;

use serde_json::Value;

use crate::api::{Meta, Status};
use crate::server::auth::user::User;
use crate::server::reader::Reader;
use crate::server::registry::Resource;
pub use asked::{Asked, Face, Sent, Shown};
use policy::Policies;
pub use priority::system_classes;
use webhook::Webhooks;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed, or one of its subresources is.
    Update,
    /// It is deleted.
    Delete,
    /// A stream to it is opened: exec, attach, port-forward, proxy.
    Connect,
}

/// A request, as plugins see it.
pub struct Attributes<'a> {
    /// What it does.
    pub operation: Operation,
    /// To which kind.
    pub resource: &'a Resource,
    /// To which part of the object.
    pub subresource: Option<&'a str>,
    /// The request's namespace, if the kind is namespaced.
    pub namespace: Option<&'a str>,
    /// The object's name; empty while it is to be generated.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// Nothing will be committed.
    pub dry_run: bool,
    /// The object as it will be; for a subresource of another kind, that kind's.
    pub object: Option<&'a mut Value>,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// The newest committed objects.
    pub reader: &'a dyn Reader,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// Events about the object, to be recorded when it is committed.
    pub notices: Vec<Notice>,
    /// The request as its client sees it; without it webhooks are not asked.
    pub asked: Option<Asked<'a>>,
}

/// An event about an object that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The plugin, as the source of the event.
    pub component: &'static str,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Attributes<'_> {
    /// The request is about this resource itself, not about a subresource: `pods`, `storageclasses.storage.k8s.io`.
    fn is(&self, resource: &str) -> bool {
        self.subresource.is_none() && self.is_or_below(resource)
    }

    /// The request is about this resource or a subresource of it.
    fn is_or_below(&self, resource: &str) -> bool {
        self.resource.group_resource().to_string() == resource
    }

    /// 403 with `why`, about the object; one without a name yet is called by its `generateName`.
    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let meta = self.object.as_deref().map(Meta::of);
        let candidates = [Some(self.name), meta.map(Meta::name), meta.map(Meta::generate_name)];
        let name = candidates.into_iter().flatten().find(|n| !n.is_empty()).unwrap_or("Unknown!");
        Status::forbidden(&self.resource.group_resource(), name, why)
    }
}

/// One rule. Both hooks do nothing unless implemented.
pub trait Plugin: Send + Sync {
    /// Changes the object, or refuses it.
    ///
    /// # Errors
    /// Why the request is refused.
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let _ = attributes;
        Ok(())
    }

    /// Refuses the object as all plugins and the kind's strategy made it, or warns of it.
    ///
    /// # Errors
    /// Why the request is refused.
    fn validate(&self, attributes: &Attributes<'_>, warnings: &mut Vec<String>) -> Result<(), Status> {
        let _ = (attributes, warnings);
        Ok(())
    }
}

/// Equal, where nothing and empty are the same.
fn same(a: &Value, b: &Value) -> bool {
    let empty = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    a == b || (empty(a) && empty(b))
}

/// All plugins, in order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    policies: Option<Policies>,
    webhooks: Option<Webhooks>,
    /// Who writes next where quotas are; see [`quota`].
    pub turns: quota::Turns,
}

impl Chain {
    /// The plugins upstream has on by default, in its order, as far as kedge has what they are about;
    /// those for certificates are in the strategy of their kind. And PodPreset, where upstream had it.
    pub fn standard() -> Self {
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(pod_preset::PodPreset),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(default_class::STORAGE),
            Box::new(storage::InUseProtection),
            Box::new(storage::ClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(default_class::INGRESS),
        ];
        Self { plugins, policies: None, webhooks: None, turns: quota::Turns::default() }
    }

    /// With the policies and webhooks that `reader` has, which come after all plugins.
    #[must_use]
    pub fn extended(self, reader: &Arc<dyn Reader>) -> Self {
        let policies = Some(policy::Policies::new(Arc::clone(reader)));
        Self { policies, webhooks: Some(Webhooks::new(Arc::clone(reader))), ..self }
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// What the first plugin that refuses says.
    pub async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        service_account::wait_for_default(attributes).await;
        self.plugins.iter().try_for_each(|p| p.mutate(attributes))?;
        let Some(webhooks) = &self.webhooks else { return Ok(()) };
        let mut rounds = webhook::Rounds::default();
        webhooks.mutate(attributes, &mut rounds).await?;
        if rounds.again() {
            self.plugins.iter().try_for_each(|p| p.mutate(attributes))?;
            webhooks.mutate(attributes, &mut rounds).await?;
        }
        Ok(())
    }

    /// How webhooks do, in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        self.webhooks.iter().for_each(|webhooks| webhooks.write_metrics(out));
    }

    /// Lets policies and webhooks alone change and refuse what is posted to a subresource and not stored.
    ///
    /// # Errors
    /// What the first that refuses says.
    pub async fn ask(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(webhooks) = &self.webhooks {
            let mut rounds = webhook::Rounds::default();
            webhooks.mutate(attributes, &mut rounds).await?;
            if rounds.again() {
                webhooks.mutate(attributes, &mut rounds).await?;
            }
        }
        self.validate_extended(attributes).await
    }

    async fn validate_extended(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(policies) = &self.policies {
            policies.validate(attributes)?;
        }
        match &self.webhooks {
            Some(webhooks) => webhooks.validate(attributes).await,
            None => Ok(()),
        }
    }

    /// Asks every plugin whether the finished object may be committed. What they warn of is in
    /// the attributes' `warnings` then. Quotas are asked later, with the commit.
    ///
    /// # Errors
    /// What the first plugin that refuses says.
    pub async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let mut warnings = std::mem::take(&mut attributes.warnings);
        let result = self.plugins.iter().try_for_each(|p| p.validate(attributes, &mut warnings));
        attributes.warnings = warnings;
        result?;
        self.validate_extended(attributes).await
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::standard()
    }
}
