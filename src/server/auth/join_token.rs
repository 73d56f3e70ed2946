//! The token a node joins with.
