//! One valid object of each kind.

use kedge::server::registry::Resource;
use serde_json::{Value, json};

/// The least an object of a kind must have beside its metadata.
pub fn minimal(entry: &Resource) -> Value {
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
            json!({"spec": {"signerName": "example.com/s", "usages": ["digital signature"], "request":
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlITE1ISUNBUUF3RURFT01Bd0dBMVVFQXd3RmNISnZZbVV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQgpCd05DQUFRSWxUR1U1TnZLdVBXS0lNYU5pTVZiN3hGZ2dJSGFmenhrcm1YenQ4dThXTlVOUXA4K3d2Ty9PQkJLCkFnOFMyRFNoVExQNmJwb1RyRE5maDFkdW1CdlVvQUF3Q2dZSUtvWkl6ajBFQXdJRFNRQXdSZ0loQUpESnJ2aGoKa3hGVUp5R2E4djhWS0dhUkdMZXByNjdWODBuNDdjVk5Ibi9BQWlFQWtLcFR6UGtqOENRNlMwa0NGQU9DZ0cvWQp6dWg1YXBFM1JndUpJRzVQcHdzPQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K"}})
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
        "PodPreset" => json!({"spec": {"env": [{"name": "A", "value": "b"}]}}),
        "LimitRange" => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        "ResourceQuota" => json!({"spec": {"hard": {"pods": "5"}}}),
        "CustomResourceDefinition" => json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "xs", "singular": "x", "kind": "X", "listKind": "XList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        _ => json!({}),
    }
}

/// A name that the kind allows.
pub fn name_of(entry: &Resource) -> &'static str {
    match &*entry.kind {
        "IPAddress" => "10.43.0.77",
        "CustomResourceDefinition" => "xs.example.com",
        _ => "probe",
    }
}

/// Another name that the kind allows.
pub fn other_name_of(entry: &Resource) -> &'static str {
    match &*entry.kind {
        "IPAddress" => "10.43.0.78",
        "CustomResourceDefinition" => "ys.example.com",
        _ => "other",
    }
}
