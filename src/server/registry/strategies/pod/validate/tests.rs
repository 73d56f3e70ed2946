use serde_json::{Value, json};

use crate::server::registry::strategies::pod::PodStrategy;
use crate::server::registry::strategies::testing::{Row, changed, check_table, created};

mod whole;

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]}})
}

fn check(rows: Vec<Row>) {
    check_table(&PodStrategy, &pod(), rows);
}

/// Rows for one field of the only container.
fn check_container(field: &str, rows: Vec<(Value, &'static [&'static str])>) {
    for (value, wanted) in rows {
        let object = changed(&pod(), &format!("spec/containers/0/{field}"), &value);
        assert_eq!(created(&PodStrategy, &object), wanted, "{field}: {value}");
    }
}

#[test]
fn a_pod_with_everything_is_good() {
    let spec = json!({
        "serviceAccountName": "sa", "nodeName": "n", "hostname": "h", "subdomain": "s", "priorityClassName": "p",
        "runtimeClassName": "r", "preemptionPolicy": "Never", "activeDeadlineSeconds": 5, "os": {"name": "linux"},
        "overhead": {"cpu": "10m"}, "resourceClaims": [{"name": "gpu", "resourceClaimName": "g"}],
        "volumes": [
            {"name": "v", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}},
            {"name": "h", "hostPath": {"path": "/x", "type": "Directory"}},
            {"name": "n", "nfs": {"server": "s", "path": "/x"}},
            {"name": "c", "csi": {"driver": "D.example.com"}},
            {"name": "i", "image": {"reference": "r"}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "b"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
            {"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt", "mode": 256}]}},
                {"downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}}]}}],
        "containers": [{
            "name": "c", "image": "i", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}],
            "ports": [{"containerPort": 80, "name": "http", "hostPort": 80}, {"containerPort": 80, "hostPort": 80, "protocol": "UDP"}],
            "env": [{"name": "A.b", "value": ""}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.io/x']"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}, {"name": "t", "mountPath": "/t", "readOnly": true, "recursiveReadOnly": "Enabled"}],
            "volumeDevices": [{"name": "b", "devicePath": "/dev/x"}],
            "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}, "limits": {"example.com/gpu": "2"}, "claims": [{"name": "gpu"}]},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            "livenessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
            "readinessProbe": {"grpc": {"port": 9000}}, "startupProbe": {"exec": {"command": ["x"]}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"tcpSocket": {"port": 80}}},
            "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "Localhost", "localhostProfile": "a/b"}, "capabilities": {"add": ["NET_ADMIN"]}}}],
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always", "livenessProbe": {"tcpSocket": {"port": 1}}}],
        "securityContext": {"fsGroup": 5, "fsGroupChangePolicy": "OnRootMismatch", "supplementalGroupsPolicy": "Strict",
            "sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}], "appArmorProfile": {"type": "RuntimeDefault"}},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2, "labelSelector": {}, "matchLabelKeys": ["a"]}],
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": [".", "a_b.c."], "options": [{"name": "ndots", "value": "1"}]},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.b"]}], "readinessGates": [{"conditionType": "a.io/b"}]});
    let object = changed(&pod(), "spec", &spec);
    assert_eq!(created(&PodStrategy, &object), [] as [&str; 0]);
}

