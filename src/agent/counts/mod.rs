//! What the agent counts as it goes, for its metrics: starts of pods, results of probes.

mod probes;
mod starts;
pub(crate) mod text;

pub(crate) use probes::ProbeCounts;
pub(crate) use starts::Starts;
