//! An object's metadata in a [`Value`]: `meta/v1.ObjectMeta`, times, uids, generated names.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Reads the metadata of an object. Fields that are missing, or of a wrong type, read as empty.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    object: &'a Value,
}

impl<'a> Meta<'a> {
    /// The metadata of this object.
    pub fn of(object: &'a Value) -> Self {
        Self { object }
    }

    fn get(self, field: &str) -> Option<&'a Value> {
        self.object.get("metadata")?.get(field)
    }

    fn text(self, field: &str) -> &'a str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn map(self, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let entries = self.get(field).and_then(Value::as_object);
        entries.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
    }

    /// `apiVersion` of the object.
    pub fn api_version(self) -> &'a str {
        self.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
    }

    /// `kind` of the object.
    pub fn kind(self) -> &'a str {
        self.object.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    /// The name.
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// The prefix of a name that the server makes.
    pub fn generate_name(self) -> &'a str {
        self.text("generateName")
    }

    /// The namespace; empty for cluster-scoped objects.
    pub fn namespace(self) -> &'a str {
        self.text("namespace")
    }

    /// The uid.
    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    /// The resource version, as text.
    pub fn resource_version(self) -> &'a str {
        self.text("resourceVersion")
    }

    /// The generation; 0 if there is none.
    pub fn generation(self) -> i64 {
        self.get("generation").and_then(Value::as_i64).unwrap_or_default()
    }

    /// When it was created, in RFC 3339.
    pub fn creation_timestamp(self) -> &'a str {
        self.text("creationTimestamp")
    }

    /// When it is, or was, to be gone, in RFC 3339; `None` while it is not being deleted.
    pub fn deletion_timestamp(self) -> Option<&'a str> {
        self.get("deletionTimestamp").and_then(Value::as_str)
    }

    /// Seconds of grace of a deletion.
    pub fn deletion_grace_period_seconds(self) -> Option<i64> {
        self.get("deletionGracePeriodSeconds").and_then(Value::as_i64)
    }

    /// The labels, in order of their keys.
    pub fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.map("labels")
    }

    /// A label's value.
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.get("labels")?.get(key)?.as_str()
    }

    /// The annotations, in order of their keys.
    pub fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.map("annotations")
    }

    /// An annotation's value.
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.get("annotations")?.get(key)?.as_str()
    }

    /// The finalizers that hold a deletion up.
    pub fn finalizers(self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get("finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The owners.
    pub fn owner_references(self) -> impl Iterator<Item = OwnerReference<'a>> + use<'a> {
        let owners = self.get("ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().map(OwnerReference)
    }

    /// The owner that manages this object.
    pub fn controller(self) -> Option<OwnerReference<'a>> {
        self.owner_references().find(|o| o.controller())
    }

    /// The managed fields entries.
    pub fn managed_fields(self) -> &'a [Value] {
        self.get("managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// One owner of an object.
#[derive(Clone, Copy, Debug)]
pub struct OwnerReference<'a>(&'a Value);

impl<'a> OwnerReference<'a> {
    fn text(self, field: &str) -> &'a str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(self, field: &str) -> bool {
        self.0.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The whole reference.
    pub fn value(self) -> &'a Value {
        self.0
    }

    /// The owner's `apiVersion`.
    pub fn api_version(self) -> &'a str {
        self.text("apiVersion")
    }

    /// The owner's kind.
    pub fn kind(self) -> &'a str {
        self.text("kind")
    }

    /// The owner's name.
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// The owner's uid.
    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    /// Whether this owner manages the object.
    pub fn controller(self) -> bool {
        self.flag("controller")
    }

    /// Whether the owner waits, in a foreground deletion, for this object to go first.
    pub fn block_owner_deletion(self) -> bool {
        self.flag("blockOwnerDeletion")
    }
}

/// Changes the metadata of an object, which is made if it is missing.
#[derive(Debug)]
pub struct MetaMut<'a> {
    fields: &'a mut Map<String, Value>,
}

impl<'a> MetaMut<'a> {
    /// The metadata of this object. A value that is no object becomes one.
    pub fn of(object: &'a mut Value) -> Self {
        Self { fields: as_map(as_map(object).entry("metadata").or_insert(Value::Null)) }
    }

    /// Sets a field.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.fields.insert(field.to_owned(), value.into());
    }

    /// Removes a field.
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field)
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.set("name", name);
    }

    /// Sets the namespace.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.set("namespace", namespace);
    }

    /// Sets the uid.
    pub fn set_uid(&mut self, uid: &str) {
        self.set("uid", uid);
    }

    /// Sets the resource version.
    pub fn set_resource_version(&mut self, version: &str) {
        self.set("resourceVersion", version);
    }

    /// Sets the generation.
    pub fn set_generation(&mut self, generation: i64) {
        self.set("generation", generation);
    }

    /// Sets the time of creation; see [`now`].
    pub fn set_creation_timestamp(&mut self, time: &str) {
        self.set("creationTimestamp", time);
    }

    /// Marks as being deleted; see [`now`].
    pub fn set_deletion(&mut self, time: &str, grace_period_seconds: i64) {
        self.set("deletionTimestamp", time);
        self.set("deletionGracePeriodSeconds", grace_period_seconds);
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        self.map("labels").insert(key.to_owned(), value.into());
    }

    /// Sets an annotation.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        self.map("annotations").insert(key.to_owned(), value.into());
    }

    /// Sets the finalizers; none removes the field.
    pub fn set_finalizers(&mut self, finalizers: Vec<String>) {
        if finalizers.is_empty() {
            self.fields.remove("finalizers");
        } else {
            self.set("finalizers", finalizers);
        }
    }

    /// Sets the managed fields entries; none removes the field.
    pub fn set_managed_fields(&mut self, entries: Vec<Value>) {
        if entries.is_empty() {
            self.fields.remove("managedFields");
        } else {
            self.set("managedFields", entries);
        }
    }

    fn map(&mut self, field: &str) -> &mut Map<String, Value> {
        as_map(self.fields.entry(field).or_insert(Value::Null))
    }
}

