//! Every registered kind: created, read, listed, shown and deleted, through its table entry alone.

mod server_support;

use http::Request;
use kedge::server::registry::strategy::Plain;
use kedge::server::registry::{Registry, Resource, Storage};
use kube::{Client, Error};
use serde_json::{Value, json};
use server_support::TestServer;

async fn send(client: &Client, method: &str, uri: &str, body: &Value) -> Result<Value, Error> {
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(request.body(body).unwrap()).await
}

/// What an object of a kind must have beside its metadata.
fn minimal(entry: &Resource) -> Value {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let job = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    match &*entry.kind {
        "Pod" => {
            json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}})
        }
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => json!({"spec": {"selector": {"a": "b"}, "template": template}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            json!({"spec": {"selector": selector, "template": template}})
        }
        "StatefulSet" => json!({"spec": {"serviceName": "s", "selector": selector, "template": template}}),
        "ControllerRevision" => json!({"revision": 1, "data": {"a": 1}}),
        "Job" => json!({"spec": {"template": job}}),
        "CronJob" => json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": job}}}}),
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}})
        }
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "IPAddress" => {
            json!({"spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "default"}}})
        }
        "NetworkPolicy" => json!({"spec": {"podSelector": {}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.99.0.0/24"]}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})
        }
        "PersistentVolumeClaim" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "StorageClass" => json!({"provisioner": "example.com/p"}),
        "CSIDriver" => json!({"spec": {}}),
        "CSINode" => json!({"spec": {"drivers": []}}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "VolumeAttributesClass" => json!({"driverName": "example.com/d", "parameters": {"a": "b"}}),
        "ClusterRoleBinding" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}})
        }
        "RoleBinding" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}})
        }
        "ClusterRole" | "Role" => json!({"rules": []}),
        "CertificateSigningRequest" => {
            let key = rcgen::KeyPair::generate().unwrap();
            let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
            let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
            json!({"spec": {"signerName": "example.com/s", "usages": ["digital signature"], "request": request}})
        }
        "PodDisruptionBudget" => json!({"spec": {"minAvailable": 1, "selector": selector}}),
        "RuntimeClass" => json!({"handler": "h"}),
        "PriorityClass" => json!({"value": 5}),
        "Lease" => json!({"spec": {"holderIdentity": "h"}}),
        "Event" if entry.group.is_empty() => {
            json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m"})
        }
        "Event" => {
            json!({"regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "note": "n", "action": "A", "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i"})
        }
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
            "validations": [{"expression": "true"}]}})
        }
        "ValidatingAdmissionPolicyBinding" => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        "LimitRange" => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        "ResourceQuota" => json!({"spec": {"hard": {"pods": "5"}}}),
        "CustomResourceDefinition" => json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "xs", "singular": "x", "kind": "X", "listKind": "XList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        _ => json!({}),
    }
}

fn name_of(entry: &Resource) -> &'static str {
    match &*entry.kind {
        "IPAddress" => "10.43.0.77",
        "CustomResourceDefinition" => "xs.example.com",
        _ => "probe",
    }
}

async fn check(client: &Client, entry: &Resource) -> Result<(), String> {
    let prefix =
        if entry.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", entry.api_version()) };
    let scope = if entry.namespaced { "/namespaces/default" } else { "" };
    let uri = format!("{prefix}{scope}/{}", entry.plural);
    let name = name_of(entry);
    let mut object = minimal(entry);
    object["metadata"] = json!({"name": name, "labels": {"probe": "yes"}});
    let step = |what: &str, error: Error| format!("{} {}: {what}: {error}", entry.api_version(), entry.kind);
    let made = send(client, "POST", &uri, &object).await.map_err(|e| step("create", e))?;
    let got =
        send(client, "GET", &format!("{uri}/{name}"), &Value::Null).await.map_err(|e| step("get", e))?;
    if got != made || got["kind"] != *entry.kind || got["apiVersion"] != entry.api_version() {
        return Err(format!("{}: {made} is not {got}", entry.kind));
    }
    let list = send(client, "GET", &format!("{uri}?labelSelector=probe%3Dyes"), &Value::Null).await;
    let list = list.map_err(|e| step("list", e))?;
    if list["kind"] != *entry.list_kind || list["items"] != json!([got]) {
        return Err(format!("{}: {list}", entry.kind));
    }
    let table = Request::get(&uri)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(table).await.map_err(|e| step("table", e))?;
    let rows = table["rows"].as_array().map_or(0, Vec::len);
    if rows == 0
        || table["rows"][0]["cells"].as_array().map(Vec::len)
            != table["columnDefinitions"].as_array().map(Vec::len)
    {
        return Err(format!("{}: {table}", entry.kind));
    }
    let put = send(client, "PUT", &format!("{uri}/{name}"), &got).await.map_err(|e| step("update", e))?;
    if put["metadata"]["resourceVersion"] != got["metadata"]["resourceVersion"] {
        return Err(format!("{}: an update that changes nothing changed {got} to {put}", entry.kind));
    }
    send(client, "DELETE", &format!("{uri}/{name}?gracePeriodSeconds=0"), &Value::Null)
        .await
        .map_err(|e| step("delete", e))?;
    Ok(())
}

#[tokio::test]
async fn every_kind_works_by_its_entry() {
    let server = TestServer::start().await;
    let client = server.admin();
    let account = json!({"metadata": {"name": "default"}});
    send(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await.unwrap();
    let registry = Registry::builtin(|_| std::sync::Arc::new(Plain));
    let mut errors = Vec::new();
    let mut tested = 0;
    for entry in registry.entries().iter().filter(|e| !matches!(e.storage, Storage::Virtual)) {
        tested += 1;
        errors.extend(check(&client, entry).await.err());
    }
    assert!(tested > 45, "only {tested} kinds");
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}
