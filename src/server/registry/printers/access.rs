//! Columns of configuration, service accounts and roles.

use serde_json::Value;

use super::{AGE, CREATED_AT, Column, NAME, items, len_at, text_at};

/// Columns of config maps.
pub const CONFIG_MAPS: &[Column] = &[
    NAME,
    Column::text("Data", "Number of entries.", |o, _| (len_at(o, "/data") + len_at(o, "/binaryData")).into()),
    AGE,
];

/// Columns of secrets.
pub const SECRETS: &[Column] = &[
    NAME,
    Column::text("Type", "What the secret is for.", |o, _| text_at(o, "/type", "").into()),
    Column::text("Data", "Number of entries.", |o, _| len_at(o, "/data").into()),
    AGE,
];

/// Columns of service accounts.
pub const SERVICE_ACCOUNTS: &[Column] =
    &[NAME, Column::text("Secrets", "Number of secrets.", |o, _| len_at(o, "/secrets").into()), AGE];

/// Columns of roles and cluster roles.
pub const ROLES: &[Column] = &[NAME, CREATED_AT];

/// Columns of role bindings and cluster role bindings.
pub const BINDINGS: &[Column] = &[
    NAME,
    Column::text("Role", "The role that is given.", |o, _| {
        format!("{}/{}", text_at(o, "/roleRef/kind", ""), text_at(o, "/roleRef/name", "")).into()
    }),
    AGE,
    Column::text("Users", "Users in the binding.", |o, _| subjects(o, "User").join(", ").into()).wide(),
    Column::text("Groups", "Groups in the binding.", |o, _| subjects(o, "Group").join(", ").into()).wide(),
    Column::text("ServiceAccounts", "Service accounts in the binding.", |o, _| {
        subjects(o, "ServiceAccount").join(", ").into()
    })
    .wide(),
];

fn subjects(binding: &Value, kind: &str) -> Vec<String> {
    let list = items(binding, "/subjects").iter().filter(|s| s["kind"] == kind);
    list.map(|s| match text_at(s, "/namespace", "") {
        "" => text_at(s, "/name", "").to_owned(),
        namespace => format!("{namespace}/{}", text_at(s, "/name", "")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::Clock;
    use serde_json::json;

    #[test]
    fn a_binding_lists_its_subjects() {
        let clock = Clock("2026-01-01T01:00:00Z".parse().unwrap());
        let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "User", "name": "w"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
        let row: Value = BINDINGS.iter().map(|c| (c.cell)(&binding, &clock)).collect();
        assert_eq!(row, json!(["b", "ClusterRole/view", "<unknown>", "u, w", "", "n/s"]));
    }
}
