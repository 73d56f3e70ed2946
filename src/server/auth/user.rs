//! Who makes a request, as authentication finds out and authorisation asks.

use std::collections::BTreeMap;

/// The group that every authorisation check lets pass.
pub const MASTERS: &str = "system:masters";
/// The group of every authenticated user.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of nodes.
pub const NODES: &str = "system:nodes";
/// The user name of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// What precedes the node's name in the user name of a node.
pub const NODE_PREFIX: &str = "system:node:";
/// What precedes `<namespace>:<name>` in the user name of a service account.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts; with `:<namespace>` of those of one namespace.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The key of what is extra about a user that names the credential it showed.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// An authenticated user: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name RBAC subjects of kind User are compared with.
    pub name: String,
    /// Tells users apart that had the same name one after the other; may be empty.
    pub uid: String,
    /// The names RBAC subjects of kind Group are compared with.
    pub groups: Vec<String>,
    /// What else the authenticator knows, such as a token's pod.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of this name in these groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The API server itself: `system:apiserver`, a master.
    pub fn loopback() -> Self {
        Self::new("system:apiserver", &[MASTERS, AUTHENTICATED])
    }

    /// The service account `name` of kube-system, as which a controller of this process acts.
    pub fn controller(name: &str) -> Self {
        Self::service_account("kube-system", name)
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            &[SERVICE_ACCOUNTS, &format!("{SERVICE_ACCOUNTS}:{namespace}"), AUTHENTICATED],
        )
    }

    /// The scheduler.
    pub fn scheduler() -> Self {
        Self::new("system:kube-scheduler", &[AUTHENTICATED])
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{NODE_PREFIX}{name}"), &[NODES, AUTHENTICATED])
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The user is in this group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node's name, if the user is a node's agent.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX).filter(|n| !n.is_empty())?;
        self.in_group(NODES).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_this_process_have_upstreams_names_and_groups() {
        assert_eq!(User::loopback().name, "system:apiserver");
        assert!(User::loopback().in_group("system:masters"));
        assert!(!User::scheduler().in_group("system:masters"));
        let controller = User::controller("deployment-controller");
        assert_eq!(controller.name, "system:serviceaccount:kube-system:deployment-controller");
        assert!(controller.in_group("system:serviceaccounts:kube-system"));
        assert_eq!(User::anonymous().groups, ["system:unauthenticated"]);
    }

    #[test]
    fn a_node_needs_both_the_name_and_the_group() {
        assert_eq!(User::node("a").node_name(), Some("a"));
        assert_eq!(User::new("system:node:a", &[AUTHENTICATED]).node_name(), None);
        assert_eq!(User::new("system:node:", &[NODES]).node_name(), None);
        assert_eq!(User::new("jane", &[NODES]).node_name(), None);
    }
}
