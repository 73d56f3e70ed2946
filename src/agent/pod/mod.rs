//! One worker a pod: brings the node to what the pod's specification says and reports its status.

pub(crate) mod labels;
pub(crate) mod memory;
pub(crate) mod observed;
pub(crate) mod phase;
pub(crate) mod plan;
pub(crate) mod status;
