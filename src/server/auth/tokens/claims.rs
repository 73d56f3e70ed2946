//! What a service account token says.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::server::auth::user::User;

/// The claims of a token: RFC 7519, and `kubernetes.io`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is for.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it ends, in seconds since the epoch.
    pub exp: u64,
    /// When it was made.
    pub iat: u64,
    /// Who made it.
    pub iss: String,
    /// Its identifier.
    #[serde(default)]
    pub jti: String,
    /// Whose it is and what it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    /// When it begins.
    pub nbf: u64,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// Namespace of all objects named here but the node.
    pub namespace: String,
    /// The node, or the node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// Whose it is.
    #[serde(rename = "serviceaccount")]
    pub service_account: Reference,
    /// When its user should have asked for another one, in seconds since the epoch.
    #[serde(default, rename = "warnafter", skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<u64>,
}

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid; an object of the same name made later has another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Whom the token stands for.
    pub fn user(&self) -> User {
        let private = &self.kubernetes;
        let mut user = User::service_account(&private.namespace, &private.service_account.name);
        user.uid.clone_from(&private.service_account.uid);
        let mut extra = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        if !self.jti.is_empty() {
            put("credential-id", format!("JTI={}", self.jti));
        }
        if let Some(pod) = &private.pod {
            put("pod-name", pod.name.clone());
            put("pod-uid", pod.uid.clone());
        }
        if let Some(node) = &private.node {
            put("node-name", node.name.clone());
            if !node.uid.is_empty() {
                put("node-uid", node.uid.clone());
            }
        }
        user.extra = extra;
        user
    }
}

/// RFC 7519 lets an audience stand without a list.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_read_and_write_as_upstreams() {
        let value = json!({
            "aud": ["a"], "exp": 2, "iat": 1, "iss": "i", "jti": "j", "nbf": 1,
            "kubernetes.io": {
                "namespace": "ns", "node": {"name": "n", "uid": "nu"}, "pod": {"name": "p", "uid": "pu"},
                "serviceaccount": {"name": "sa", "uid": "su"}, "warnafter": 5,
            },
            "sub": "system:serviceaccount:ns:sa",
        });
        let claims: Claims = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&claims).unwrap(), value);
        let user = claims.user();
        assert_eq!(user.name, "system:serviceaccount:ns:sa");
        assert_eq!(user.uid, "su");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=j"]);
        let mut one = value;
        one["aud"] = json!("a");
        assert_eq!(serde_json::from_value::<Claims>(one).unwrap().aud, ["a"]);
    }
}
