//! What is no error, but hardly meant: `pkg/api/pod/warnings.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::validate::{APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD, containers};
use crate::api::field::quote;
use crate::api::pod_requests::quantity;
use crate::api::{Meta, Path, names};
use crate::server::registry::strategies::check::{entries, indexed, is_empty, items, text};
use crate::server::registry::strategies::node_selector;

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Of a new pod.
pub fn of_pod(pod: &Value) -> Vec<String> {
    let mut all = Vec::new();
    name(
        Meta::of(pod).name(),
        "this is used in the Pod's hostname, which can result in surprising behavior",
        &mut all,
    );
    spec_and_metadata(pod, &Path::default(), &mut all);
    all
}

/// Of an object whose pods are called after it, with a template there.
pub fn of_owner(object: &Value, template: &Value, path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let why = "this is used in Pod names and hostnames, which can result in surprising behavior";
    name(Meta::of(object).name(), why, &mut all);
    all.extend(of_template(template, path));
    all
}

/// Of a pod template.
pub fn of_template(template: &Value, path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    spec_and_metadata(template, path, &mut all);
    all
}

fn name(name: &str, why: &str, all: &mut Vec<String>) {
    let reasons = names::dns1123_label(name);
    if !reasons.is_empty() {
        let reasons = reasons.join(" ");
        all.push(format!("metadata.name: {why}; a DNS label is recommended: [{reasons}]"));
    }
}

fn spec_and_metadata(object: &Value, path: &Path, all: &mut Vec<String>) {
    let (spec, at) = (&object["spec"], path.child("spec"));
    let (annotations, annotations_at) =
        (&object["metadata"]["annotations"], path.child("metadata").child("annotations"));
    node_labels(spec, &at, all);
    for (key, message) in ANNOTATIONS.into_iter().filter(|(key, _)| annotations.get(key).is_some()) {
        all.push(format!("{}: {message}", annotations_at.key(key)));
    }
    volumes(spec, &at.child("volumes"), all);
    let lists = [("hostAliases", "ip"), ("imagePullSecrets", "name")];
    lists.into_iter().for_each(|(list, field)| duplicates(&spec[list], field, &at.child(list), all));
    fractions(&spec["overhead"], &at.child("overhead"), all);
    if spec["securityContext"]["seccompProfile"].is_null() && annotations.get(SECCOMP_POD).is_some() {
        all.push(format!("{}: {SECCOMP}", annotations_at.key(SECCOMP_POD)));
    }
    for (container, at) in containers(spec, &at) {
        profiles(container, spec, annotations, path, &annotations_at, all);
        for field in ["limits", "requests"] {
            fractions(&container["resources"][field], &at.child("resources").child(field), all);
        }
        environment(container, &at.child("env"), all);
    }
    ports(spec, &at, all);
    addresses(spec, &at, all);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) {
        let message = "must be >= 0; negative values are invalid and will be treated as 1";
        all.push(format!("{}: {message}", at.child("terminationGracePeriodSeconds")));
    }
    affinity(&spec["affinity"], &at.child("affinity"), all);
}

