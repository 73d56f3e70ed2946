//! Which thresholds have been crossed for how long, and what the node's conditions are: a pure function
//! of what was seen and when (`synchronize` of kubelet's eviction manager).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::threshold::{Condition, Observations, Signal, Threshold};
use crate::agent::orders::Pressure;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Since when a threshold, by its place in the list, has been crossed.
    since: BTreeMap<usize, Instant>,
    /// Those that were acted upon and are not resolved.
    acting: Vec<usize>,
    /// When a condition was last seen.
    seen: BTreeMap<Condition, Instant>,
}

/// What follows from what was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// The node's conditions.
    pub pressure: Pressure,
    /// Thresholds to act upon, the most urgent first.
    pub due: Vec<Threshold>,
}

impl State {
    /// Takes note of what is seen now. Conditions last for `transition` after they were last seen.
    pub(super) fn observe(
        &mut self,
        thresholds: &[Threshold],
        observations: &Observations,
        transition: Duration,
        now: Instant,
    ) -> Decision {
        let met = |(index, threshold): &(usize, &Threshold)| {
            threshold.is_met(observations, false)
                || (self.acting.contains(index) && threshold.is_met(observations, true))
        };
        let met: Vec<usize> = thresholds.iter().enumerate().filter(met).map(|(index, _)| index).collect();
        self.since.retain(|index, _| met.contains(index));
        for index in &met {
            self.since.entry(*index).or_insert(now);
            self.seen.insert(thresholds[*index].signal.condition(), now);
        }
        self.seen.retain(|_, at| now.duration_since(*at) < transition || *at == now);
        let lasted = |index: &usize| now.duration_since(self.since[index]) >= thresholds[*index].grace;
        self.acting = met.into_iter().filter(lasted).collect();
        let mut due: Vec<Threshold> = self.acting.iter().map(|i| thresholds[*i]).collect();
        // Memory before all else: it kills.
        due.sort_by_key(|t| !matches!(t.signal, Signal::Memory | Signal::PodsMemory));
        Decision { pressure: self.pressure(), due }
    }

    fn pressure(&self) -> Pressure {
        let has = |condition| self.seen.contains_key(&condition);
        Pressure { memory: has(Condition::Memory), disk: has(Condition::Disk), pids: has(Condition::Pids) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::eviction::threshold::Observation;
    use crate::config::Threshold::Quantity;

    const TRANSITION: Duration = Duration::from_secs(300);

    fn threshold(signal: Signal, value: u64, grace: u64, reclaim: Option<u64>) -> Threshold {
        let grace = Duration::from_secs(grace);
        Threshold { signal, value: Quantity(value), grace, reclaim: reclaim.map(Quantity) }
    }

    fn seen(signal: Signal, available: u64) -> Observations {
        [(signal, Observation { available, capacity: 1000 })].into()
    }

    #[test]
    fn hard_thresholds_act_at_once_and_their_condition_lasts() {
        let thresholds = [threshold(Signal::Memory, 100, 0, None)];
        let (mut state, start) = (State::default(), Instant::now());
        let mut at = |second: u64, available| {
            let now = start + Duration::from_secs(second);
            state.observe(&thresholds, &seen(Signal::Memory, available), TRANSITION, now)
        };
        assert_eq!(at(0, 100), Decision::default());
        let decision = at(10, 99);
        assert!(decision.pressure.memory && decision.due.len() == 1);
        let after = at(20, 500);
        assert!(after.pressure.memory && after.due.is_empty(), "the condition lasts, nobody is evicted");
        assert!(at(309, 500).pressure.memory);
        assert_eq!(at(310, 500), Decision::default());
        assert!(at(320, 99).pressure.memory);
    }

    #[test]
    fn soft_thresholds_act_after_their_grace_period_without_a_break() {
        let thresholds = [threshold(Signal::Memory, 100, 60, None)];
        let (mut state, start) = (State::default(), Instant::now());
        let mut at = |second: u64, available| {
            let now = start + Duration::from_secs(second);
            state.observe(&thresholds, &seen(Signal::Memory, available), TRANSITION, now)
        };
        let first = at(0, 50);
        assert!(first.pressure.memory && first.due.is_empty(), "the condition does not wait");
        assert!(at(50, 50).due.is_empty());
        assert!(at(55, 500).due.is_empty());
        assert!(at(65, 50).due.is_empty(), "it begins anew");
        assert_eq!(at(125, 50).due.len(), 1);
    }

    #[test]
    fn reclaiming_goes_on_beyond_the_threshold() {
        let thresholds = [threshold(Signal::NodeFs, 100, 0, Some(50))];
        let (mut state, start) = (State::default(), Instant::now());
        let mut at = |second: u64, available| {
            let now = start + Duration::from_secs(second);
            state.observe(&thresholds, &seen(Signal::NodeFs, available), TRANSITION, now).due.len()
        };
        assert_eq!(at(0, 149), 0, "nothing was reclaimed yet");
        assert_eq!(at(10, 99), 1);
        assert_eq!(at(20, 149), 1);
        assert_eq!(at(30, 150), 0);
        assert_eq!(at(40, 149), 0, "resolved");
    }

    #[test]
    fn memory_comes_first() {
        let thresholds = [
            threshold(Signal::NodeFs, 100, 0, None),
            threshold(Signal::Pids, 100, 0, None),
            threshold(Signal::PodsMemory, 100, 0, None),
        ];
        let low = Observation { available: 1, capacity: 1000 };
        let all = [Signal::NodeFs, Signal::Pids, Signal::PodsMemory].map(|s| (s, low)).into();
        let decision = State::default().observe(&thresholds, &all, TRANSITION, Instant::now());
        let order: Vec<Signal> = decision.due.iter().map(|t| t.signal).collect();
        assert_eq!(order, [Signal::PodsMemory, Signal::NodeFs, Signal::Pids]);
        assert_eq!(decision.pressure, Pressure { memory: true, disk: true, pids: true });
    }

    #[test]
    fn without_a_transition_period_a_condition_ends_with_its_cause() {
        let thresholds = [threshold(Signal::Pids, 100, 0, None)];
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.observe(&thresholds, &seen(Signal::Pids, 1), Duration::ZERO, now).pressure.pids);
        let later = now + Duration::from_secs(10);
        assert!(!state.observe(&thresholds, &seen(Signal::Pids, 900), Duration::ZERO, later).pressure.pids);
    }
}
