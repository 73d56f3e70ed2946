//! Columns of nodes, namespaces, events, leases and what limits and ranks pods.

use serde_json::{Value, json};

use super::{
    AGE, CREATED_AT, Clock, Column, NAME, NONE, UNKNOWN, int_at, items, join_or_none, len_at, text_at, texts,
};

/// Columns of nodes.
pub const NODES: &[Column] = &[
    NAME,
    Column::text("Status", "The status of the node", |o, _| node_status(o).into()),
    Column::text("Roles", "The roles of the node", |o, _| node_roles(o).into()),
    AGE,
    Column::text("Version", "Kubelet version reported by the node.", |o, _| info(o, "kubeletVersion", "")),
    Column::text("Internal-IP", "The node's address in the cluster.", |o, _| address(o, "InternalIP").into())
        .wide(),
    Column::text("External-IP", "The node's address outside.", |o, _| address(o, "ExternalIP").into()).wide(),
    Column::text("OS-Image", "The operating system.", |o, _| info(o, "osImage", UNKNOWN)).wide(),
    Column::text("Kernel-Version", "The kernel.", |o, _| info(o, "kernelVersion", UNKNOWN)).wide(),
    Column::text("Container-Runtime", "The container runtime.", |o, _| {
        info(o, "containerRuntimeVersion", UNKNOWN)
    })
    .wide(),
];

/// Columns of namespaces.
pub const NAMESPACES: &[Column] = &[
    NAME,
    Column::text("Status", "The status of the namespace", |o, _| text_at(o, "/status/phase", "").into()),
    AGE,
];

/// Columns of events of both groups, in their stored form.
pub const EVENTS: &[Column] = &[
    Column::text(
        "Last Seen",
        "The time at which the most recent occurrence of this event was recorded.",
        |o, c| last_seen(o, c).into(),
    ),
    Column::text("Type", "Type of this event.", |o, _| text_at(o, "/type", "").into()),
    Column::text("Reason", "Why the event was made.", |o, _| text_at(o, "/reason", "").into()),
    Column::text("Object", "What it is about.", |o, _| involved(o).into()),
    Column::text("Subobject", "Part of what it is about.", |o, _| {
        text_at(o, "/involvedObject/fieldPath", "").into()
    })
    .wide(),
    Column::text("Source", "The component that reports it.", |o, _| source(o).into()).wide(),
    Column::text("Message", "A description of the status of this operation.", |o, _| {
        text_at(o, "/message", "").trim().into()
    }),
    Column::text("First Seen", "The time at which the event was first recorded.", |o, c| {
        first_seen(o, c).into()
    })
    .wide(),
    Column::text("Count", "The number of times this event has occurred.", |o, _| count(o)).wide(),
    Column { priority: 1, ..NAME },
];

/// Columns of leases.
pub const LEASES: &[Column] = &[
    NAME,
    Column::text("Holder", "Who holds the lease.", |o, _| text_at(o, "/spec/holderIdentity", "").into()),
    AGE,
];

/// Columns of priority classes.
pub const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    Column::int("Value", "The priority.", |o, _| int_at(o, "/value").into()),
    Column {
        kind: "boolean",
        ..Column::text("Global-Default", "Pods without a class have this one.", |o, _| {
            json!(o["globalDefault"] == true)
        })
    },
    AGE,
    Column::text("PreemptionPolicy", "Whether its pods may displace others.", |o, _| {
        text_at(o, "/preemptionPolicy", "PreemptLowerPriority").into()
    }),
];

/// Columns of runtime classes.
pub const RUNTIME_CLASSES: &[Column] =
    &[NAME, Column::text("Handler", "The runtime.", |o, _| o["handler"].clone()), AGE];

/// Columns of resource quotas.
pub const RESOURCE_QUOTAS: &[Column] = &[
    NAME,
    Column::text("Request", "Used and allowed amounts.", |o, _| {
        quota(o, |k| !k.starts_with("limits.")).into()
    }),
    Column::text("Limit", "Used and allowed limits.", |o, _| quota(o, |k| k.starts_with("limits.")).into()),
    AGE,
];

/// Columns of limit ranges.
pub const LIMIT_RANGES: &[Column] = &[NAME, CREATED_AT];

