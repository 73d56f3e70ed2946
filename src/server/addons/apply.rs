//! Server-side apply of manifests of any kind.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde_json::Value;

use super::FIELD_MANAGER;

/// A manifest that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("document {document}: {problem}")]
    Malformed { document: usize, problem: String },
    #[error("{kind} {name}: {source}")]
    Refused { kind: String, name: String, source: Box<kube::Error> },
}

/// The objects of a YAML or JSON stream; a `List` stands for its items.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, Error> {
    use serde::Deserialize;
    let mut objects = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let malformed = |problem: String| Error::Malformed { document: index + 1, problem };
        let value = Value::deserialize(document).map_err(|e| malformed(e.to_string()))?;
        match value {
            Value::Null => {}
            Value::Object(mut map) if map.get("kind").is_some_and(|k| k == "List") => {
                let Some(Value::Array(items)) = map.remove("items") else {
                    return Err(malformed("a List needs items".into()));
                };
                objects.extend(items);
            }
            Value::Object(map) => objects.push(Value::Object(map)),
            _ => return Err(malformed("expected an object with apiVersion and kind".into())),
        }
    }
    for (index, object) in objects.iter().enumerate() {
        let present =
            |field: &str| object.pointer(field).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
        if let Some(field) = ["/apiVersion", "/kind", "/metadata/name"].into_iter().find(|f| !present(f)) {
            let problem = format!("{} is missing", field.trim_start_matches('/').replace('/', "."));
            return Err(Error::Malformed { document: index + 1, problem });
        }
    }
    Ok(objects)
}

/// Applies one object, taking over fields others own: the file is what counts.
pub(super) async fn object(client: &Client, object: Value) -> Result<(), Error> {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let refused =
        |source| Error::Refused { kind: kind.clone(), name: name.clone(), source: Box::new(source) };
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let (resource, capabilities) = discovery::pinned_kind(client, &gvk).await.map_err(refused)?;
    let namespace = match text("/metadata/namespace") {
        none if none.is_empty() => "default".to_owned(),
        some => some,
    };
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), &namespace, &resource),
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&object)).await.map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_lists_become_objects() {
        let text = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n";
        let names: Vec<_> = documents(text)
            .expect("parses")
            .iter()
            .map(|o| o.pointer("/metadata/name").cloned().unwrap_or_default())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn errors_say_which_document_and_what() {
        for (text, expected) in [
            ("a: [", "document 1"),
            ("just text", "document 1: expected an object"),
            ("kind: ConfigMap\nmetadata: {name: a}", "document 1: apiVersion is missing"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {}", "metadata.name is missing"),
            ("kind: List", "a List needs items"),
        ] {
            let error = documents(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
