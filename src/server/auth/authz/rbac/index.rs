//! Roles and bindings, by whom they are for.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::rule::Rule;
use crate::api::Object;
use crate::api::field::quote;
use crate::server::auth::user::{SERVICE_ACCOUNT_PREFIX, User};
use crate::server::reader::Reader;

const GROUP: &str = "rbac.authorization.k8s.io";
/// What is indexed, in the order of [`Lists`].
const RESOURCES: [&str; 4] = [
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
];

type Lists = [Vec<Arc<Object>>; 4];

/// What an index was made from.
enum Version {
    Counted([u64; 4]),
    Listed(Lists),
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

/// A role as a binding names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The binding's name.
    binding: Arc<str>,
    /// The kind of subject that it names.
    subject: Subjects,
    /// Where the binding holds; `None` everywhere.
    namespace: Option<Arc<str>>,
    /// The role is a ClusterRole.
    cluster: bool,
    role: Arc<str>,
}

/// Kinds of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subjects {
    User,
    Group,
    ServiceAccount,
}

impl Bound {
    /// Why `user` has what the role allows, in upstream's words.
    pub fn describe(&self, user: &User, group: &str) -> String {
        let role = if self.cluster { "ClusterRole" } else { "Role" };
        let subject = match self.subject {
            Subjects::User => format!("User {}", quote(&user.name)),
            Subjects::Group => format!("Group {}", quote(group)),
            Subjects::ServiceAccount => {
                let account = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).unwrap_or_default();
                let (namespace, name) = account.split_once(':').unwrap_or_default();
                format!("ServiceAccount {}", quote(&format!("{name}/{namespace}")))
            }
        };
        let (kind, binding) = match &self.namespace {
            Some(namespace) => ("RoleBinding", format!("{}/{namespace}", self.binding)),
            None => ("ClusterRoleBinding", self.binding.to_string()),
        };
        format!("{kind} {} of {role} {} to {subject}", quote(&binding), quote(&self.role))
    }
}

/// Roles and bindings of one moment.
pub struct Index {
    version: Version,
    cluster_roles: HashMap<String, Vec<Rule>>,
    roles: HashMap<(String, String), Vec<Rule>>,
    by_user: HashMap<String, Vec<Bound>>,
    by_group: HashMap<String, Vec<Bound>>,
}

impl Index {
    /// Reads all roles and bindings.
    pub fn build(reader: &dyn Reader) -> Self {
        let counted = counts(reader);
        let lists = lists(reader);
        let mut index = Self {
            version: Version::Listed(Lists::default()),
            cluster_roles: HashMap::new(),
            roles: HashMap::new(),
            by_user: HashMap::new(),
            by_group: HashMap::new(),
        };
        let [cluster_roles, cluster_bindings, roles, bindings] = &lists;
        for object in cluster_roles {
            index.cluster_roles.insert(object.name().to_owned(), rules(object));
        }
        for object in roles {
            index.roles.insert((object.namespace().to_owned(), object.name().to_owned()), rules(object));
        }
        for object in cluster_bindings.iter().chain(bindings) {
            index.bind(object);
        }
        index.version = counted.map_or(Version::Listed(lists), Version::Counted);
        index
    }

    /// Nothing changed since the index was made.
    pub fn is_current(&self, reader: &dyn Reader) -> bool {
        match &self.version {
            Version::Counted(counted) => counts(reader).is_some_and(|now| now == *counted),
            Version::Listed(known) => lists(reader).iter().zip(known).all(|(now, known)| {
                now.len() == known.len() && now.iter().zip(known).all(|(a, b)| Arc::ptr_eq(a, b))
            }),
        }
    }

    fn bind(&mut self, object: &Object) {
        let Ok(binding) = serde_json::from_slice::<Binding>(object.bytes()) else { return };
        let namespace = Some(object.namespace()).filter(|n| !n.is_empty());
        let bound = Bound {
            binding: Arc::from(object.name()),
            subject: Subjects::User,
            namespace: namespace.map(Arc::from),
            cluster: binding.role_ref.kind == "ClusterRole",
            role: Arc::from(binding.role_ref.name),
        };
        for subject in binding.subjects.into_iter().flatten() {
            let (map, key, kind) = match subject.kind.as_str() {
                "User" => (&mut self.by_user, subject.name, Subjects::User),
                "Group" => (&mut self.by_group, subject.name, Subjects::Group),
                "ServiceAccount" => {
                    let of = subject
                        .namespace
                        .as_deref()
                        .filter(|n| !n.is_empty())
                        .or(namespace)
                        .unwrap_or_default();
                    let user = format!("{SERVICE_ACCOUNT_PREFIX}{of}:{}", subject.name);
                    (&mut self.by_user, user, Subjects::ServiceAccount)
                }
                _ => continue,
            };
            map.entry(key).or_default().push(Bound { subject: kind, ..bound.clone() });
        }
    }

    /// Shows `visit` each rule the user has in the namespace, or in the cluster, until it answers true;
    /// gives what bound that rule, and the group it was bound to if it was one. Roles that are bound but
    /// missing are added to `missing`.
    pub fn any_rule<'a>(
        &'a self,
        user: &'a User,
        namespace: Option<&str>,
        missing: &mut Vec<String>,
        mut visit: impl FnMut(&Rule) -> bool,
    ) -> Option<(&'a Bound, &'a str)> {
        let of_groups = user
            .groups
            .iter()
            .filter_map(|g| Some((self.by_group.get(g)?, g.as_str())))
            .flat_map(|(bound, group)| bound.iter().map(move |b| (b, group)));
        let of_user = self.by_user.get(&user.name).into_iter().flatten().map(|b| (b, ""));
        // Those of the whole cluster first, as upstream reports their errors first.
        let mut local = Vec::new();
        for (bound, group) in of_user.chain(of_groups) {
            match (&bound.namespace, namespace) {
                (None, _) if self.rules_of(bound, missing).iter().any(&mut visit) => {
                    return Some((bound, group));
                }
                (Some(of), Some(wanted)) if **of == *wanted => local.push((bound, group)),
                _ => {}
            }
        }
        local.into_iter().find(|(bound, _)| self.rules_of(bound, missing).iter().any(&mut visit))
    }

    fn rules_of(&self, bound: &Bound, missing: &mut Vec<String>) -> &[Rule] {
        let found = match &bound.namespace {
            Some(namespace) if !bound.cluster => {
                self.roles.get(&(namespace.to_string(), bound.role.to_string())).map(Vec::as_slice)
            }
            _ => self.cluster_roles.get(&*bound.role).map(Vec::as_slice),
        };
        found.unwrap_or_else(|| {
            let kind = if bound.cluster { "clusterrole" } else { "role" };
            missing.push(format!("{kind}.{GROUP} \"{}\" not found", bound.role));
            &[]
        })
    }
}

fn rules(object: &Object) -> Vec<Rule> {
    serde_json::from_slice::<Role>(object.bytes()).ok().and_then(|r| r.rules).unwrap_or_default()
}

fn counts(reader: &dyn Reader) -> Option<[u64; 4]> {
    let mut counts = [0; 4];
    for (count, resource) in counts.iter_mut().zip(RESOURCES) {
        *count = reader.revision(resource)?;
    }
    Some(counts)
}

fn lists(reader: &dyn Reader) -> Lists {
    RESOURCES.map(|resource| reader.list(resource, None))
}
