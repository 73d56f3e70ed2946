//! The controllers that work on all kinds, with kinds that come while they run.

mod controllers_support;

use controllers_support::{Cluster, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

fn tabs() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Tab"), "tabs")
}

fn tab(name: &str) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": name}}))
        .unwrap()
}

async fn define(cluster: &Cluster) {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_json::from_value(json!({"metadata": {"name": "tabs.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}));
    definitions.create(&PostParams::default(), &definition.unwrap()).await.unwrap();
    eventually("the kind is established", async || {
        let status = definitions.get("tabs.example.com").await.ok()?.status?;
        status.conditions?.into_iter().find(|c| c.type_ == "Established" && c.status == "True")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_collected_across_kinds() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    let owners: Api<DynamicObject> = Api::default_namespaced_with(cluster.client.clone(), &tabs());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let reference = |api_version: &str, kind: &str, name: &str, uid: String| json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}]);
    let owner = owners.create(&PostParams::default(), &tab("owner")).await.unwrap();
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": reference("example.com/v1", "Tab", "owner", owner.uid().unwrap())}});
    let owned = maps.create(&PostParams::default(), &serde_json::from_value(owned).unwrap()).await.unwrap();
    let mut last = tab("last");
    last.metadata.owner_references =
        serde_json::from_value(reference("v1", "ConfigMap", "owned", owned.uid().unwrap())).unwrap();
    owners.create(&PostParams::default(), &last).await.unwrap();
    owners.delete("owner", &DeleteParams::default()).await.unwrap();
    eventually("what the owner had is gone", async || {
        let gone =
            maps.get_opt("owned").await.ok()?.is_none() && owners.get_opt("last").await.ok()?.is_none();
        gone.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_custom_objects_along() {
    let cluster = Cluster::start().await;
    define(&cluster).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let named = serde_json::from_value(json!({"metadata": {"name": "going"}})).unwrap();
    namespaces.create(&PostParams::default(), &named).await.unwrap();
    let inside: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "going", &tabs());
    inside.create(&PostParams::default(), &tab("a")).await.unwrap();
    namespaces.delete("going", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", async || {
        namespaces.get_opt("going").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(inside.list(&ListParams::default()).await.unwrap().items.is_empty());
}
