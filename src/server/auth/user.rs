//! Who a request is from.

use std::collections::BTreeMap;

/// A user, as authentication found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:admin` or `system:serviceaccount:default:default`.
    pub name: String,
    /// Unique over time, if the authenticator knows one.
    pub uid: String,
    /// Such as `system:masters`.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}
