use serde_json::{Value, json};

use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use crate::server::registry::strategy::{Context, Strategy};

fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    run(&Context { user: &User::loopback(), namespace: Some("a"), reader: &Fake::default(), dry_run: false })
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn created(strategy: &dyn Strategy, object: &Value, wanted: &[&str]) {
    assert_eq!(texts(&with(|cx| strategy.validate_create(cx, object))), wanted);
}

#[track_caller]
fn updated(strategy: &dyn Strategy, new: &Value, old: &Value, wanted: &[&str]) {
    assert_eq!(texts(&with(|cx| strategy.validate_update(cx, new, old))), wanted);
}

fn with_spec(base: Value, more: Value) -> Value {
    let mut spec = base;
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

fn a_claim(more: Value) -> Value {
    let base = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut claim = with_spec(base, more);
    claim["status"] = json!({"phase": "Pending"});
    claim
}

fn a_volume(more: Value) -> Value {
    with_spec(json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}), more)
}

#[test]
fn a_claim_asks_for_a_mode_and_a_size() {
    created(&ClaimStrategy, &a_claim(json!({})), &[]);
    created(
        &ClaimStrategy,
        &json!({"spec": {}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    );
    created(
        &ClaimStrategy,
        &a_claim(
            json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce", "X"], "volumeMode": "Odd", "storageClassName": "A_b",
            "resources": {"requests": {"storage": "0"}}}),
        ),
        &[
            "spec.accessModes: Unsupported value: \"X\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            "spec.storageClassName: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.volumeMode: Unsupported value: \"Odd\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
}

#[test]
fn a_claim_says_once_where_its_data_comes_from() {
    let prepared = |more: Value| {
        let mut claim = a_claim(more);
        with(|cx| ClaimStrategy.prepare_create(cx, &mut claim)).unwrap();
        claim
    };
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    let made = prepared(json!({"dataSource": snapshot}));
    assert_eq!(made["spec"]["dataSourceRef"], snapshot);
    let other = json!({"apiGroup": "example.com", "kind": "X", "name": "s"});
    assert!(prepared(json!({"dataSource": other}))["spec"].get("dataSource").is_none());
    let made = prepared(json!({"dataSourceRef": other}));
    assert_eq!(made["spec"]["dataSource"], other);
    created(
        &ClaimStrategy,
        &a_claim(json!({"dataSource": snapshot, "dataSourceRef": {"kind": "X", "name": "n"}})),
        &[
            "spec.dataSourceRef: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
        ],
    );
}

#[test]
fn a_claim_is_bound_once_and_only_grows() {
    const SEALED: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
    let mut bound = a_claim(json!({"volumeName": "pv"}));
    updated(&ClaimStrategy, &bound, &a_claim(json!({})), &[]);
    let mut other = bound.clone();
    other["spec"]["volumeName"] = json!("other");
    let wanted = format!("{SEALED}- volumeName: \"pv\"\n+ volumeName: \"other\"");
    updated(&ClaimStrategy, &other, &bound, &[&wanted]);
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let size = |claim: &Value, size: &str| {
        let mut claim = claim.clone();
        claim["spec"]["resources"]["requests"]["storage"] = json!(size);
        claim
    };
    let grown = size(&bound, "2Gi");
    updated(&ClaimStrategy, &grown, &bound, &[]);
    updated(&ClaimStrategy, &size(&bound, "1500Mi"), &grown, &[]);
    let less = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
    updated(&ClaimStrategy, &bound, &grown, &[less]);
    let pending = a_claim(json!({}));
    let wanted = format!(
        "{SEALED}- resources: {{\"requests\":{{\"storage\":\"1Gi\"}}}}\n+ resources: {{\"requests\":{{\"storage\":\"2Gi\"}}}}"
    );
    updated(&ClaimStrategy, &size(&pending, "2Gi"), &pending, &[&wanted]);
    updated(&ClaimStrategy, &a_claim(json!({"storageClassName": "fast"})), &pending, &[]);
    let named = a_claim(json!({"storageClassName": "fast"}));
    let wanted = format!("{SEALED}- storageClassName: \"fast\"\n+ storageClassName: \"slow\"");
    updated(&ClaimStrategy, &a_claim(json!({"storageClassName": "slow"})), &named, &[&wanted]);
}

#[test]
fn the_status_of_a_claim_tells_of_storage() {
    let claim =
        json!({"status": {"allocatedResourceStatuses": {"storage": "Odd", "cpu": "NodeResizePending"}}});
    assert_eq!(
        texts(&with(|cx| ClaimStrategy.validate_subresource(cx, "status", &claim, &claim))),
        [
            "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"storage\"",
            "status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"",
        ]
    );
}

#[test]
fn a_volume_has_one_source_that_stays() {
    created(&VolumeStrategy, &a_volume(json!({"hostPath": {"path": "/a"}})), &[]);
    created(&VolumeStrategy, &a_volume(json!({})), &["spec: Required value: must specify a volume type"]);
    created(
        &VolumeStrategy,
        &json!({"spec": {"nfs": {"path": "x"}, "hostPath": {"path": "/a/../b", "type": "Odd"}}}),
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: null: supported values: \"storage\"",
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.hostPath.type: Unsupported value: \"Odd\": supported values: \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ],
    );
    created(
        &VolumeStrategy,
        &a_volume(json!({"local": {"path": "/a"}})),
        &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
    );
    created(
        &VolumeStrategy,
        &a_volume(
            json!({"csi": {"driver": "A_", "nodePublishSecretRef": {"name": "s"}}, "volumeAttributesClassName": "",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Gt"}], "matchFields": [{"key": "b", "operator": "In", "values": ["x"]}]}]}}}),
        ),
        &[
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"b\": not a valid field selector key",
            "spec.csi.driver: Invalid value: \"A_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.csi.volumeHandle: Required value",
            "spec.csi.nodePublishSecretRef.namespace: Required value",
            "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
        ],
    );
    let (old, new) =
        (a_volume(json!({"hostPath": {"path": "/a"}})), a_volume(json!({"hostPath": {"path": "/b"}})));
    updated(
        &VolumeStrategy,
        &new,
        &old,
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n- hostPath: {\"path\":\"/a\"}\n+ hostPath: {\"path\":\"/b\"}",
        ],
    );
}

#[test]
fn a_volume_stays_where_it_is() {
    let at = |label: &str| {
        let term = json!({"matchExpressions": [{"key": label, "operator": "In", "values": ["z"]}]});
        a_volume(
            json!({"hostPath": {"path": "/a"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}),
        )
    };
    let (beta, stable) = (at("failure-domain.beta.kubernetes.io/zone"), at("topology.kubernetes.io/zone"));
    updated(&VolumeStrategy, &stable, &beta, &[]);
    let errors = with(|cx| VolumeStrategy.validate_update(cx, &at("other"), &stable));
    assert_eq!(errors[0].field.as_str(), "nodeAffinity");
    assert_eq!(errors[0].detail, "field is immutable, except for updating from beta label to GA");
    assert_eq!(
        VolumeStrategy.warnings(&beta),
        [
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        ]
    );
}

#[test]
fn a_class_stays_what_it_is() {
    let class = |provisioner: &str| json!({"provisioner": provisioner, "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"});
    updated(
        &ClassStrategy,
        &class("b"),
        &class("a"),
        &["provisioner: Forbidden: updates to provisioner are forbidden."],
    );
    created(&ClassStrategy, &class(""), &["provisioner: Required value"]);
    let mut odd = class("p");
    odd["allowedTopologies"] =
        json!([{"matchLabelExpressions": [{"key": "a", "values": []}, {"key": "a", "values": ["x", "x"]}]}]);
    created(
        &ClassStrategy,
        &odd,
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            "allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: \"x\"",
            "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
        ],
    );
    created(
        &AttributesClassStrategy,
        &json!({"driverName": "d"}),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    updated(
        &AttributesClassStrategy,
        &json!({"driverName": "d", "parameters": {"a": "c"}}),
        &json!({"driverName": "d", "parameters": {"a": "b"}}),
        &["parameters: Forbidden: updates to parameters are forbidden."],
    );
}

#[test]
fn drivers_and_their_nodes() {
    created(
        &DriverStrategy,
        &json!({"spec": {"fsGroupPolicy": "Odd", "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}],
            "volumeLifecycleModes": ["X"], "nodeAllocatableUpdatePeriodSeconds": 5}}),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.volumeLifecycleModes: Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 5: must be greater than or equal to 10 seconds",
        ],
    );
    updated(
        &DriverStrategy,
        &json!({"spec": {"attachRequired": false}}),
        &json!({"spec": {"attachRequired": true}}),
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
    );
    let node = |driver: Value| json!({"spec": {"drivers": [driver]}});
    created(&NodeStrategy, &node(json!({"name": "d"})), &["spec.drivers[0].nodeID: Required value"]);
    let (old, new) = (
        node(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 1}})),
        node(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 2}})),
    );
    updated(&NodeStrategy, &new, &old, &[]);
    updated(
        &NodeStrategy,
        &node(json!({"name": "d", "nodeID": "m"})),
        &old,
        &["spec.drivers: Invalid value: {\"name\":\"d\",\"nodeID\":\"m\"}: field is immutable"],
    );
    let capacity = |class: &str| json!({"storageClassName": class, "capacity": "-1"});
    created(
        &CapacityStrategy,
        &capacity("a"),
        &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    updated(
        &CapacityStrategy,
        &capacity("b"),
        &capacity("a"),
        &["storageClassName: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn an_attachment_names_one_volume() {
    let attachment = |source: Value| json!({"spec": {"attacher": "d", "nodeName": "n", "source": source}});
    created(&AttachmentStrategy, &attachment(json!({"persistentVolumeName": "pv"})), &[]);
    created(
        &AttachmentStrategy,
        &attachment(json!({})),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    created(
        &AttachmentStrategy,
        &attachment(
            json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}, "storageClassName": "c"}}),
        ),
        &[
            "spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes",
            "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
        ],
    );
    let (old, new) =
        (attachment(json!({"persistentVolumeName": "a"})), attachment(json!({"persistentVolumeName": "b"})));
    let errors = with(|cx| AttachmentStrategy.validate_update(cx, &new, &old));
    assert_eq!((errors[0].field.as_str(), errors[0].detail.as_str()), ("spec", "field is immutable"));
}
