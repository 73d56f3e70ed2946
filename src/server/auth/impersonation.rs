//! Acting as others: <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>.

use std::collections::BTreeMap;

use ::http::HeaderMap;

use super::authz::{Attributes, Authorizer, forbidden};
use super::user::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNT_PREFIX, UNAUTHENTICATED, User};
use crate::api::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";

/// The user a request acts as: `user` itself unless it has `Impersonate-` headers.
///
/// # Errors
/// 400 for headers without `Impersonate-User`, 403 when `user` may not act so.
pub fn apply(authorizer: &Authorizer, headers: &HeaderMap, user: User) -> Result<User, Status> {
    let Some(mut wanted) = requested(headers)? else { return Ok(user) };
    let asked = wanted.groups.clone();
    check_user(authorizer, &user, &mut wanted)?;
    let check = |attributes: Attributes<'_>| {
        let attributes = Attributes { verb: "impersonate", ..attributes };
        authorizer.check(&user, &attributes).map_err(|reason| forbidden(&user, &attributes, &reason))
    };
    for group in &asked {
        check(Attributes { resource: "groups", name: Some(group), ..Attributes::default() })?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(Attributes {
                group: AUTHENTICATION_GROUP,
                resource: "userextras",
                subresource: Some(key),
                name: Some(value),
                ..Attributes::default()
            })?;
        }
    }
    if !wanted.uid.is_empty() {
        let uid = Some(wanted.uid.as_str());
        check(Attributes {
            group: AUTHENTICATION_GROUP,
            resource: "uids",
            name: uid,
            ..Attributes::default()
        })?;
    }
    add_standard_groups(&mut wanted);
    Ok(wanted)
}

/// Takes what [`apply`] reads out of the headers: what a request is passed on to must not act on it.
pub fn strip(headers: &mut HeaderMap) {
    let own = |name: &str| matches!(name, USER | GROUP | UID) || name.starts_with(EXTRA);
    let names: Vec<_> = headers.keys().filter(|name| own(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The user the headers name, if any.
fn requested(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let name = text(USER);
    let groups: Vec<String> =
        headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let (Some(key), Ok(value)) = (key.as_str().strip_prefix(EXTRA), value.to_str()) {
            let key = percent_decode(key);
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    let uid = text(UID);
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(None);
        }
        let message = "requested [] without impersonating a user: the header Impersonate-User is missing";
        return Err(Status::internal(message));
    }
    Ok(Some(User { name, uid, groups, extra }))
}

/// May `user` be `wanted`? A service account is checked as one, and gets its groups.
fn check_user(authorizer: &Authorizer, user: &User, wanted: &mut User) -> Result<(), Status> {
    let account = wanted.name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let attributes = match account {
        Some((namespace, name)) => Attributes {
            resource: "serviceaccounts",
            namespace: Some(namespace),
            name: Some(name),
            ..Attributes::default()
        },
        None => Attributes { resource: "users", name: Some(&wanted.name), ..Attributes::default() },
    };
    let attributes = Attributes { verb: "impersonate", ..attributes };
    authorizer.check(user, &attributes).map_err(|reason| forbidden(user, &attributes, &reason))?;
    if let Some((namespace, name)) = account
        && wanted.groups.is_empty()
    {
        wanted.groups = User::service_account(namespace, name).groups;
    }
    Ok(())
}

fn add_standard_groups(user: &mut User) {
    let known = |user: &User, groups: &[&str]| groups.iter().any(|g| user.in_group(g));
    if user.name == ANONYMOUS {
        if !known(user, &[UNAUTHENTICATED]) {
            user.groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !known(user, &[AUTHENTICATED, UNAUTHENTICATED]) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| {
        bytes.get(at..at + 2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok())
    };
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], hex(at + 1)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::json;
    use std::sync::Arc;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (key, value) in pairs {
            map.append(::http::HeaderName::from_bytes(key.as_bytes()).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn authorizer() -> Authorizer {
        let fake = Fake::default();
        let role = |name: &str, rules: serde_json::Value| json!({"metadata": {"name": name}, "rules": rules});
        let bind = |role: &str, user: &str| {
            json!({"metadata": {"name": role},
            "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]})
        };
        let rules = json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
        ]);
        fake.put("clusterroles.rbac.authorization.k8s.io", role("r", rules));
        fake.put("clusterrolebindings.rbac.authorization.k8s.io", bind("r", "boss"));
        Authorizer::new(Arc::new(fake))
    }

    #[test]
    fn only_those_who_may_act_as_others() {
        let authorizer = authorizer();
        let boss = || User::new("boss", &[AUTHENTICATED]);
        assert_eq!(apply(&authorizer, &headers(&[]), boss()).unwrap(), boss());
        let as_jane = headers(&[
            ("Impersonate-User", "jane"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Extra-Scopes", "a"),
        ]);
        let jane = apply(&authorizer, &as_jane, boss()).unwrap();
        assert_eq!(
            (jane.name.as_str(), jane.groups.as_slice()),
            ("jane", ["dev".to_owned(), AUTHENTICATED.to_owned()].as_slice())
        );
        assert_eq!(jane.extra["scopes"], ["a"]);
        let refused = |pairs: &[(&str, &str)]| apply(&authorizer, &headers(pairs), boss()).unwrap_err();
        assert_eq!(
            refused(&[("Impersonate-User", "bob")]).message,
            r#"users "bob" is forbidden: User "boss" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
        assert_eq!(
            refused(&[("Impersonate-User", "jane"), ("Impersonate-Group", "system:masters")]).code,
            403
        );
        assert_eq!(refused(&[("Impersonate-User", "jane"), ("Impersonate-Uid", "1")]).code, 403);
        assert_eq!(refused(&[("Impersonate-Group", "dev")]).code, 500);
        assert_eq!(apply(&authorizer, &as_jane, User::new("x", &[])).unwrap_err().code, 403);
    }

    #[test]
    fn who_acts_as_another_is_not_told_on() {
        let mut all = headers(&[("Impersonate-User", "a"), ("Impersonate-Extra-X", "b"), ("accept", "c")]);
        strip(&mut all);
        assert_eq!(all.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_service_account_comes_with_its_groups() {
        let wanted = headers(&[("Impersonate-User", "system:serviceaccount:a:b")]);
        let user = apply(&authorizer(), &wanted, User::new("boss", &[])).unwrap();
        assert_eq!(user.groups, User::service_account("a", "b").groups);
    }
}
