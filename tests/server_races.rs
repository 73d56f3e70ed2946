//! Many writers of one object at a time: whoever names no revision is never told of a conflict.

mod server_support;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Error, ResourceExt};
use serde_json::{Value, json};
use server_support::TestServer;

const WRITERS: usize = 8;
const WRITES: usize = 25;

async fn node(server: &TestServer) -> Api<Node> {
    let api: Api<Node> = Api::all(server.admin());
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}});
    api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    api
}

/// A patch of each type that leaves a mark of its own.
async fn write(api: &Api<Node>, writer: usize, round: usize) -> Result<Node, Error> {
    let (key, value) = (format!("w{writer}"), round.to_string());
    let params = PatchParams::default();
    match writer % 4 {
        0 => {
            let condition = json!({"type": key, "status": "True", "reason": format!("r{value}")});
            let patch = json!({"status": {"conditions": [condition]}});
            api.patch_status("n", &params, &Patch::Strategic(patch)).await
        }
        1 => {
            let patch = json!({"metadata": {"labels": {key: value}}});
            api.patch("n", &params, &Patch::Merge(patch)).await
        }
        2 => {
            let patch: json_patch::Patch = serde_json::from_value(
                json!([{"op": "add", "path": format!("/status/capacity/{key}"), "value": value}]),
            )
            .unwrap();
            api.patch_status("n", &params, &Patch::Json::<()>(patch)).await
        }
        _ => {
            let config =
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"annotations": {&key: value}}});
            api.patch("n", &PatchParams::apply(&key), &Patch::Apply(config)).await
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_of_all_types_at_once() {
    let server = TestServer::start().await;
    let api = node(&server).await;
    join_all((0..WRITERS).map(|writer| {
        let api = api.clone();
        tokio::spawn(async move {
            for round in 0..WRITES {
                write(&api, writer, round).await.unwrap_or_else(|e| panic!("{writer} {round}: {e}"));
            }
        })
    }))
    .await
    .into_iter()
    .for_each(|joined| joined.unwrap());
    let last = (WRITES - 1).to_string();
    let node = api.get("n").await.unwrap();
    let status = node.status.clone().unwrap();
    for writer in 0..WRITERS {
        let key = format!("w{writer}");
        let found = match writer % 4 {
            0 => {
                let conditions = status.conditions.as_deref().unwrap_or_default();
                conditions.iter().find(|c| c.type_ == key).and_then(|c| c.reason.clone()).unwrap()[1..]
                    .to_owned()
            }
            1 => node.labels()[&key].clone(),
            2 => status.capacity.as_ref().unwrap()[&key].0.clone(),
            _ => node.annotations()[&key].clone(),
        };
        assert_eq!(found, last, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replacements_and_deletions_without_a_revision() {
    let server = TestServer::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.admin());
    let map = |value: String| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"k": value}})).unwrap()
    };
    api.create(&PostParams::default(), &map("start".into())).await.unwrap();
    let writes = (0..64).map(|i| {
        let (api, map) = (api.clone(), map(i.to_string()));
        tokio::spawn(async move { api.replace("a", &PostParams::default(), &map).await })
    });
    for written in join_all(writes).await {
        written.unwrap().unwrap();
    }
    // One of them deletes it; the others find it or not, but there is no conflict.
    let params = kube::api::DeleteParams::default();
    let all = (0..32).map(|i| {
        let (api, params) = (api.clone(), params.clone());
        tokio::spawn(async move {
            if i == 16 {
                return api.delete("a", &params).await.map(drop);
            }
            let patch = Patch::Merge(json!({"data": {format!("p{i}"): "x"}}));
            api.patch("a", &PatchParams::default(), &patch).await.map(drop)
        })
    });
    for (i, done) in join_all(all).await.into_iter().enumerate() {
        match done.unwrap() {
            Ok(()) => {}
            Err(Error::Api(status)) if status.code == 404 && i != 16 => {}
            Err(error) => panic!("{i}: {error}"),
        }
    }
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_revision_that_is_named_must_be_the_newest() {
    let server = TestServer::start().await;
    let api = node(&server).await;
    let old = api.get("n").await.unwrap().resource_version().unwrap();
    write(&api, 1, 0).await.unwrap();
    let patches: [Value; 2] = [
        json!({"metadata": {"resourceVersion": old, "labels": {"a": "b"}}}),
        json!({"metadata": {"uid": "another", "labels": {"a": "b"}}}),
    ];
    for patch in patches {
        for patch in [Patch::Merge(patch.clone()), Patch::Strategic(patch)] {
            match api.patch("n", &PatchParams::default(), &patch).await {
                Err(Error::Api(status)) => assert_eq!((status.code, &*status.reason), (409, "Conflict")),
                other => panic!("{other:?}"),
            }
        }
    }
}
