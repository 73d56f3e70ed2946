//! Webhooks, compiled from their configurations.

use std::sync::Arc;

use serde_json::Value;

use super::client::Endpoint;
use crate::api::Object;
use crate::server::admission::matching::{Conditions, Criteria};
use crate::server::registry::strategies::webhooks::VARIABLES;

/// The kinds of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    /// The resource of the configurations.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            Self::Validating => "validatingwebhookconfigurations.admissionregistration.k8s.io",
        }
    }
}

/// What a hook has to be asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// One webhook.
pub(super) struct Hook {
    pub(super) name: String,
    /// Tells it apart from all others of its kind.
    pub(super) id: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// A failure to ask it is ignored.
    pub(super) ignore_failure: bool,
    /// Seconds.
    pub(super) timeout: u64,
    pub(super) side_effects: Option<String>,
    /// None that is known here.
    pub(super) review: Option<ReviewVersion>,
    /// It may be asked again when others changed the object after it.
    pub(super) reinvoke: bool,
    pub(super) endpoint: Arc<Endpoint>,
}

/// All hooks of these configurations, which are in the order of their names. Endpoints that `before` has stay
/// open.
pub(super) fn compile(kind: Kind, configurations: &[Arc<Object>], before: &[Arc<Hook>]) -> Vec<Arc<Hook>> {
    let mut hooks = Vec::new();
    for configuration in configurations {
        let value = configuration.value();
        for (index, webhook) in value["webhooks"].as_array().into_iter().flatten().enumerate() {
            hooks.push(Arc::new(Hook::of(kind, configuration.name(), index, webhook, before)));
        }
    }
    hooks
}

impl Hook {
    fn of(kind: Kind, configuration: &str, index: usize, webhook: &Value, before: &[Arc<Hook>]) -> Self {
        let text = |field: &str| webhook[field].as_str().unwrap_or_default();
        let config = &webhook["clientConfig"];
        let known = before.iter().find(|h| h.endpoint.is_of(config)).map(|h| Arc::clone(&h.endpoint));
        let name = text("name").to_owned();
        let prefix = if kind == Kind::Mutating { "mutating" } else { "validating" };
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        Self {
            id: format!("{prefix}-{configuration}/{name}/{index}"),
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::of(&webhook["matchConditions"], &VARIABLES),
            ignore_failure: text("failurePolicy") == "Ignore",
            timeout: webhook["timeoutSeconds"].as_u64().unwrap_or(10),
            side_effects: webhook["sideEffects"].as_str().map(str::to_owned),
            review: versions.filter_map(Value::as_str).find_map(|v| match v {
                "v1" => Some(ReviewVersion::V1),
                "v1beta1" => Some(ReviewVersion::V1Beta1),
                _ => None,
            }),
            reinvoke: text("reinvocationPolicy") == "IfNeeded",
            endpoint: known.unwrap_or_else(|| Arc::new(Endpoint::of(config))),
            name,
        }
    }
}
