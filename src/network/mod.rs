//! Pod network, service proxy and cluster DNS of a node.

pub mod table;