fn node_labels(spec: &Value, path: &Path, all: &mut Vec<String>) {
    for (key, _) in entries(&spec["nodeSelector"]) {
        if let Some(message) = node_selector::deprecated(key) {
            all.push(format!("{}: {message}", path.child("nodeSelector").key(key)));
        }
    }
    let (affinity, at) = (&spec["affinity"]["nodeAffinity"], path.child("affinity").child("nodeAffinity"));
    all.extend(node_selector::warnings(&affinity[REQUIRED], &at.child(REQUIRED)));
    for (term, path) in indexed(&affinity[PREFERRED], &at.child(PREFERRED)) {
        let (preference, path) = (&term["preference"], path.child("preference"));
        all.extend(node_selector::expression_warnings(&preference["matchExpressions"], &path));
        for (expression, path) in indexed(&preference["matchExpressions"], &path.child("matchExpressions")) {
            for (value, path) in indexed(&expression["values"], &path.child("values")) {
                for why in names::label_value(text(value)) {
                    all.push(format!("{path}: {} is invalid, {why}", text(value)));
                }
            }
        }
    }
    for (item, path) in indexed(&spec["topologySpreadConstraints"], &path.child("topologySpreadConstraints"))
    {
        let key = text(&item["topologyKey"]);
        if let Some(message) = node_selector::deprecated(key) {
            all.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if item["labelSelector"].is_null() {
            all.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
        }
    }
}

fn affinity(affinity: &Value, path: &Path, all: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, at) = (&affinity[kind], path.child(kind));
        for (term, path) in indexed(&terms[REQUIRED], &at.child(REQUIRED)) {
            if term["labelSelector"].is_null() {
                all.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
            }
        }
        for (term, path) in indexed(&terms[PREFERRED], &at.child(PREFERRED)) {
            if term["podAffinityTerm"]["labelSelector"].is_null() {
                let at = path.child("podAffinityTerm").child("labelSelector");
                all.push(format!("{at}: {NO_SELECTOR}"));
            }
        }
    }
}

fn volumes(spec: &Value, path: &Path, all: &mut Vec<String>) {
    for (volume, path) in indexed(&spec["volumes"], path) {
        for (_, shown, message) in VOLUMES.into_iter().filter(|(kind, ..)| !volume[*kind].is_null()) {
            all.push(format!("{}: {message}", path.child(shown)));
        }
        let template = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        let at = path.child("ephemeral").child("volumeClaimTemplate").child("spec");
        claim(template, &at, all);
    }
    let sources = || items(&spec["volumes"]).iter().map(|v| &v["projected"]["sources"]);
    let tokens: BTreeSet<&str> = sources()
        .flat_map(items)
        .map(|s| text(&s["serviceAccountToken"]["path"]))
        .filter(|p| !p.is_empty())
        .collect();
    for (index, list) in sources().enumerate() {
        let at = path.index(index).child("projected").child("sources");
        for source in items(list) {
            for (kind, shown) in
                [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")]
            {
                for (item, at) in indexed(&source[kind]["items"], &at.child(shown)) {
                    token_path(&item["path"], &tokens, &at, all);
                }
            }
            let bundle = &source["clusterTrustBundle"]["path"];
            token_path(bundle, &tokens, &at.child("ClusterTrustBundle"), all);
        }
    }
}

fn token_path(file: &Value, tokens: &BTreeSet<&str>, path: &Path, all: &mut Vec<String>) {
    if tokens.contains(text(file)) {
        all.push(format!("{path}: has duplicated path with ServiceAccountToken {}", quote(text(file))));
    }
}

/// Of the spec of a claim, or of a template of claims.
pub fn claim(spec: &Value, path: &Path, all: &mut Vec<String>) {
    for field in ["requests", "limits"] {
        if let Some(value) = spec["resources"][field].get("storage") {
            fraction(value, &path.child("resources").child(field).key("storage"), all);
        }
    }
}

fn duplicates(list: &Value, field: &str, path: &Path, all: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (item, at) in indexed(list, path) {
        if !seen.insert(text(&item[field])) {
            all.push(format!("{}: duplicate {field} {}", at.child(field), quote(text(&item[field]))));
        }
    }
    for (_, at) in indexed(list, path).filter(|(item, _)| field == "name" && is_empty(&item["name"])) {
        all.push(format!("{}: invalid empty name \"\"", at.child("name")));
    }
}

/// Bytes come whole.
fn fractions(amounts: &Value, path: &Path, all: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(value) = amounts.get(name) {
            fraction(value, &path.key(name), all);
        }
    }
}

