//! Deployments, replica sets, their pods and what becomes of them, against a server in this process.

mod controllers_support;

use controllers_support::{Cluster, deployment, eventually};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

const REVISION: &str = "deployment.kubernetes.io/revision";

async fn change(cluster: &Cluster, name: &str, patch: Value) {
    let api = cluster.api::<Deployment>();
    api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await.expect("it is changed");
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// Waits until a deployment is rolled out and gives it.
async fn rolled_out(cluster: &Cluster, name: &str) -> Deployment {
    let api = cluster.api::<Deployment>();
    eventually("the deployment is rolled out", async || {
        let d = api.get(name).await.ok()?;
        let s = d.status.clone()?;
        let wanted = d.spec.as_ref()?.replicas;
        let done = s.observed_generation == d.metadata.generation
            && s.updated_replicas.or(Some(0)) == wanted
            && s.replicas.or(Some(0)) == wanted
            && s.available_replicas.or(Some(0)) == wanted;
        done.then_some(d)
    })
    .await
}

/// Revision, name and size of all replica sets, by revision.
async fn sets(cluster: &Cluster) -> Vec<(String, String, i32)> {
    let list = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.expect("replica sets");
    let mut sets: Vec<_> = list
        .items
        .into_iter()
        .map(|rs| {
            let size = rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
            (rs.annotations().get(REVISION).cloned().unwrap_or_default(), rs.name_any(), size)
        })
        .collect();
    sets.sort();
    sets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_rolls_back_and_scales() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 3, "one:1")).await;
    let d = rolled_out(&cluster, "web").await;
    assert_eq!(d.annotations()[REVISION], "1");
    let (source, message) = cluster.event("web", "ScalingReplicaSet").await;
    let first = sets(&cluster).await[0].1.clone();
    assert_eq!(
        (source.as_str(), message),
        ("deployment-controller", format!("Scaled up replica set {first} from 0 to 3"))
    );
    assert_eq!(cluster.event(&first, "SuccessfulCreate").await.0, "replicaset-controller");

    change(&cluster, "web", image("two:2")).await;
    let d = rolled_out(&cluster, "web").await;
    assert_eq!(d.annotations()[REVISION], "2");
    let progressing = d.status.and_then(|s| s.conditions).unwrap_or_default();
    assert!(progressing.iter().any(|c| c.type_ == "Available" && c.status == "True"));
    eventually("the old replica set is empty", async || {
        let now = sets(&cluster).await;
        (now.len() == 2 && now[0].2 == 0 && now[1].2 == 3).then_some(())
    })
    .await;

    change(&cluster, "web", image("one:1")).await;
    rolled_out(&cluster, "web").await;
    eventually("the first replica set has revision 3", async || {
        let now = sets(&cluster).await;
        (now[1].0 == "3" && now[1].1 == first && now[1].2 == 3 && now[0].2 == 0).then_some(())
    })
    .await;

    change(&cluster, "web", json!({"spec": {"replicas": 5}})).await;
    rolled_out(&cluster, "web").await;
    change(&cluster, "web", json!({"spec": {"replicas": 1}})).await;
    rolled_out(&cluster, "web").await;
    eventually("one pod is left", async || {
        (cluster.api::<Pod>().list(&ListParams::default()).await.ok()?.items.len() == 1).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_stops_at_pods_that_do_not_become_ready() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 4, "one:1")).await;
    rolled_out(&cluster, "web").await;
    change(&cluster, "web", json!({"spec": {"template": {"metadata": {"labels": {"ready": "false"}}}}}))
        .await;
    eventually("one of the old and one surplus are replaced", async || {
        let now = sets(&cluster).await;
        (now.len() == 2 && now[0].2 == 3 && now[1].2 == 2).then_some(())
    })
    .await;
    let api = cluster.api::<Deployment>();
    let status = eventually("the status says so", async || {
        api.get("web")
            .await
            .ok()?
            .status
            .filter(|s| s.available_replicas == Some(3) && s.updated_replicas == Some(2))
    })
    .await;
    assert_eq!(status.unavailable_replicas, Some(2));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_removes_the_old_before_it_makes_the_new() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    let mut wanted = deployment("web", 2, "one:1");
    wanted["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>(wanted).await;
    rolled_out(&cluster, "web").await;
    change(&cluster, "web", image("two:2")).await;
    rolled_out(&cluster, "web").await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.expect("pods").items;
    assert!(
        pods.iter()
            .all(|p| p.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some("two:2")))
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_deployment_takes_its_replica_sets_and_pods_along() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    let count = async || {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.ok()?.items.len();
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.ok()?.items.len();
        Some((sets, pods))
    };
    for params in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster.create::<Deployment>(deployment("web", 3, "one:1")).await;
        rolled_out(&cluster, "web").await;
        cluster.api::<Deployment>().delete("web", &params).await.expect("it is deleted");
        eventually("everything is gone", async || {
            let there = cluster.api::<Deployment>().get_opt("web").await.ok()?.is_some();
            (!there && count().await? == (0, 0)).then_some(())
        })
        .await;
    }
    cluster.create::<Deployment>(deployment("web", 3, "one:1")).await;
    rolled_out(&cluster, "web").await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::orphan()).await.expect("it is deleted");
    let orphan = eventually("the deployment is gone and its replica set an orphan", async || {
        let there = cluster.api::<Deployment>().get_opt("web").await.ok()?.is_some();
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.ok()?.items;
        (!there).then(|| sets.into_iter().next()).flatten().filter(|rs| rs.owner_references().is_empty())
    })
    .await;
    assert_eq!(count().await, Some((1, 3)));
    cluster.create::<Deployment>(deployment("web", 3, "one:1")).await;
    eventually("the orphan is adopted", async || {
        let rs = cluster.api::<ReplicaSet>().get(&orphan.name_any()).await.ok()?;
        (!rs.owner_references().is_empty()).then_some(())
    })
    .await;
    cluster.stop().await;
}
