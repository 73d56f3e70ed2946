use super::*;

/// A field with bytes.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A field with a number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn wrapped(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &meta), &bytes(2, object), &bytes(3, b""), &bytes(4, b"")].concat()
}

#[test]
fn a_config_map() {
    let metadata =
        [bytes(1, b"a"), bytes(2, b""), bytes(8, b""), bytes(11, &[bytes(1, b"k"), bytes(2, b"")].concat())]
            .concat();
    let data = [bytes(1, b"x"), bytes(2, b"y")].concat();
    let binary = [bytes(1, b"b"), bytes(2, &[0xff])].concat();
    let object = [bytes(1, &metadata), bytes(2, &data), bytes(3, &binary)].concat();
    assert_eq!(
        decode(&wrapped("v1", "ConfigMap", &object)).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"k": ""}},
            "data": {"x": "y"}, "binaryData": {"b": "/w=="}})
    );
}

#[test]
fn what_is_empty_counts_only_behind_pointers() {
    // A pod: hostNetwork false is no pointer, automountServiceAccountToken false is one.
    let spec = [number(11, 0), vec![21 << 3 & 0x7f | 0x80, 1, 0], bytes(3, b"")].concat();
    let object = [bytes(1, &bytes(1, b"p")), bytes(2, &spec), bytes(3, b"")].concat();
    let pod = decode(&wrapped("v1", "Pod", &object)).unwrap();
    assert_eq!(pod["spec"], json!({"automountServiceAccountToken": false}));
    assert_eq!(pod.get("status"), None);
}

#[test]
fn embedded_messages_lie_in_the_outer_one() {
    let empty_dir = bytes(2, b"");
    let volume = [bytes(1, b"v"), bytes(2, &empty_dir)].concat();
    let object = bytes(2, &bytes(1, &volume));
    let pod = decode(&wrapped("v1", "Pod", &object)).unwrap();
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
}

#[test]
fn special_types_have_their_own_json() {
    let seconds = [vec![1 << 3], vec![0x80, 0xe2, 0xcf, 0xaa, 0x06]].concat();
    assert_eq!(special(Special::Time, &seconds).unwrap(), json!("2023-11-14T22:13:20Z").clone());
    assert_eq!(special(Special::Time, b"").unwrap(), Value::Null);
    assert_eq!(special(Special::Quantity, &bytes(1, b"100m")).unwrap(), "100m");
    assert_eq!(special(Special::IntOrString, &[number(1, 0), number(2, 80)].concat()).unwrap(), 80);
    assert_eq!(special(Special::IntOrString, &[number(1, 1), bytes(3, b"http")].concat()).unwrap(), "http");
    assert_eq!(special(Special::Raw, &bytes(1, b"{\"a\":1}")).unwrap(), json!({"a": 1}));
    assert_eq!(
        special(Special::Values, &[bytes(1, b"a"), bytes(1, b"b")].concat()).unwrap(),
        json!(["a", "b"])
    );
    assert_eq!((duration(3_000_000_000), duration(5)), ("3s".into(), "5ns".into()));
}

#[test]
fn damaged_bodies_are_refused() {
    assert_eq!(decode(b"{}").unwrap_err(), Error::Magic);
    assert_eq!(decode(&wrapped("v1", "Moon", b"")).unwrap_err(), Error::Unknown("core/v1.Moon".into()));
    let good = wrapped("v1", "ConfigMap", &bytes(1, &bytes(1, b"a")));
    for length in 5..good.len() {
        // Whatever is cut off: an error or another object, never a panic.
        let _ = decode(&good[..length]);
    }
    assert_eq!(decode(&good[..good.len() - 9]).unwrap_err(), Error::Damaged);
    assert_eq!(Status::from(Error::Damaged).code, 400);
}

#[test]
fn every_kind_that_is_served_can_be_read() {
    use crate::server::registry::{Registry, strategy::Plain};
    let registry = Registry::builtin(|_| std::sync::Arc::new(Plain));
    for entry in registry.entries() {
        // Custom resource definitions are sent as JSON by all clients.
        if entry.group != "apiextensions.k8s.io" {
            decode(&wrapped(&entry.api_version(), &entry.kind, b"")).unwrap();
        }
        for kind in
            entry.subresources.iter().filter_map(|s| s.kind.as_ref()).filter(|k| !k.kind.ends_with("Options"))
        {
            decode(&wrapped(&kind.api_version(), &kind.kind, b"")).unwrap();
        }
    }
    decode(&wrapped("apps/v1", "DeleteOptions", b"")).unwrap();
}
