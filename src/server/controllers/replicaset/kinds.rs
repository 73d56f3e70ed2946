//! What ReplicaSet and ReplicationController have in common.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::status::{Counts, Failure};
use crate::server::controllers::kit::meta::{Labels, Matcher};

/// A kind that keeps copies of a pod.
pub trait Replicated:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + PartialEq
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Selects its pods.
    fn matcher(&self) -> Matcher;
    /// How many pods are wanted.
    fn replicas(&self) -> i32;
    /// What a pod looks like.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// How long a pod must be ready to be available.
    fn min_ready_seconds(&self) -> i32;
    /// The failure its status speaks of.
    fn failure(&self) -> Option<Failure>;
    /// Writes counts into the status.
    fn set_counts(&mut self, counts: &Counts);

    /// The labels of the template.
    fn template_labels(&self) -> Labels {
        self.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()).unwrap_or_default()
    }
}

impl Replicated for ReplicaSet {
    fn matcher(&self) -> Matcher {
        Matcher::new(self.spec.as_ref().map(|s| &s.selector))
    }
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
    }
    fn failure(&self) -> Option<Failure> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        let c = conditions.iter().find(|c| c.type_ == "ReplicaFailure")?;
        Some(Failure {
            reason: c.reason.clone().unwrap_or_default(),
            message: c.message.clone().unwrap_or_default(),
            since: c.last_transition_time.clone()?,
        })
    }
    fn set_counts(&mut self, counts: &Counts) {
        let old = self.status.take().unwrap_or_default();
        let mut conditions = old.conditions.unwrap_or_default();
        conditions.retain(|c| c.type_ != "ReplicaFailure");
        conditions.extend(counts.failure.as_ref().map(|f| ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(f.reason.clone()),
            message: Some(f.message.clone()),
            last_transition_time: Some(f.since.clone()),
        }));
        self.status = Some(ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: positive(counts.fully_labeled),
            ready_replicas: positive(counts.ready),
            available_replicas: positive(counts.available),
            terminating_replicas: Some(counts.terminating),
            observed_generation: self.metadata.generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        });
    }
}

impl Replicated for ReplicationController {
    fn matcher(&self) -> Matcher {
        Matcher::of_labels(&self.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default())
    }
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
    }
    fn failure(&self) -> Option<Failure> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        let c = conditions.iter().find(|c| c.type_ == "ReplicaFailure")?;
        Some(Failure {
            reason: c.reason.clone().unwrap_or_default(),
            message: c.message.clone().unwrap_or_default(),
            since: c.last_transition_time.clone()?,
        })
    }
    fn set_counts(&mut self, counts: &Counts) {
        let old = self.status.take().unwrap_or_default();
        let mut conditions = old.conditions.unwrap_or_default();
        conditions.retain(|c| c.type_ != "ReplicaFailure");
        conditions.extend(counts.failure.as_ref().map(|f| ReplicationControllerCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(f.reason.clone()),
            message: Some(f.message.clone()),
            last_transition_time: Some(f.since.clone()),
        }));
        self.status = Some(ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: positive(counts.fully_labeled),
            ready_replicas: positive(counts.ready),
            available_replicas: positive(counts.available),
            observed_generation: self.metadata.generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        });
    }
}

/// Upstream leaves zeros out.
fn positive(count: i32) -> Option<i32> {
    (count > 0).then_some(count)
}
