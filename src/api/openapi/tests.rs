use super::*;
use crate::api::Schemas;

fn served(api_version: &str, kind: &str, plural: &str, namespaced: bool) -> Served {
    let kind = GroupVersionKind::from_api_version(api_version, kind);
    let schema = Schemas::builtin().get(&kind).expect("built in");
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let status = Subresource {
        name: "status".into(),
        kind: None,
        verbs: vec!["get".into(), "patch".into(), "update".into()],
    };
    Served {
        kind,
        plural: plural.into(),
        namespaced,
        verbs: verbs.map(str::to_owned).to_vec(),
        subresources: vec![status],
        types: Types::Tree(schema),
    }
}

fn documents() -> OpenApi {
    let mut deployments = served("apps/v1", "Deployment", "deployments", true);
    deployments.subresources.push(Subresource {
        name: "scale".into(),
        kind: Some(GroupVersionKind::new("autoscaling", "v1", "Scale")),
        verbs: vec!["get".into()],
    });
    OpenApi::new(
        "v1.36.0",
        vec![served("v1", "Pod", "pods", true), served("v1", "Node", "nodes", false), deployments],
    )
}

fn v3(path: &str) -> Value {
    serde_json::from_slice(&documents().v3(path).expect("served")).expect("JSON")
}

#[test]
fn the_index_names_each_document_with_a_hash() {
    let index: Value = serde_json::from_slice(&documents().v3_index()).expect("JSON");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a URL").to_owned();
    let hash = documents().v3_hash("apis/apps/v1").expect("served");
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={hash}"));
    assert_eq!(hash.len(), 64);
    assert_ne!(Some(hash.clone()), documents().v3_hash("api/v1"));
    let newer = OpenApi::new("v1.37.0", vec![served("apps/v1", "Deployment", "deployments", true)]);
    assert_ne!(newer.v3_hash("apis/apps/v1"), Some(hash));
    assert_eq!(documents().v3("apis/nothing/v1"), None);
}

#[test]
fn definitions_have_what_clients_ask_for() {
    let document = v3("api/v1");
    let schemas = &document["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    assert!(pod["description"].as_str().is_some_and(|d| d.starts_with("Pod is a collection")));
    assert_eq!(
        pod["properties"]["spec"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}])
    );
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(spec["volumes"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["volumes"]["x-kubernetes-list-type"], "map");
    assert_eq!(spec["nodeSelector"]["x-kubernetes-map-type"], "atomic");
    let container = &schemas["io.k8s.api.core.v1.Container"]["properties"];
    assert_eq!(container["ports"]["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"], "TCP");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    let list = &schemas["io.k8s.api.core.v1.PodList"];
    assert_eq!(list["properties"]["items"]["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Pod");
}

#[test]
fn every_reference_is_defined() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let v2: Value = serde_json::from_slice(&documents().v2()).expect("JSON");
    for document in [v3("api/v1"), v3("apis/apps/v1"), v2] {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} is not defined");
        }
    }
}

#[test]
fn operations_have_kubernetes_extensions_and_parameters() {
    let document = v3("apis/apps/v1");
    let paths = &document["paths"];
    let item = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(item["patch"]["x-kubernetes-action"], "patch");
    assert_eq!(item["get"]["operationId"], "readAppsV1NamespacedDeployment");
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(item["patch"]["x-kubernetes-group-version-kind"], gvk);
    for (path, method) in
        [("deployments/{name}", "patch"), ("deployments/{name}", "put"), ("deployments", "post")]
    {
        let operation = &paths[format!("/apis/apps/v1/namespaces/{{namespace}}/{path}")][method];
        let names: Vec<&str> = operation["parameters"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"), "{method}: {names:?}");
    }
    let everywhere = &paths["/apis/apps/v1/deployments"];
    assert_eq!(everywhere["get"]["operationId"], "listAppsV1DeploymentForAllNamespaces");
    let scale = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["operationId"], "readAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert!(v3("api/v1")["paths"].get("/api/v1/nodes/{name}/status").is_some());
}

#[test]
fn v2_is_swagger() {
    let document: Value = serde_json::from_slice(&documents().v2()).expect("JSON");
    assert_eq!(document["swagger"], "2.0");
    let spec = &document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    let post = &document["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"];
    let body = post["parameters"].as_array().expect("a list").iter().find(|p| p["in"] == "body");
    assert_eq!(body.expect("a body")["schema"]["$ref"], "#/definitions/io.k8s.api.core.v1.Pod");
}
