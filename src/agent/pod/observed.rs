//! What the runtime knows of one pod, ordered for decisions.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::labels;
use crate::runtime::spec::{ContainerState, ContainerStatus, SandboxStatus};

/// The newest sandbox of a pod and its containers by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The newest sandbox.
    pub sandbox: Option<SandboxStatus>,
    /// Its containers, newest attempt first.
    pub containers: BTreeMap<String, Vec<ContainerStatus>>,
    /// Termination messages by container id.
    pub messages: BTreeMap<String, String>,
    /// When containers ended, by id, on the time line of [`crate::agent::steady`].
    pub ends: BTreeMap<String, Timestamp>,
}

impl Observed {
    /// Orders a sandbox's containers.
    pub(crate) fn new(sandbox: Option<SandboxStatus>) -> Self {
        let mut containers: BTreeMap<String, Vec<ContainerStatus>> = BTreeMap::new();
        for container in sandbox.iter().flat_map(|s| &s.containers) {
            if let Some(name) = container.labels.get(labels::CONTAINER_NAME) {
                containers.entry(name.clone()).or_default().push(container.clone());
            }
        }
        for attempts in containers.values_mut() {
            attempts.sort_by_key(|c| std::cmp::Reverse((labels::attempt(&c.labels), c.created_at)));
        }
        Self { sandbox, containers, messages: BTreeMap::new(), ends: BTreeMap::new() }
    }

    /// Leaves a container out.
    pub(crate) fn forget(&mut self, id: &str) {
        for attempts in self.containers.values_mut() {
            attempts.retain(|c| c.id != id);
        }
        self.containers.retain(|_, attempts| !attempts.is_empty());
    }

    /// The newest attempt of a container.
    pub(crate) fn newest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.get(name)?.first()
    }

    /// The attempt before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.get(name)?.get(1)
    }

    /// When a container ended, for back-offs.
    pub(crate) fn ended_at(&self, container: &ContainerStatus) -> Timestamp {
        self.ends.get(&container.id).copied().unwrap_or_else(|| finished(container))
    }

    /// The sandbox exists and its containers can run.
    pub(crate) fn ready(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|s| s.ready)
    }

    /// Containers that run now.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&str, &ContainerStatus)> {
        self.containers
            .iter()
            .filter_map(|(name, all)| all.first().map(|c| (name.as_str(), c)))
            .filter(|(_, c)| c.state == ContainerState::Running)
    }
}

/// Milliseconds since the epoch as a timestamp; the epoch if out of range.
pub(crate) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When a container ended, as far as is known.
pub(crate) fn finished(container: &ContainerStatus) -> Timestamp {
    timestamp(container.finished_at.unwrap_or(container.created_at))
}
