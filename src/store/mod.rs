//! Revisioned key-value store.
