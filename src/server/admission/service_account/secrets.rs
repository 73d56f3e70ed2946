//! Which secrets a pod may name: those its service account lists, where the account says so; a mirror
//! pod none.

use serde_json::Value;

use super::MIRROR;
use crate::api::{Meta, Status};
use crate::server::admission::{Attributes, Operation};

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Lists of containers, and what a message calls one of them.
const CONTAINERS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// Refuses secrets that a new pod, or a container that is added to debug it, may not name.
pub fn validate(attributes: &Attributes<'_>) -> Result<(), Status> {
    let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
    let whole = attributes.is("pods") && attributes.operation == Operation::Create;
    let debug = attributes.is_or_below("pods")
        && attributes.subresource == Some("ephemeralcontainers")
        && attributes.operation == Operation::Update;
    if !whole && !debug {
        return Ok(());
    }
    let refused = |why: String| Err(attributes.forbidden(why));
    if Meta::of(pod).annotation(MIRROR).is_some() {
        return why_not_mirrored(pod).map_or(Ok(()), |why| refused(why.to_owned()));
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let account = attributes.reader.get("serviceaccounts", attributes.namespace, name).map(|a| a.value());
    let Some(account) = account.filter(|a| is_true(Meta::of(a).annotation(ENFORCE))) else { return Ok(()) };
    let lists: &[(&str, &str)] = if whole { &CONTAINERS[..2] } else { &CONTAINERS[2..] };
    let why = unlisted_in_env(pod, lists, &account);
    let why =
        if whole { unlisted_volume(pod, &account).or(why).or(unlisted_pull(pod, &account)) } else { why };
    why.map_or(Ok(()), |why| {
        refused(format!(
            "{why} because service account {name} does not reference that {}",
            if why.starts_with("imagePullSecrets") { "imagePullSecret" } else { "secret" }
        ))
    })
}

/// As Go's `strconv.ParseBool` reads it.
fn is_true(text: Option<&str>) -> bool {
    matches!(text, Some("1" | "t" | "T" | "TRUE" | "true" | "True"))
}

fn why_not_mirrored(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty()) {
        return Some("a mirror pod may not reference service accounts");
    }
    let volumes = || spec["volumes"].as_array().into_iter().flatten();
    let sources = || volumes().flat_map(|v| v["projected"]["sources"].as_array().into_iter().flatten());
    let secret = spec["imagePullSecrets"].as_array().is_some_and(|s| !s.is_empty())
        || volumes().any(|v| !v["secret"].is_null())
        || sources().any(|s| !s["secret"].is_null())
        || CONTAINERS.iter().any(|(list, _)| spec[*list].as_array().into_iter().flatten().any(names_secret));
    if secret {
        return Some("a mirror pod may not reference secrets");
    }
    let token = sources().any(|s| !s["serviceAccountToken"].is_null());
    token.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

fn names_secret(container: &Value) -> bool {
    let list = |field: &str| container[field].as_array().into_iter().flatten();
    list("env").any(|e| !e["valueFrom"]["secretKeyRef"].is_null())
        || list("envFrom").any(|e| !e["secretRef"].is_null())
}

fn lists(account: &Value, field: &str, name: &Value) -> bool {
    account[field].as_array().into_iter().flatten().any(|secret| secret["name"] == *name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn unlisted_volume(pod: &Value, account: &Value) -> Option<String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut names = volumes.map(|v| &v["secret"]["secretName"]).filter(|name| !name.is_null());
    let name = names.find(|name| !lists(account, "secrets", name))?;
    Some(format!("volume with secret.secretName=\"{}\" is not allowed", text(name)))
}

fn unlisted_in_env(pod: &Value, kinds: &[(&str, &str)], account: &Value) -> Option<String> {
    kinds.iter().find_map(|(list, kind)| {
        let containers = pod["spec"][*list].as_array().into_iter().flatten();
        containers.into_iter().find_map(|container| {
            let env = container["env"].as_array().into_iter().flatten();
            let named = env.map(|e| (e, &e["valueFrom"]["secretKeyRef"]["name"]));
            let (variable, name) =
                named.into_iter().find(|(_, name)| !name.is_null() && !lists(account, "secrets", name))?;
            Some(format!(
                "{kind} {} with envVar {} referencing secret.secretName=\"{}\" is not allowed",
                text(&container["name"]),
                text(&variable["name"]),
                text(name)
            ))
        })
    })
}

fn unlisted_pull(pod: &Value, account: &Value) -> Option<String> {
    let pulls = pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten();
    let mut unlisted = pulls.enumerate().filter(|(_, s)| !lists(account, "imagePullSecrets", &s["name"]));
    let (i, secret) = unlisted.next()?;
    Some(format!("imagePullSecrets[{i}].name=\"{}\" is not allowed", text(&secret["name"])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::admission::service_account::ServiceAccount;
    use crate::server::admission::testing::Request;
    use crate::server::auth::testing::Fake;
    use serde_json::json;

    fn refused(annotations: Value, spec: Value) -> String {
        let fake = Fake::default();
        fake.put("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "a", "annotations": {ENFORCE: "true"}},
            "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}], "automountServiceAccountToken": false}));
        let pod =
            json!({"metadata": {"name": "p", "namespace": "a", "annotations": annotations}, "spec": spec});
        let admitted = Request::create("Pod", "pods").admit(&ServiceAccount, &fake, pod);
        admitted
            .err()
            .map(|s| s.message.trim_start_matches("pods \"p\" is forbidden: ").to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn an_account_may_limit_the_secrets_of_its_pods() {
        let env = |name: &str| json!([{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": name}}}]}]);
        for (spec, expected) in [
            (json!({"containers": env("mine"), "volumes": [{"secret": {"secretName": "mine"}}]}), ""),
            (
                json!({"containers": [], "volumes": [{"secret": {"secretName": "other"}}]}),
                "volume with secret.secretName=\"other\" is not allowed because service account default does not reference \
                 that secret",
            ),
            (
                json!({"containers": env("other")}),
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed because service account \
                 default does not reference that secret",
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": "other"}]}),
                "imagePullSecrets[0].name=\"other\" is not allowed because service account default does not reference that \
                 imagePullSecret",
            ),
        ] {
            assert_eq!(refused(json!({}), spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn a_mirror_pod_names_nothing_secret() {
        let mirror = json!({MIRROR: "x"});
        for (spec, expected) in [
            (json!({"containers": []}), ""),
            (json!({"serviceAccountName": "default"}), "a mirror pod may not reference service accounts"),
            (json!({"volumes": [{"secret": {}}]}), "a mirror pod may not reference secrets"),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
                "a mirror pod may not use ServiceAccountToken volume projections",
            ),
        ] {
            assert_eq!(refused(mirror.clone(), spec.clone()), expected, "{spec}");
        }
    }
}