/// Columns of component statuses.
pub const COMPONENT_STATUSES: &[Column] = &[
    NAME,
    Column::text("Status", "Status of the component conditions", |o, _| healthy(o).into()),
    Column::text("Message", "Message of the component conditions", |o, _| {
        text_at(o, "/conditions/0/message", "").into()
    }),
    Column::text("Error", "Error of the component conditions", |o, _| {
        text_at(o, "/conditions/0/error", "").into()
    }),
];

fn info(node: &Value, field: &str, otherwise: &str) -> Value {
    json!(text_at(node, &format!("/status/nodeInfo/{field}"), otherwise))
}

fn node_status(node: &Value) -> String {
    let ready = items(node, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let mut status = match ready.map(|c| text_at(c, "/status", "")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn node_roles(node: &Value) -> String {
    const ROLE: &str = "node-role.kubernetes.io/";
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    join_or_none(&roles, ",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let address = items(node, "/status/addresses").iter().find(|a| a["type"] == kind);
    address.map_or(NONE, |a| text_at(a, "/address", NONE))
}

fn involved(event: &Value) -> String {
    let kind = text_at(event, "/involvedObject/kind", "").to_ascii_lowercase();
    match text_at(event, "/involvedObject/name", "") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let component = text_at(event, "/source/component", text_at(event, "/reportingComponent", ""));
    match text_at(event, "/source/host", text_at(event, "/reportingInstance", "")) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

fn first_seen(event: &Value, clock: &Clock) -> String {
    match &event["firstTimestamp"] {
        Value::Null => clock.age(&event["eventTime"]),
        time => clock.age(time),
    }
}

fn last_seen(event: &Value, clock: &Clock) -> String {
    if let Some(series) = event.get("series").filter(|s| s.is_object()) {
        return clock.age(&series["lastObservedTime"]);
    }
    match &event["lastTimestamp"] {
        Value::Null => first_seen(event, clock),
        time => clock.age(time),
    }
}

fn count(event: &Value) -> Value {
    let series = event.pointer("/series/count").and_then(Value::as_i64);
    json!(series.unwrap_or_else(|| int_at(event, "/count").max(1)))
}

fn quota(object: &Value, wanted: fn(&str) -> bool) -> String {
    let used = &object["status"]["used"];
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let list: Vec<String> = hard
        .into_iter()
        .flatten()
        .filter(|(key, _)| wanted(key))
        .map(|(key, hard)| {
            format!("{key}: {}/{}", used[key].as_str().unwrap_or("0"), hard.as_str().unwrap_or_default())
        })
        .collect();
    list.join(", ")
}

fn healthy(object: &Value) -> &'static str {
    let condition = items(object, "/conditions").iter().find(|c| c["type"] == "Healthy");
    match condition.map(|c| text_at(c, "/status", "")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => UNKNOWN,
    }
}

/// Columns of certificate signing requests.
pub const SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    Column::text("SignerName", "The signer it is meant for.", |o, _| {
        text_at(o, "/spec/signerName", NONE).into()
    }),
    Column::text("Requestor", "Who asks for it.", |o, _| text_at(o, "/spec/username", "").into()),
    Column::text("RequestedDuration", "How long it is to be good.", |o, _| {
        match int_at(o, "/spec/expirationSeconds") {
            0 => NONE.into(),
            seconds => super::human_duration(seconds).into(),
        }
    }),
    Column::text("Condition", "Where it stands.", |o, _| request_condition(o).into()),
];

fn request_condition(request: &Value) -> String {
    let has = |kind: &str| items(request, "/status/conditions").iter().any(|c| c["type"] == kind);
    let mut status = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if len_at(request, "/status") > 0 && !text_at(request, "/status/certificate", "").is_empty() {
        status.push_str(",Issued");
    }
    status
}

/// Columns of custom resource definitions.
pub const DEFINITIONS: &[Column] = &[NAME, CREATED_AT];

/// Columns of kinds that count the items of a list: webhooks, validations.
pub const WEBHOOKS: &[Column] = &[
    NAME,
    Column::int(
        "Webhooks",
        "Webhooks indicates the number of webhooks registered in this configuration",
        |o, _| items(o, "/webhooks").len().into(),
    ),
    AGE,
];

/// Columns of admission policies.
pub const ADMISSION_POLICIES: &[Column] = &[
    NAME,
    Column::int(
        "Validations",
        "Validations indicates the number of validation rules defined in this configuration",
        |o, _| items(o, "/spec/validations").len().into(),
    ),
    Column::text(
        "ParamKind",
        "ParamKind specifies the kind of resources used to parameterize this policy",
        |o, _| match o.pointer("/spec/paramKind") {
            Some(kind) if kind.is_object() => {
                format!("{}/{}", text_at(kind, "/apiVersion", ""), text_at(kind, "/kind", "")).into()
            }
            _ => "<unset>".into(),
        },
    ),
    AGE,
];

/// Columns of admission policy bindings.
pub const ADMISSION_BINDINGS: &[Column] = &[
    NAME,
    Column::text("PolicyName", "The policy.", |o, _| text_at(o, "/spec/policyName", "").into()),
    Column::text("ParamRef", "The parameters.", |o, _| match text_at(o, "/spec/paramRef/name", "") {
        "" => "<unset>".into(),
        name => match text_at(o, "/spec/paramRef/namespace", "") {
            "" => name.into(),
            namespace => format!("{namespace}/{name}").into(),
        },
    }),
    AGE,
];

/// Columns of CSI drivers.
pub const CSI_DRIVERS: &[Column] = &[
    NAME,
    Column {
        kind: "boolean",
        ..Column::text("AttachRequired", "Volumes are attached first.", |o, _| {
            json!(o["spec"]["attachRequired"] != false)
        })
    },
    Column {
        kind: "boolean",
        ..Column::text("PodInfoOnMount", "The driver is told of the pod.", |o, _| {
            json!(o["spec"]["podInfoOnMount"] == true)
        })
    },
    Column {
        kind: "boolean",
        ..Column::text("StorageCapacity", "The scheduler minds capacity.", |o, _| {
            json!(o["spec"]["storageCapacity"] == true)
        })
    },
    Column::text("TokenRequests", "Audiences of tokens it is given.", |o, _| {
        let list: Vec<&str> =
            items(o, "/spec/tokenRequests").iter().map(|t| text_at(t, "/audience", "")).collect();
        if list.is_empty() { "<unset>".into() } else { list.join(",").into() }
    }),
    Column {
        kind: "boolean",
        ..Column::text("RequiresRepublish", "Mounts are refreshed.", |o, _| {
            json!(o["spec"]["requiresRepublish"] == true)
        })
    },
    Column::text("Modes", "Kinds of volumes.", |o, _| match texts(items(o, "/spec/volumeLifecycleModes")) {
        list if list.is_empty() => "Persistent".into(),
        list => list.join(",").into(),
    }),
    AGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Column], object: &Value) -> Value {
        let clock = Clock("2026-01-01T01:00:00Z".parse().unwrap());
        columns.iter().map(|c| (c.cell)(object, &clock)).collect()
    }

    #[test]
    fn a_node() {
        let node = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/a": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "osImage": "os", "kernelVersion": "k", "containerRuntimeVersion": "r"}}});
        assert_eq!(
            row(NODES, &node),
            json!([
                "n",
                "Ready,SchedulingDisabled",
                "a,control-plane",
                "60m",
                "v1",
                "10.0.0.1",
                "<none>",
                "os",
                "k",
                "r"
            ])
        );
    }

    #[test]
    fn events_old_and_new() {
        let old = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": "done\n", "count": 3,
            "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:00Z",
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "n"}});
        assert_eq!(
            row(EVENTS, &old),
            json!(["60s", "Normal", "Pulled", "pod/p", "", "kubelet, n", "done", "10m", 3, "e"])
        );
        let new = json!({"eventTime": "2026-01-01T00:59:30.123456Z", "reportingComponent": "x",
            "involvedObject": {"kind": "Node", "name": "n"}});
        let new = row(EVENTS, &new);
        assert_eq!((&new[0], &new[5], &new[8]), (&json!("30s"), &json!("x"), &json!(1)));
    }

    #[test]
    fn quotas_show_what_is_used() {
        let quota = json!({"metadata": {"name": "q"}, "status": {"hard": {"limits.cpu": "2", "pods": "4"}, "used": {"pods": "1"}}});
        assert_eq!(row(&RESOURCE_QUOTAS[..3], &quota), json!(["q", "pods: 1/4", "limits.cpu: 0/2"]));
    }
}
