use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::api::FieldValidation;
use crate::api::schema::Node;

/// A number in base 128.
fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// A field with bytes.
fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field with a number.
fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

fn body(api_version: &str, kind: &str, object: impl AsRef<[u8]>) -> Vec<u8> {
    let meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [PREFIX, &bytes(1, meta), &bytes(2, object), &bytes(3, ""), &bytes(4, "")].concat()
}

fn read(api_version: &str, kind: &str, fields: &[Vec<u8>]) -> Value {
    decode(&body(api_version, kind, fields.concat()), None).expect("it can be read")
}

/// The body of `kubectl create deployment web --image=nginx:1.27 --replicas=0 --port=80`.
const DEPLOYMENT: &str = "\
    6b3873000a150a07617070732f7631120a4465706c6f796d656e7412bd010a1f0a0377656212001a0022002a003200380042\
    005a0a0a036170701203776562128b010800120c0a0a0a0361707012037765621a710a1c0a0012001a0022002a0032003800\
    42005a0a0a036170701203776562125112330a056e67696e78120a6e67696e783a312e32372a00320a0a001000185022002a\
    0042006a007200800100880100900100a201001a00320042004a0052005800600068008201008a01009a0100c2010022020a\
    00280038001a0c0800100018002000280038001a002200";

#[test]
fn a_deployment_as_kubectl_sends_it() {
    let mut sent = hex::decode(DEPLOYMENT).expect("hexadecimal");
    let as_json = json!({
        "kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "nginx", "image": "nginx:1.27", "ports": [{"containerPort": 80}], "resources": {},
                }]},
            },
            "strategy": {},
        },
        "status": {},
    });
    assert_eq!(decode(&sent, None).expect("it is read"), as_json);
    let schema = schema_of("apps/v1", "Deployment").expect("built in");
    let accepted = schema.decode(MEDIA_TYPE, &sent, FieldValidation::Strict).expect("accepted");
    assert_eq!(accepted, (as_json, Vec::new()));
    // Half of it is an error of the object, with its place.
    sent.truncate(150);
    assert!(decode(&sent, None).is_err());
}

#[test]
fn what_is_empty_counts_where_go_would_write_it() {
    let container = [bytes(1, "c"), bytes(2, ""), bytes(8, "")].concat();
    let spec = [bytes(2, container), int(11, 0), int(21, 0), int(4, 0), bytes(3, ""), bytes(19, "")].concat();
    let pod = read("v1", "Pod", &[bytes(1, bytes(1, "p")), bytes(2, spec), bytes(3, "")]);
    // hostNetwork and restartPolicy are no pointers; terminationGracePeriodSeconds and
    // automountServiceAccountToken are.
    assert_eq!(
        pod["spec"],
        json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "resources": {}}]})
    );
    assert_eq!(pod["status"], json!({}));
    let claim = read("v1", "PersistentVolumeClaim", &[bytes(2, [bytes(5, ""), bytes(3, "")].concat())]);
    assert_eq!(claim["spec"], json!({"storageClassName": ""}));
}

#[test]
fn embedded_messages_lie_in_the_outer_one() {
    let empty_dir = bytes(1, [bytes(1, "v"), bytes(2, bytes(2, ""))].concat());
    let config_map = bytes(1, [bytes(1, "w"), bytes(2, bytes(19, bytes(1, bytes(1, "c"))))].concat());
    let pod = read("v1", "Pod", &[bytes(2, [empty_dir, config_map].concat())]);
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "c"}}])
    );
    let rule =
        [bytes(1, "name"), bytes(2, [bytes(1, "CREATE"), bytes(2, bytes(3, "pods"))].concat())].concat();
    let policy = bytes(2, bytes(2, bytes(3, rule)));
    let policy = read("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", &[policy]);
    assert_eq!(
        policy["spec"]["matchConstraints"]["resourceRules"],
        json!([{"resourceNames": ["name"], "operations": ["CREATE"], "resources": ["pods"]}])
    );
}

