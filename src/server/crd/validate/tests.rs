use serde_json::json;

use super::*;

fn crd() -> Value {
    json!({"metadata": {"name": "tabs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "tabs", "singular": "tab", "kind": "Tab", "listKind": "TabList"}, "conversion": {"strategy": "None"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}, "list": {"type": "array", "items": {"type": "string"}}}}}}}}]},
        "status": {"storedVersions": ["v1"], "acceptedNames": {"plural": "", "kind": ""}}})
}

fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = crd();
    change(&mut object);
    definition(&object, None).iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_definition_is_right() {
    assert!(errors(|_| {}).is_empty());
}

#[test]
fn names_and_groups() {
    let table: [(&str, Value, &[&str]); 9] = [
        (
            "/metadata/name",
            json!("x"),
            &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
        ),
        (
            "/spec/scope",
            json!("Global"),
            &["spec.scope: Unsupported value: \"Global\": supported values: \"Cluster\", \"Namespaced\""],
        ),
        ("/spec/scope", json!(""), &["spec.scope: Required value"]),
        (
            "/spec/names/kind",
            json!("TabList"),
            &["spec.names.listKind: Invalid value: \"TabList\": kind and listKind may not be the same"],
        ),
        ("/spec/names/singular", json!(""), &["spec.names.singular: Required value"]),
        (
            "/spec/versions/0/storage",
            json!(false),
            &["must have exactly one version marked as storage version"],
        ),
        ("/spec/versions/0/schema", json!({}), &["spec.versions[0].schema.openAPIV3Schema: Required value"]),
        (
            "/spec/versions/0/name",
            json!("1"),
            &[
                "spec.versions[0].name: Invalid value: \"1\"",
                "status.storedVersions: Invalid value",
                "missing from spec.versions; v1 was previously",
            ],
        ),
        ("/status/storedVersions", json!([]), &["must have at least one stored version"]),
    ];
    for (pointer, value, wanted) in table {
        let found = errors(|crd| *crd.pointer_mut(pointer).unwrap() = value.clone());
        assert_eq!(found.len(), wanted.len(), "{pointer}: {found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.contains(wanted), "{pointer}: {found} is not {wanted}");
        }
    }
    let found = errors(|crd| {
        crd["metadata"]["name"] = json!("tabs.nodots");
        crd["spec"]["group"] = json!("nodots");
    });
    assert_eq!(found, ["spec.group: Invalid value: \"nodots\": should be a domain with at least one dot"]);
}

#[test]
fn columns_scale_and_fields() {
    let version =
        |field: &'static str, value: Value| move |crd: &mut Value| crd["spec"]["versions"][0][field] = value;
    let found = errors(version(
        "additionalPrinterColumns",
        json!([{"name": "", "type": "text", "jsonPath": "x", "format": "f"}]),
    ));
    assert_eq!(
        found,
        [
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].format: Invalid value: \"f\": must be one of byte,date,date-time,double,float,int32,int64,password",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with .",
        ]
    );
    let found = errors(version(
        "subresources",
        json!({"scale": {"specReplicasPath": ".status.x", "labelSelectorPath": ".metadata.x"}}),
    ));
    assert_eq!(
        found,
        [
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
            "spec.subresources.scale.labelSelectorPath: Invalid value: \".metadata.x\": should be a json path under either .spec or .status",
        ]
    );
    let paths = [".spec.color", ".spec.color", ".spec.list", ".spec.none", "spec.color", ".spec.list[0]"];
    let fields: Vec<Value> = paths.iter().map(|p| json!({"jsonPath": p})).collect();
    let found = errors(version("selectableFields", fields.into()));
    assert_eq!(
        found,
        [
            "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.color\"",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec.list\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[3].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[4].jsonPath: Invalid value: \"spec.color\": is an invalid path: expected [ or . but got: spec",
            "spec.selectableFields[5].jsonPath: Invalid value: \".spec.list[0]\": is an invalid path: array notation is not allowed",
        ]
    );
    let found = errors(version("deprecationWarning", json!("old")));
    assert_eq!(
        found,
        [
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"
        ]
    );
}

#[test]
fn conversion_by_webhooks() {
    let found = errors(|crd| crd["spec"]["conversion"] = json!({"strategy": "Webhook"}));
    assert_eq!(
        found,
        [
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ]
    );
    let found = errors(|crd| {
        crd["spec"]["conversion"] =
            json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}})
    });
    assert_eq!(
        found,
        [
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook"
        ]
    );
    let found = errors(|crd| {
        crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://a"}, "conversionReviewVersions": ["v2"]}});
    });
    assert_eq!(
        found,
        [
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ]
    );
}

#[test]
fn what_the_storage_depends_on_is_immutable() {
    let mut old = crd();
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["names"]["kind"] = json!("Tabs");
    let found: Vec<String> = definition(&new, Some(&old)).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Tabs\": field is immutable",
        ]
    );
    old["status"]["conditions"] = json!([]);
    assert!(definition(&new, Some(&old)).is_empty());
    new["spec"]["preserveUnknownFields"] = json!(true);
    assert!(definition(&new, Some(&old))[0].to_string().contains("cannot set to true"));
}

#[test]
fn groups_of_the_community_need_approval() {
    let mut object = crd();
    object["spec"]["group"] = json!("x.k8s.io");
    object["metadata"]["name"] = json!("tabs.x.k8s.io");
    let found = definition(&object, None);
    assert!(
        found[0].to_string().starts_with(
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups"
        ),
        "{found:?}"
    );
    object["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    assert!(definition(&object, None).is_empty());
}
