//! Whether somebody is concerned by a request, and in which version of the object.

use std::sync::Arc;

use serde_json::Value;

use super::Asking;
use super::rules::Rule;
use crate::api::{GroupResource, LabelSelector, Meta, Status};
use crate::server::admission::Operation;
use crate::server::registry::Resource;

/// The object as it will be, and as it is.
pub(in crate::server::admission) type Objects<'a> = (Option<&'a Value>, Option<&'a Value>);

/// What requests have to be like.
pub(in crate::server::admission) struct Criteria {
    /// `None` is all requests.
    rules: Option<Vec<Rule>>,
    /// Those of these rules are none of them.
    excluded: Vec<Rule>,
    /// Other versions of the resources in the rules count too.
    equivalent: bool,
    /// A selector that cannot be read is an error of the requests it would be asked of.
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

fn rules(list: &Value) -> Vec<Rule> {
    list.as_array().into_iter().flatten().map(Rule::of).collect()
}

impl Criteria {
    /// Those of a webhook.
    pub(in crate::server::admission) fn of_webhook(webhook: &Value) -> Self {
        Self { rules: Some(rules(&webhook["rules"])), ..Self::of_policy(webhook) }
    }

    /// `MatchResources` of a policy or a binding.
    pub(in crate::server::admission) fn of_policy(resources: &Value) -> Self {
        let selector = |field: &str| match &resources[field] {
            Value::Null => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_value(selector).map_err(|e| e.to_string()),
        };
        Self {
            rules: Some(rules(&resources["resourceRules"])).filter(|rules| !rules.is_empty()),
            excluded: rules(&resources["excludeResourceRules"]),
            equivalent: resources["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The resource the rules name, if the request is like this: its own, or another version of it.
    ///
    /// # Errors
    /// The namespace is missing, or a selector cannot be read.
    pub(in crate::server::admission) fn matches<'a>(
        &self,
        asking: &'a Asking<'_>,
        objects: Objects<'_>,
    ) -> Result<Option<&'a Arc<Resource>>, Status> {
        let resource = match &self.rules {
            None => Some(asking.entry),
            Some(rules) => self.named(rules, asking),
        };
        let Some(resource) = resource.filter(|_| self.named(&self.excluded, asking).is_none()) else {
            return Ok(None);
        };
        let selected = self.selects_namespace(asking, objects.0)? && self.selects_object(asking, objects)?;
        Ok(Some(resource).filter(|_| selected))
    }

    /// The resource of the request if a rule is about it, else the first other version of it that one is about.
    fn named<'a>(&self, rules: &[Rule], asking: &'a Asking<'_>) -> Option<&'a Arc<Resource>> {
        if rules.iter().any(|rule| rule.matches(asking, asking.entry)) {
            return Some(asking.entry);
        }
        // Earlier rules come first, whichever version they name.
        let others = |rule: &Rule| asking.equivalents().iter().find(|other| rule.matches(asking, other));
        rules.iter().filter(|_| self.equivalent).find_map(others)
    }

    fn selects_namespace(&self, asking: &Asking<'_>, object: Option<&Value>) -> Result<bool, Status> {
        if asking.namespace.is_empty() && !asking.is_namespace() {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(asking.operation, Operation::Create | Operation::Update);
        if asking.is_namespace() && asking.subresource.is_empty() && written {
            let labels = object.map(Meta::of);
            return Ok(selector.matches(|key| labels.and_then(|meta| meta.label(key))));
        }
        let found = asking.reader.get("namespaces", None, asking.namespace);
        let missing = || Status::not_found(&GroupResource::new("", "namespaces"), asking.namespace);
        let namespace = found.ok_or_else(missing)?;
        Ok(selector.matches(|key| namespace.label(key)))
    }

    fn selects_object(&self, asking: &Asking<'_>, (object, old): Objects<'_>) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let selected = |object: &Value| selector.matches(|key| Meta::of(object).label(key));
        Ok([object, old].into_iter().filter_map(|o| asking.labelled(o)).any(selected))
    }
}