fn fraction(value: &Value, path: &Path, all: &mut Vec<String>) {
    let Some(amount) = quantity(value) else { return };
    if amount.to_units().checked_mul(1000) != Some(amount.to_millis()) && amount.to_millis() < i64::MAX {
        let shown = quote(&amount.to_string());
        all.push(format!("{path}: fractional byte value {shown} is invalid, must be an integer"));
    }
}

fn profiles(
    container: &Value,
    spec: &Value,
    annotations: &Value,
    path: &Path,
    annotations_at: &Path,
    all: &mut Vec<String>,
) {
    let name = text(&container["name"]);
    let own = |field: &str| !container["securityContext"][field].is_null();
    let key = format!("{SECCOMP_CONTAINER}{name}");
    if !own("seccompProfile") && annotations.get(&key).is_some() {
        all.push(format!("{}: {SECCOMP}", annotations_at.key(&key)));
    }
    let key = format!("{APP_ARMOR}{name}");
    // A pod's annotations have become fields by now.
    let said = own("appArmorProfile") || !spec["securityContext"]["appArmorProfile"].is_null();
    if *path != Path::default() && !said && annotations.get(&key).is_some() {
        let message = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
        all.push(format!("{}: {message}", annotations_at.key(&key)));
    }
}

fn environment(container: &Value, path: &Path, all: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (variable, path) in indexed(&container["env"], path) {
        let name = text(&variable["name"]);
        if seen.insert(name) {
            continue;
        }
        // A value that builds on the one before is meant so.
        let (value, reference) = (text(&variable["value"]), format!("$({name})"));
        if !variable["valueFrom"].is_null() || value == reference || !value.contains(&reference) {
            let shown = quote(name);
            all.push(format!(
                "{path}: hides previous definition of {shown}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(spec: &Value, path: &Path, all: &mut Vec<String>) {
    let mut seen: BTreeMap<String, Vec<(Path, &Value)>> = BTreeMap::new();
    let of_host =
        |port: &Value| (port["hostPort"].as_i64().unwrap_or_default(), text(&port["hostIP"]).to_owned());
    for (container, at) in containers(spec, path) {
        for (port, at) in indexed(&container["ports"], &at.child("ports")) {
            let (host_port, host_ip) = of_host(port);
            if host_port == 0 && !host_ip.is_empty() {
                all.push(format!("{at}: hostIP set without hostPort: {port}"));
            }
            let key = format!("{}/{}", port["containerPort"], text(&port["protocol"]));
            let others = seen.entry(key).or_default();
            for (other_at, other) in others.iter() {
                let (other_port, other_ip) = of_host(other);
                let what = if (host_port, &host_ip) == (other_port, &other_ip) {
                    "duplicate"
                } else if host_port == 0 || other_port == 0 {
                    "overlapping"
                } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                all.push(format!("{at}: {what} port definition with {other_at}"));
            }
            others.push((at, port));
        }
    }
}

fn addresses(spec: &Value, path: &Path, all: &mut Vec<String>) {
    let servers = path.child("dnsConfig").child("nameservers");
    for (server, path) in indexed(&spec["dnsConfig"]["nameservers"], &servers) {
        address(text(server), &path, all);
    }
    for (alias, path) in indexed(&spec["hostAliases"], &path.child("hostAliases")) {
        address(text(&alias["ip"]), &path.child("ip"), all);
    }
}

/// An address that is written otherwise than it should be.
pub fn address(value: &str, path: &Path, all: &mut Vec<String>) {
    let Ok(IpAddr::V6(parsed)) = value.parse::<IpAddr>() else { return };
    let shown = quote(value);
    if let Some(v4) = parsed.to_ipv4_mapped() {
        all.push(format!(
            "{path}: non-standard IP address {shown} will be considered invalid in a future Kubernetes release: use \"{v4}\""
        ));
    } else if parsed.to_string() != value {
        all.push(format!(
            "{path}: IPv6 address {shown} should be in RFC 5952 canonical format (\"{parsed}\")"
        ));
    }
}