#[test]
fn containers() {
    check_container(
        "name",
        vec![
            (json!(""), &["spec.containers[0].name: Required value"]),
            (
                json!("A"),
                &[
                    "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ],
    );
    check_container(
        "image",
        vec![
            (json!(""), &["spec.containers[0].image: Required value"]),
            (
                json!(" i"),
                &[
                    "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
                ],
            ),
        ],
    );
    check_container(
        "imagePullPolicy",
        vec![(
            json!("Sometimes"),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        )],
    );
    check_container(
        "terminationMessagePolicy",
        vec![(
            json!("No"),
            &[
                "spec.containers[0].terminationMessagePolicy: Unsupported value: \"No\": supported values: \"File\", \"FallbackToLogsOnError\"",
            ],
        )],
    );
    check_container(
        "restartPolicyRules",
        vec![(
            json!([{"action": "Again"}]),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Again\": supported values: \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        )],
    );
    check_container(
        "resizePolicy",
        vec![(
            json!([{"resourceName": "disk", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "No"}]),
            &[
                "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
                "spec.containers[0].resizePolicy: Unsupported value: \"No\": supported values: \"NotRequired\", \"RestartContainer\"",
            ],
        )],
    );
    check(vec![
        ("spec/containers", json!([]), &["spec.containers: Required value"]),
        (
            "spec/containers",
            json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            "spec/initContainers",
            json!([{"name": "c", "image": "i", "lifecycle": {}}]),
            &[
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
    ]);
}

#[test]
fn ports() {
    check_container(
        "ports",
        vec![
            (
                json!([{"containerPort": 70000}]),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (json!([{"containerPort": 0}]), &["spec.containers[0].ports[0].containerPort: Required value"]),
            (
                json!([{"containerPort": 80, "protocol": "tcp"}]),
                &[
                    "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ],
            ),
            (
                json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
                &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
            ),
            (
                json!([{"containerPort": 80, "hostPort": 8}, {"containerPort": 81, "hostPort": 8}]),
                &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//8\""],
            ),
            (
                json!([{"containerPort": 80, "name": "a_b"}]),
                &[
                    "spec.containers[0].ports[0].name: Invalid value: \"a_b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                ],
            ),
        ],
    );
    let mut on_host = changed(&pod(), "spec/hostNetwork", &json!(true));
    on_host["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 81}]);
    assert_eq!(
        created(&PodStrategy, &on_host),
        [
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
        ]
    );
}

#[test]
fn environment() {
    let from = |value: Value| json!([{"name": "A", "valueFrom": value}]);
    check_container(
        "env",
        vec![
            (
                json!([{"name": "A=B"}]),
                &[
                    "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (
                json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                ],
            ),
            (
                from(json!({})),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                ],
            ),
            (
                from(json!({"fieldRef": {"fieldPath": "status.phase"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
                ],
            ),
            (
                from(json!({"fieldRef": {"fieldPath": "spec.what"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.what\": error converting fieldPath: field label not supported: spec.what",
                ],
            ),
            (
                from(json!({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2",
                ],
            ),
            (
                from(json!({"resourceFieldRef": {"resource": "limits.disk"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.disk\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
                ],
            ),
            (
                from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
                ],
            ),
            (
                from(json!({"configMapKeyRef": {"name": "c", "key": ""}})),
                &["spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value"],
            ),
        ],
    );
    check_container(
        "envFrom",
        vec![
            (
                json!([{}]),
                &[
                    "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                ],
            ),
            (
                json!([{"secretRef": {"name": ""}}]),
                &["spec.containers[0].envFrom[0].secretRef.name: Required value"],
            ),
        ],
    );
}

#[test]
fn mounts() {
    check_container(
        "volumeMounts",
        vec![
            (
                json!([{"name": "x", "mountPath": "/x"}]),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"x\""],
            ),
            (
                json!([{"name": "v", "mountPath": ""}]),
                &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
            ),
            (
                json!([{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]),
                &["spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique"],
            ),
            (
                json!([{"name": "v", "mountPath": "/x", "subPath": "/a"}]),
                &["spec.containers[0].volumeMounts.subPath: Invalid value: \"/a\": must be a relative path"],
            ),
            (
                json!([{"name": "v", "mountPath": "/x", "subPath": "a", "subPathExpr": "../$(A)"}]),
                &[
                    "spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"../$(A)\": subPathExpr and subPath are mutually exclusive",
                    "spec.containers[0].volumeMounts.subPathExpr: Invalid value: \"../$(A)\": must not contain '..'",
                ],
            ),
            (
                json!([{"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}]),
                &[
                    "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                ],
            ),
            (
                json!([{"name": "v", "mountPath": "/x", "recursiveReadOnly": "Enabled"}]),
                &[
                    "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                ],
            ),
        ],
    );
    check_container(
        "volumeDevices",
        vec![(
            json!([{"name": "v", "devicePath": "/dev/../x"}]),
            &[
                "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                "spec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
            ],
        )],
    );
}

#[test]
fn resources() {
    check_container(
        "resources",
        vec![
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                ],
            ),
            (
                json!({"limits": {"cpu": "-1"}, "requests": {"cpu": "-1"}}),
                &[
                    "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                json!({"requests": {"gpu": "1"}}),
                &[
                    "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                    "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"requests": {"storage": "1"}}),
                &[
                    "spec.containers[0].resources.requests[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"requests": {"a.io/gpu": "1"}}),
                &[
                    "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                ],
            ),
            (
                json!({"requests": {"a.io/gpu": "1"}, "limits": {"a.io/gpu": "2"}}),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to a.io/gpu limit of 2",
                ],
            ),
            (
                json!({"limits": {"a.io/gpu": "500m"}}),
                &[
                    "spec.containers[0].resources.limits[a.io/gpu]: Invalid value: \"500m\": must be an integer",
                    "spec.containers[0].resources.requests[a.io/gpu]: Invalid value: \"500m\": must be an integer",
                ],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi"}}),
                &[
                    "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
                ],
            ),
            (
                json!({"claims": [{"name": "x"}]}),
                &[
                    "spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty",
                ],
            ),
        ],
    );
    let mut whole = pod();
    whole["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "3"}});
    whole["spec"]["resources"] = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    assert_eq!(
        created(&PodStrategy, &whole),
        [
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
            "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
        ]
    );
}

#[test]
fn probes_and_hooks() {
    check_container(
        "livenessProbe",
        vec![
            (
                json!({"successThreshold": 2}),
                &[
                    "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                    "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                ],
            ),
            (
                json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
                &[
                    "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                ],
            ),
            (
                json!({"exec": {}, "periodSeconds": -1}),
                &[
                    "spec.containers[0].livenessProbe.exec.command: Required value",
                    "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                json!({"httpGet": {"port": 0, "scheme": "FTP", "httpHeaders": [{"name": "A B", "value": ""}]}}),
                &[
                    "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
                    "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"A B\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                ],
            ),
            (
                json!({"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 0}),
                &[
                    "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
                ],
            ),
        ],
    );
    check_container(
        "readinessProbe",
        vec![(
            json!({"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 5}),
            &[
                "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        )],
    );
    check_container(
        "lifecycle",
        vec![
            (
                json!({"preStop": {}}),
                &["spec.containers[0].lifecycle.preStop: Required value: must specify a handler type"],
            ),
            (
                json!({"preStop": {"sleep": {"seconds": 31}}}),
                &[
                    "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
                ],
            ),
        ],
    );
}

#[test]
fn volumes() {
    let one = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!([volume])
    };
    let projected = |source: Value| json!([{"name": "v", "projected": {"sources": [source]}}]);
    check(vec![
        (
            "spec/volumes",
            json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
            &["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            "spec/volumes",
            one(json!({"emptyDir": {}, "hostPath": {"path": "/x"}})),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            "spec/volumes",
            one(json!({"emptyDir": {"sizeLimit": "-1"}})),
            &[
                "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ],
        ),
        (
            "spec/volumes",
            one(json!({"hostPath": {"path": "/x/../y", "type": "Dir"}})),
            &[
                "spec.volumes[0].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'",
                "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            "spec/volumes",
            one(json!({"nfs": {"server": "s", "path": "x"}})),
            &["spec.volumes[0].nfs.path: Invalid value: \"x\": must be an absolute path"],
        ),
        ("spec/volumes", one(json!({"secret": {}})), &["spec.volumes[0].secret.secretName: Required value"]),
        (
            "spec/volumes",
            one(
                json!({"configMap": {"name": "c", "defaultMode": 512, "items": [{"key": "", "path": "../x"}]}}),
            ),
            &[
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].configMap.items[0].key: Required value",
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
            ],
        ),
        (
            "spec/volumes",
            one(json!({"persistentVolumeClaim": {"claimName": ""}})),
            &["spec.volumes[0].persistentVolumeClaim.claimName: Required value"],
        ),
        (
            "spec/volumes",
            one(json!({"downwardAPI": {"items": [{"path": "..x"}]}})),
            &[
                "spec.volumes[0].downwardAPI.path: Invalid value: \"..x\": must not start with '..'",
                "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
        (
            "spec/volumes",
            one(json!({"csi": {"driver": ""}})),
            &[
                "spec.volumes[0].csi.driver: Required value",
                "spec.volumes[0].csi.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            "spec/volumes",
            one(json!({"ephemeral": {}})),
            &["spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"],
        ),
        (
            "spec/volumes",
            one(json!({"image": {"reference": ""}})),
            &["spec.volumes[0].image.reference: Required value"],
        ),
        (
            "spec/volumes",
            one(json!({"gcePersistentDisk": {"pdName": "", "partition": 256}})),
            &[
                "spec.volumes[0].persistentDisk.pdName: Required value",
                "spec.volumes[0].persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        ),
        (
            "spec/volumes",
            projected(json!({"serviceAccountToken": {"path": "t", "expirationSeconds": 5}})),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
        (
            "spec/volumes",
            projected(
                json!({"secret": {"name": "s", "items": [{"key": "a", "path": "p"}, {"key": "b", "path": "p"}]}}),
            ),
            &["spec.volumes[0].projected: Invalid value: \"s\": conflicting duplicate paths"],
        ),
        (
            "spec/volumes",
            projected(json!({"secret": {"name": "s"}, "configMap": {"name": "s"}})),
            &[
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ],
        ),
    ]);
}
