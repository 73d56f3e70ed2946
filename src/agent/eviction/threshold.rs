//! Signals, thresholds and what crossing one means
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    /// Memory of the machine, in bytes.
    Memory,
    /// Memory that all pods together may have, in bytes.
    PodsMemory,
    /// Space for volumes and logs, in bytes.
    NodeFs,
    /// Inodes for them.
    NodeFsInodes,
    /// Space for images and writable layers, in bytes.
    ImageFs,
    /// Inodes for them.
    ImageFsInodes,
    /// Processes and threads.
    Pids,
}

/// What a node is short of, as its conditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    Memory,
    Disk,
    Pids,
}

impl Signal {
    /// The signal of a flag. `containerfs` is where writable layers are: with the images, as here always,
    /// it is `imagefs` by another name, whose thresholds kubelet gives it too.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "memory.available" => Self::Memory,
            "nodefs.available" => Self::NodeFs,
            "nodefs.inodesFree" => Self::NodeFsInodes,
            "imagefs.available" => Self::ImageFs,
            "imagefs.inodesFree" => Self::ImageFsInodes,
            "pid.available" => Self::Pids,
            _ => return None,
        })
    }

    /// The resource that is starved, as messages name it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::PodsMemory => "memory",
            Self::NodeFs | Self::ImageFs => "ephemeral-storage",
            Self::NodeFsInodes | Self::ImageFsInodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// Whether amounts are bytes.
    pub(super) fn is_bytes(self) -> bool {
        !matches!(self, Self::NodeFsInodes | Self::ImageFsInodes | Self::Pids)
    }

    /// The node's condition that follows.
    pub(super) fn condition(self) -> Condition {
        match self {
            Self::Memory | Self::PodsMemory => Condition::Memory,
            Self::Pids => Condition::Pids,
            _ => Condition::Disk,
        }
    }
}

/// What a signal reads now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    /// What is left.
    pub available: u64,
    /// What there is in all.
    pub capacity: u64,
}

/// All signals that can be read.
pub(super) type Observations = BTreeMap<Signal, Observation>;

/// A limit below which pods are evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Threshold {
    /// What is watched.
    pub signal: Signal,
    /// The limit.
    pub value: config::Threshold,
    /// How long it must have been crossed; zero for a hard one.
    pub grace: Duration,
    /// How much more than the limit must be free again before it counts as met no more.
    pub reclaim: Option<config::Threshold>,
}

/// An amount as a number.
pub(crate) fn amount(value: config::Threshold, capacity: u64) -> u64 {
    match value {
        config::Threshold::Quantity(quantity) => quantity,
        // No disk has so many bytes that the rounding matters.
        config::Threshold::Percentage(percent) => (capacity as f64 * percent / 100.0) as u64,
    }
}

impl Threshold {
    /// Crossed at once, without a grace period.
    pub(super) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }

    /// The limit, where that much is there.
    pub(super) fn limit(&self, capacity: u64) -> u64 {
        amount(self.value, capacity)
    }

    /// Crossed. `reclaimed`: what is to be reclaimed beyond the limit counts too.
    pub(super) fn is_met(&self, observations: &Observations, reclaimed: bool) -> bool {
        let Some(seen) = observations.get(&self.signal) else { return false };
        let more = self.reclaim.filter(|_| reclaimed).map_or(0, |r| amount(r, seen.capacity));
        seen.available < self.limit(seen.capacity).saturating_add(more)
    }
}

/// The thresholds of a configuration: what is said of the machine's memory holds for what pods may have
/// of it too. Those of 0 % and 100 % are off.
pub(super) fn configured(eviction: &config::Eviction) -> Vec<Threshold> {
    let on =
        |v: &config::Threshold| !matches!(v, config::Threshold::Percentage(p) if *p <= 0.0 || *p >= 100.0);
    let make = |name: &String, value: &config::Threshold, grace| {
        let reclaim = eviction.minimum_reclaim.get(name).copied();
        Some(Threshold { signal: Signal::named(name)?, value: *value, grace, reclaim })
    };
    let hard = eviction.hard.iter().filter(|(_, v)| on(v));
    let mut all: Vec<Threshold> = hard.filter_map(|(n, v)| make(n, v, Duration::ZERO)).collect();
    let soft = eviction.soft.iter().filter(|(_, v)| on(v));
    all.extend(
        soft.filter_map(|(n, v)| make(n, v, eviction.soft_grace_period.get(n).copied().unwrap_or_default())),
    );
    let memory = all.iter().find(|t| t.signal == Signal::Memory && t.is_hard()).copied();
    all.extend(memory.map(|t| Threshold { signal: Signal::PodsMemory, ..t }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Threshold::{Percentage, Quantity};

    fn eviction() -> config::Eviction {
        let map =
            |list: &[(&str, config::Threshold)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        config::Eviction {
            hard: map(&[
                ("memory.available", Quantity(100)),
                ("nodefs.available", Percentage(5.0)),
                ("imagefs.available", Percentage(0.0)),
                ("containerfs.available", Percentage(5.0)),
            ]),
            soft: map(&[("memory.available", Quantity(200))]),
            soft_grace_period: [("memory.available".to_owned(), Duration::from_secs(90))].into(),
            minimum_reclaim: map(&[("nodefs.available", Quantity(20))]),
            ..config::Eviction::default()
        }
    }

    #[test]
    fn thresholds_of_a_configuration() {
        let all = configured(&eviction());
        let told: Vec<_> = all.iter().map(|t| (t.signal, t.grace.as_secs(), t.reclaim)).collect();
        assert_eq!(
            told,
            [
                (Signal::Memory, 0, None),
                (Signal::NodeFs, 0, Some(Quantity(20))),
                (Signal::Memory, 90, None),
                (Signal::PodsMemory, 0, None)
            ]
        );
    }

    #[test]
    fn a_threshold_is_met_below_it_and_until_enough_is_reclaimed() {
        let threshold = configured(&eviction())[1];
        let seen =
            |available| Observations::from([(Signal::NodeFs, Observation { available, capacity: 1000 })]);
        for (available, met, unresolved) in
            [(49, true, true), (50, false, true), (69, false, true), (70, false, false)]
        {
            assert_eq!(threshold.is_met(&seen(available), false), met, "{available}");
            assert_eq!(threshold.is_met(&seen(available), true), unresolved, "{available}");
        }
        assert!(!threshold.is_met(&Observations::new(), false), "nothing is known");
    }
}