/// The value as an object; one of another type is replaced by an empty object.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the value was made an object above"),
    }
}

/// Now, as `meta/v1.Time` is written: RFC 3339 in UTC, whole seconds.
pub fn now() -> String {
    time(Timestamp::now())
}

/// Now, as `meta/v1.MicroTime` is written: RFC 3339 in UTC, six digits of a second.
pub fn now_micro() -> String {
    micro_time(Timestamp::now())
}

/// A moment as `meta/v1.Time` is written.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A moment as `meta/v1.MicroTime` is written.
pub fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads an RFC 3339 time, with any offset and any number of digits of a second.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape =
        bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':';
    if shape { text.parse().ok() } else { None }
}

/// A new random uid.
pub fn new_uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The letters of generated suffixes: no vowels, and nothing that looks like another.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// The longest name that is generated.
const GENERATED_MAX: usize = 63;

/// A random suffix of `length` letters, as upstream's `rand.String`.
pub fn random_suffix(length: usize) -> String {
    (0..length).map(|_| SUFFIX_ALPHABET[rand::random_range(0..SUFFIX_ALPHABET.len())] as char).collect()
}

/// The name for a `generateName`: the prefix, cut so that the name has at most 63 bytes, and five letters.
pub fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_MAX - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], random_suffix(SUFFIX_LENGTH))
}

/// A number as a word of the suffix alphabet, as upstream's `rand.SafeEncodeString` writes hashes.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| SUFFIX_ALPHABET[b as usize % SUFFIX_ALPHABET.len()] as char).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_is_there() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"x": "1", "y": "2"}, "annotations": {"n": "m"}, "finalizers": ["f"],
            "deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
            "ownerReferences": [{"uid": "o1"}, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o2",
                "controller": true, "blockOwnerDeletion": true}]}});
        let m = Meta::of(&pod);
        assert_eq!((m.api_version(), m.kind(), m.name(), m.namespace()), ("v1", "Pod", "a", "b"));
        assert_eq!((m.uid(), m.resource_version(), m.generation()), ("u", "7", 3));
        assert_eq!(m.labels().collect::<Vec<_>>(), [("x", "1"), ("y", "2")]);
        assert_eq!((m.label("y"), m.label("z"), m.annotation("n")), (Some("2"), None, Some("m")));
        assert_eq!(m.finalizers().collect::<Vec<_>>(), ["f"]);
        assert_eq!(m.deletion_timestamp(), Some("2024-01-01T00:00:00Z"));
        assert_eq!(m.deletion_grace_period_seconds(), Some(30));
        let owner = m.controller().expect("has a controller");
        assert_eq!((owner.kind(), owner.name(), owner.uid()), ("ReplicaSet", "r", "o2"));
        assert!(owner.block_owner_deletion());
        let empty = Value::Null;
        assert_eq!(Meta::of(&empty).name(), "");
        assert_eq!(Meta::of(&empty).labels().count(), 0);
    }

    #[test]
    fn writes_into_anything() {
        let mut value = Value::Null;
        let mut m = MetaMut::of(&mut value);
        m.set_name("a");
        m.set_label("k", "v");
        m.set_finalizers(vec!["f".into()]);
        assert_eq!(value, json!({"metadata": {"name": "a", "labels": {"k": "v"}, "finalizers": ["f"]}}));
        let mut m = MetaMut::of(&mut value);
        m.set_finalizers(vec![]);
        m.remove("labels");
        assert_eq!(value, json!({"metadata": {"name": "a"}}));
    }

    #[test]
    fn times_have_the_precision_of_their_kind() {
        let at: Timestamp = "2024-02-03T04:05:06.789012345Z".parse().expect("a time");
        assert_eq!(time(at), "2024-02-03T04:05:06Z");
        assert_eq!(micro_time(at), "2024-02-03T04:05:06.789012Z");
        assert_eq!(
            parse_time("2024-02-03T06:05:06+02:00").map(time).as_deref(),
            Some("2024-02-03T04:05:06Z")
        );
        for bad in ["", "2024-02-03", "2024-02-03 04:05:06Z", "yesterday", "2024-13-03T04:05:06Z"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
        assert_eq!(parse_time(&now()).map(time), Some(now()));
    }

    #[test]
    fn generated_names_fit() {
        let name = generate_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-") && name[4..].bytes().all(|b| SUFFIX_ALPHABET.contains(&b)));
        assert_eq!(generate_name(&"a".repeat(100)).len(), 63);
        assert_ne!(new_uid(), new_uid());
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}
