//! ServiceAccount: a pod runs as a service account that exists, with its token mounted.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller>

mod secrets;

use std::time::Duration;

use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::api::meta::random_suffix;
use crate::api::{Meta, Status};

/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volume's name begins with.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// What the token of the volume asks for, in seconds.
const TOKEN_LIFE: i64 = 60 * 60 + 7;
/// Marks pods that a node made by itself and only shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
const DEFAULT: &str = "default";
/// A namespace's default account is made after the namespace; a pod waits so often, so long.
const WAITS: u32 = 50;
const WAIT: Duration = Duration::from_millis(100);

/// The plugin.
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns(attributes) {
            return Ok(());
        }
        let namespace = attributes.namespace.unwrap_or_default().to_owned();
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let name = account_of(pod).to_owned();
        pod["spec"]["serviceAccountName"] = json!(name);
        pod["spec"]["serviceAccount"] = json!(name);
        let Some(account) = attributes.reader.get("serviceaccounts", Some(&namespace), &name) else {
            return Err(attributes.forbidden(format!(
                "error looking up service account {namespace}/{name}: serviceaccount {} not found",
                crate::api::field::quote(&name)
            )));
        };
        let account = account.value();
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let automount = pod["spec"]["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if automount {
            mount_token(&mut pod["spec"]);
        }
        if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
            && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty())
        {
            pod["spec"]["imagePullSecrets"] = json!(secrets);
        }
        Ok(())
    }

    fn validate(&self, attributes: &Attributes<'_>, _: &mut Vec<String>) -> Result<(), Status> {
        secrets::validate(attributes)
    }
}

/// Waits a little for the default account of a namespace that was just made, as upstream's plugin does.
pub async fn wait_for_default(attributes: &Attributes<'_>) {
    let Some(pod) = attributes.object.as_deref().filter(|_| concerns(attributes)) else { return };
    if account_of(pod) != DEFAULT {
        return;
    }
    let alive = |n: &str| {
        attributes.reader.get("namespaces", None, n).is_some_and(|n| n.deletion_timestamp().is_none())
    };
    let Some(namespace) = attributes.namespace.filter(|n| alive(n)) else { return };
    for _ in 0..WAITS {
        if attributes.reader.get("serviceaccounts", Some(namespace), DEFAULT).is_some() {
            return;
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// The request makes a pod that is not only shown.
fn concerns(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create
        && attributes.is("pods")
        && attributes.object.as_deref().is_some_and(|pod| Meta::of(pod).annotation(MIRROR).is_none())
}

fn account_of(pod: &Value) -> &str {
    let spec = &pod["spec"];
    let given = |field: &str| spec[field].as_str().filter(|n| !n.is_empty());
    given("serviceAccountName").or_else(|| given("serviceAccount")).unwrap_or(DEFAULT)
}

/// Mounts the token in every container that has nothing else at its place.
fn mount_token(spec: &mut Value) {
    let names = |spec: &Value| -> Vec<String> {
        let volumes = spec["volumes"].as_array().into_iter().flatten();
        volumes.filter_map(|v| v["name"].as_str().map(str::to_owned)).collect()
    };
    let existing = names(spec);
    let known = existing.iter().find(|n| n.starts_with(VOLUME_PREFIX)).cloned();
    let name = known.clone().unwrap_or_else(|| {
        loop {
            let name = format!("{VOLUME_PREFIX}{}", random_suffix(5));
            if !existing.contains(&name) {
                break name;
            }
        }
    });
    let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            let taken = mounts.as_array().into_iter().flatten().any(|m| m["mountPath"] == MOUNT_PATH);
            if !taken {
                push(mounts, mount.clone());
                needed = true;
            }
        }
    }
    // Reading a missing list above left a null behind.
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, v| !v.is_null());
    }
    if needed && known.is_none() {
        push(&mut spec["volumes"], volume(&name));
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

/// Token, CA and namespace, with the API's defaults filled in.
fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFE, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ],
    }})
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

    fn admit(account: Value, spec: Value) -> Result<Value, Status> {
        let fake = Fake::default();
        let mut full = json!({"metadata": {"name": "default", "namespace": "a"}});
        for (key, value) in account.as_object().unwrap() {
            full[key] = value.clone();
        }
        fake.put("serviceaccounts", full);
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        Request::create("Pod", "pods").admit(&ServiceAccount, &fake, pod).map(|pod| pod["spec"].clone())
    }

    #[test]
    fn a_pod_gets_the_default_account_and_its_token() {
        let spec =
            admit(json!({}), json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}))
                .unwrap();
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        let volume = &spec["volumes"][0];
        let name = volume["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
        assert_eq!(
            volume["projected"]["sources"][0],
            json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}})
        );
        for list in ["containers", "initContainers"] {
            assert_eq!(
                spec[list][0]["volumeMounts"],
                json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
            );
        }
    }

    #[test]
    fn pod_and_account_may_decline_and_a_container_may_mount_its_own() {
        let none = |spec: &Value| assert!(spec.get("volumes").is_none(), "{spec}");
        none(&admit(json!({}), json!({"containers": [{}], "automountServiceAccountToken": false})).unwrap());
        none(&admit(json!({"automountServiceAccountToken": false}), json!({"containers": [{}]})).unwrap());
        let own = json!([{"name": "x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
        none(&admit(json!({}), json!({"containers": [{"volumeMounts": own}]})).unwrap());
        let again = json!({"containers": [{}], "volumes": [{"name": "kube-api-access-abcde"}]});
        let spec = admit(json!({}), again).unwrap();
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
    }

    #[test]
    fn pull_secrets_come_from_the_account_unless_the_pod_has_some() {
        let account = json!({"imagePullSecrets": [{"name": "s"}]});
        assert_eq!(
            admit(account.clone(), json!({"containers": []})).unwrap()["imagePullSecrets"],
            json!([{"name": "s"}])
        );
        let own = json!({"containers": [], "imagePullSecrets": [{"name": "t"}]});
        assert_eq!(admit(account, own).unwrap()["imagePullSecrets"], json!([{"name": "t"}]));
    }

    #[test]
    fn an_account_that_is_missing_is_told() {
        let status = admit(json!({}), json!({"containers": [], "serviceAccountName": "robot"})).unwrap_err();
        assert_eq!(
            status.message,
            "pods \"p\" is forbidden: error looking up service account a/robot: serviceaccount \"robot\" not found"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_for_the_default_account_of_a_new_namespace() {
        let fake = std::sync::Arc::new(Fake::default());
        fake.put("namespaces", json!({"metadata": {"name": "a"}}));
        let later = fake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(950)).await;
            later.put("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "a"}}));
        });
        let request = Request::create("Pod", "pods");
        let mut pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": []}});
        let mut attributes = Attributes {
            operation: Operation::Create,
            resource: &request.resource,
            subresource: None,
            namespace: Some("a"),
            name: "p",
            user: &request.user,
            dry_run: false,
            object: Some(&mut pod),
            old: None,
            reader: &*fake,
            warnings: Vec::new(),
            notices: Vec::new(),
            asked: None,
        };
        super::super::Chain::standard().mutate(&mut attributes).await.unwrap();
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
    }
}