#[test]
fn special_types_have_their_own_json() {
    let time = [int(1, 1_700_000_000), int(2, 123_456_789)].concat();
    let lease = read(
        "coordination.k8s.io/v1",
        "Lease",
        &[
            bytes(1, [bytes(8, &time), bytes(9, "")].concat()),
            bytes(2, [bytes(3, &time), int(2, -1)].concat()),
        ],
    );
    assert_eq!(lease["metadata"], json!({"creationTimestamp": "2023-11-14T22:13:20Z"}));
    let spec = json!({"acquireTime": "2023-11-14T22:13:20.123456Z", "leaseDurationSeconds": -1});
    assert_eq!(lease["spec"], spec);
    let port = |target: Vec<u8>| bytes(1, [int(3, 80), bytes(4, target)].concat());
    let number = port([int(1, 0), int(2, 8080), bytes(3, "")].concat());
    let name = port([int(1, 1), int(2, 0), bytes(3, "http")].concat());
    let service = read("v1", "Service", &[bytes(2, [number, name].concat())]);
    let ports = json!([{"port": 80, "targetPort": 8080}, {"port": 80, "targetPort": "http"}]);
    assert_eq!(service["spec"]["ports"], ports);
    let extra = bytes(5, [bytes(1, "k"), bytes(2, [bytes(1, "a"), bytes(1, "b")].concat())].concat());
    let review = read("authorization.k8s.io/v1", "SubjectAccessReview", &[bytes(2, extra)]);
    assert_eq!(review["spec"]["extra"], json!({"k": ["a", "b"]}));
    let entry = |key: &str, value: Vec<u8>| [bytes(1, key), value].concat();
    let amounts = bytes(1, entry("cpu", bytes(2, bytes(1, "100m"))));
    let quota = read("v1", "ResourceQuota", &[bytes(2, amounts)]);
    assert_eq!(quota["spec"]["hard"], json!({"cpu": "100m"}));
    let secret =
        read("v1", "Secret", &[bytes(2, entry("k", bytes(2, [0xff]))), bytes(2, entry("e", Vec::new()))]);
    assert_eq!(secret["data"], json!({"k": "/w==", "e": ""}));
    let revision = read("apps/v1", "ControllerRevision", &[bytes(2, bytes(1, r#"{"a":1}"#)), int(3, 0)]);
    assert_eq!((&revision["data"], &revision["revision"]), (&json!({"a": 1}), &json!(0)));
}

#[test]
fn schemas_of_custom_kinds() {
    let typed = |kind: &str| bytes(5, kind);
    let named = |name: &str, props: Vec<u8>| bytes(29, [bytes(1, name), bytes(2, props)].concat());
    let maximum = [varint(9 << 3 | 1), 1.5f64.to_le_bytes().to_vec()].concat();
    let props = [
        typed("object"),
        named("list", [typed("array"), bytes(24, bytes(1, typed("string")))].concat()),
        named("either", bytes(30, bytes(2, typed("string")))),
        named("closed", bytes(30, [int(1, 0)].concat())),
        named("amount", [maximum, bytes(8, bytes(1, "1")), bytes(20, bytes(1, "\"x\""))].concat()),
        named("needs", bytes(32, [bytes(1, "k"), bytes(2, bytes(2, "a"))].concat())),
    ];
    let version = [
        bytes(1, "v1"),
        int(2, 1),
        bytes(4, bytes(1, props.concat())),
        bytes(5, [bytes(1, ""), bytes(2, bytes(1, ".spec.replicas"))].concat()),
    ];
    let object = bytes(2, bytes(7, version.concat()));
    let definition = read("apiextensions.k8s.io/v1", "CustomResourceDefinition", &[object]);
    let version = &definition["spec"]["versions"][0];
    assert_eq!(
        version["subresources"],
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas"}})
    );
    assert_eq!(
        version["schema"]["openAPIV3Schema"]["properties"],
        json!({
            "list": {"type": "array", "items": {"type": "string"}},
            "either": {"additionalProperties": {"type": "string"}},
            "closed": {"additionalProperties": false},
            "amount": {"maximum": 1.5, "default": 1, "enum": ["x"]},
            "needs": {"dependencies": {"k": ["a"]}},
        })
    );
}

#[test]
fn the_wire_is_read_as_its_specification_says() {
    let security = |groups: Vec<u8>| bytes(2, bytes(14, groups));
    let packed = security(bytes(4, [varint(1), varint(300)].concat()));
    let apart = security([int(4, 1), int(4, 300)].concat());
    for groups in [packed, apart] {
        assert_eq!(
            read("v1", "Pod", &[groups])["spec"]["securityContext"]["supplementalGroups"],
            json!([1, 300])
        );
    }
    // Parts of a message are put together, the last of several scalars counts, what is unknown is skipped.
    let unknown = [bytes(200, "x"), int(20_000, 7), varint(99 << 3 | 3), int(1, 1), varint(99 << 3 | 4)];
    let node_name = |name| bytes(2, bytes(10, name));
    let fixed = [varint(98 << 3 | 5), vec![0; 4], varint(97 << 3 | 1), vec![0; 8]].concat();
    let pod = read(
        "v1",
        "Pod",
        &[node_name("a"), unknown.concat(), node_name("b"), bytes(2, bytes(16, "h")), fixed],
    );
    assert_eq!(pod["spec"], json!({"nodeName": "b", "hostname": "h"}));
}

#[test]
fn what_is_malformed_is_refused_with_its_place() {
    let schema = schema_of("v1", "Pod").expect("built in");
    let message = |body: &[u8]| {
        let status = schema.decode(MEDIA_TYPE, body, FieldValidation::Warn).expect_err("malformed");
        assert_eq!(status.code, 400);
        status.message
    };
    let object = |object: Vec<u8>| message(&body("v1", "Pod", object));
    let table = [
        (object(bytes(2, [0x52, 5, b'a'])), "unexpected EOF at byte 21"),
        (object(int(2, 1)), "proto: wrong wireType = 0 for field spec at byte 17"),
        (object(bytes(2, bytes(10, [0xff]))), "proto: field nodeName contains invalid UTF-8 at byte 21"),
        (object(vec![0x80; 11]), "proto: integer overflow at byte 17"),
        (object(vec![0x07]), "proto: illegal tag 0 (wire type 7) at byte 17"),
        (object(vec![0x0c]), "proto: wiretype end group for non-group at byte 17"),
        (object(bytes(1, bytes(8, int(1, i64::MAX)))), "cannot be read as a time at byte 21"),
    ];
    for (message, end) in table {
        assert!(message.starts_with("Pod in version \"v1\" cannot be handled as a Pod: "), "{message}");
        assert!(message.ends_with(end), "{message}: {end}");
    }
    let outside = [
        (message(b""), "empty data (<empty>)"),
        (message(b"{}"), "expected prefix [107, 56, 115, 0] ({})"),
        (message(PREFIX), "empty body (6b387300)"),
        (message(b"k8s\0\x0a"), "unexpected EOF at byte 5 (6b3873000a)"),
    ];
    for (message, end) in outside {
        assert!(
            message.starts_with("the object provided is unrecognized (must be of type Pod): "),
            "{message}"
        );
        assert!(message.ends_with(end), "{message}: {end}");
    }
    let moon = decode(&body("v1", "Moon", ""), None).expect_err("no such kind");
    assert_eq!(moon.to_string(), "no kind \"Moon\" is registered for version \"v1\"");
    let nothing = decode(&body("", "", ""), None).expect_err("no kind");
    assert!(nothing.to_string().starts_with("Object 'Kind' is missing in "), "{nothing}");
    assert!(message(&body("v1", "Service", "")).contains("cannot be handled as a Pod"));
}

#[test]
fn depth_and_size_are_limited() {
    let mut props = Vec::new();
    for _ in 0..100 {
        props = bytes(28, props);
    }
    let object = |props: &[u8]| bytes(2, bytes(7, bytes(4, bytes(1, props))));
    let definition =
        |props: &[u8]| body("apiextensions.k8s.io/v1", "CustomResourceDefinition", object(props));
    let deep = decode(&definition(&props), None).expect("within the limit");
    let text = deep.to_string();
    serde_json::from_str::<Value>(&text).expect("what is stored can be read");
    for _ in 0..10_000 {
        props = bytes(28, props);
    }
    let error = decode(&definition(&props), None).expect_err("too deep").to_string();
    assert!(error.starts_with("proto: exceeded max depth at byte "), "{error}");
    let raw = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let error = decode(&definition(&bytes(8, bytes(1, raw))), None).expect_err("too deep").to_string();
    assert!(error.starts_with("proto: exceeded max depth at byte "), "{error}");
    let many = bytes(2, bytes(2, "").repeat(1 << 20));
    let error = decode(&body("v1", "Pod", many), None).expect_err("too many").to_string();
    assert!(error.starts_with("proto: the object has too many values at byte "), "{error}");
}

#[test]
fn a_body_without_identity_is_what_is_expected() {
    let expected = GroupVersionKind::from_api_version("apps/v1", "Deployment");
    let object = decode(&[PREFIX, &bytes(2, bytes(1, bytes(1, "d")))].concat(), Some(&expected));
    let object = object.expect("it is read");
    assert_eq!(object, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}));
    let options = read("apps/v1", "DeleteOptions", &[int(1, 0), bytes(4, "Foreground")]);
    assert_eq!(
        options,
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "propagationPolicy": "Foreground"})
    );
}

#[test]
fn every_field_of_every_kind_has_a_number_of_its_own() {
    let tree = Schemas::builtin().kinds().next().expect("there are kinds").tree();
    for definition in tree.definitions().filter(|d| matches!(d.node().node(), Node::Object(_))) {
        let mut numbers = BTreeSet::new();
        for field in definition.node().fields() {
            let outside = matches!(field.name(), "apiVersion" | "kind");
            assert!(field.number() != 0 || outside, "{}.{}", definition.name(), field.name());
            let unique = field.number() == 0 || numbers.insert(field.number());
            assert!(unique, "{}.{}: {}", definition.name(), field.name(), field.number());
        }
    }
}
