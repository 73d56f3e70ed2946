//! One worker a pod: brings the node to what the pod's specification says and reports its status.

mod conditions;
mod files;
mod give_back;
mod hooks;
mod images;
mod keyring;
pub(crate) mod memory;
pub(crate) mod observed;
pub(crate) mod phase;
pub(crate) mod plan;
mod report;
mod resize;
pub(crate) mod restart;
mod sandbox;
mod start;
pub(crate) mod status;
mod steps;
mod terminate;
mod words;
mod worker;
mod writing;

pub(in crate::agent) use super::labels;
pub(crate) use memory::Verdict;
pub(crate) use sandbox::HANDLERS;
pub(crate) use worker::{Wanted, Worker};
