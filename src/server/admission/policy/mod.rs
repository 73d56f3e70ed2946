//! ValidatingAdmissionPolicies: expressions that requests have to fulfil.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>. A policy says what is
//! asked ([`definition`]), its bindings where, with which parameters ([`params`]) and what a failure means. Both are
//! compiled when the first request after their change comes, and cost nothing when there are none.

mod definition;
mod evaluate;
mod params;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::Attributes;
use super::matching::{Asking, Objects, Scene};
use crate::api::{GroupResource, Reason, Status};
use crate::server::auth::Authorizer;
use crate::server::reader::Reader;
use crate::server::registry::Resource;
use definition::{Binding, Policy};
use evaluate::Denial;

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";

/// The policies of the cluster.
pub struct Policies {
    set: ArcSwap<Set>,
    authorizer: Arc<Authorizer>,
}

/// The policies as they were at a revision of theirs, and one of their bindings'.
#[derive(Default)]
struct Set {
    revisions: Option<(u64, u64)>,
    policies: Vec<Policy>,
}

/// A request that is refused.
struct Refusal {
    policy: String,
    /// None if the policy itself cannot be used.
    binding: Option<String>,
    denial: Denial,
}

impl Policies {
    /// The policies that `reader` has; it also answers what expressions ask of `authorizer`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { set: ArcSwap::default(), authorizer: Arc::new(Authorizer::new(reader)) }
    }

    fn now(&self, reader: &dyn Reader) -> Arc<Set> {
        let revisions = reader.revision(POLICIES).zip(reader.revision(BINDINGS));
        let set = self.set.load();
        if revisions.is_some() && set.revisions == revisions {
            return Arc::clone(&set);
        }
        let policies = definition::compile(&reader.list(POLICIES, None), &reader.list(BINDINGS, None));
        let set = Arc::new(Set { revisions, policies });
        self.set.store(Arc::clone(&set));
        set
    }

    /// Asks all policies that are bound and concerned.
    ///
    /// # Errors
    /// What the first that refuses says.
    pub fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let set = self.now(attributes.reader);
        let Some(asking) = Asking::of(attributes).filter(|_| !set.policies.is_empty()) else { return Ok(()) };
        let objects = (attributes.object.as_deref(), attributes.old);
        let mut outcome = Outcome::default();
        for policy in &set.policies {
            self.ask(policy, &asking, objects, &mut outcome)?;
        }
        attributes.warnings.append(&mut outcome.warnings);
        match outcome.refusal {
            Some(refusal) => Err(refusal.status(attributes)),
            None => Ok(()),
        }
    }

    fn ask(
        &self,
        policy: &Policy,
        asking: &Asking<'_>,
        objects: Objects<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Status> {
        let resource = match policy.criteria.matches(asking, objects) {
            Ok(Some(resource)) => resource,
            Ok(None) => return Ok(()),
            Err(status) => {
                outcome.fail(policy, None, format!("failed to configure policy: {status}"));
                return Ok(());
            }
        };
        for binding in &policy.bindings {
            let concerned = binding
                .criteria
                .as_ref()
                .map_or(Ok(true), |criteria| criteria.matches(asking, objects).map(|found| found.is_some()));
            let params = match concerned {
                Ok(false) => continue,
                Ok(true) => params::of(policy, binding, asking),
                Err(status) => Err(status.message),
            };
            match params {
                Err(why) => {
                    outcome.fail(policy, Some(binding), format!("failed to configure binding: {why}"));
                }
                Ok(params) => {
                    for param in params {
                        let denials = self.evaluate(policy, asking, resource, objects, param.as_ref())?;
                        denials.into_iter().for_each(|denial| outcome.act(policy, binding, denial));
                    }
                }
            }
        }
        Ok(())
    }

    fn evaluate(
        &self,
        policy: &Policy,
        asking: &Asking<'_>,
        resource: &Resource,
        objects: Objects<'_>,
        param: Option<&Value>,
    ) -> Result<Vec<Denial>, Status> {
        let mut scene = Scene::of(asking, resource, &self.authorizer, objects)?;
        if !asking.namespace.is_empty() && !asking.is_namespace() {
            let found = asking.reader.get("namespaces", None, asking.namespace);
            let missing = || Status::not_found(&GroupResource::new("", "namespaces"), asking.namespace);
            scene.set_namespace(found.ok_or_else(missing)?.value());
        }
        Ok(evaluate::evaluate(policy, &scene, param))
    }
}

/// What becomes of a request.
#[derive(Default)]
struct Outcome {
    warnings: Vec<String>,
    /// The first is told.
    refusal: Option<Refusal>,
}

impl Outcome {
    fn refuse(&mut self, policy: &Policy, binding: Option<&Binding>, denial: Denial) {
        let (policy, binding) = (policy.name.clone(), binding.map(|b| b.name.clone()));
        self.refusal.get_or_insert(Refusal { policy, binding, denial });
    }

    /// The policy cannot be used; its failure policy decides.
    fn fail(&mut self, policy: &Policy, binding: Option<&Binding>, why: String) {
        if policy.fail {
            self.refuse(policy, binding, Denial::error(why));
        }
    }

    /// Does with a denial what the binding says.
    fn act(&mut self, policy: &Policy, binding: &Binding, denial: Denial) {
        let (name, bound, why) = (&policy.name, &binding.name, &denial.message);
        if binding.warn && !denial.always {
            self.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {why}"
            ));
        }
        if binding.audit {
            tracing::info!(policy = %name, binding = %bound, %why, "a request failed a policy");
        }
        if binding.deny || denial.always {
            self.refuse(policy, Some(binding), denial);
        }
    }
}

impl Refusal {
    fn status(self, attributes: &Attributes<'_>) -> Status {
        let bound = self.binding.map(|b| format!(" with binding '{b}'")).unwrap_or_default();
        let why = format!(
            "ValidatingAdmissionPolicy '{}'{bound} denied request: {}",
            self.policy, self.denial.message
        );
        let mut status = attributes.forbidden(&why).cause("", why.clone(), "");
        status.reason = self.denial.reason;
        status.code = match self.denial.reason {
            Reason::Forbidden => 403,
            Reason::Unauthorized => 401,
            Reason::RequestEntityTooLarge => 413,
            _ => 422,
        };
        status
    }
}
