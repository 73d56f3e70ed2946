//! Daemon sets and jobs, against a server in this process.

mod controllers_support;

use controllers_support::{Cluster, eventually};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_runs_on_every_node_and_is_updated() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.add_node("b").await;
    cluster.run_pods();
    cluster
        .create::<DaemonSet>(json!({"metadata": {"name": "log"}, "spec": {"selector": {"matchLabels": {"app": "log"}},
            "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": "one:1"}]}}}}))
        .await;
    let (sets, pods) = (cluster.api::<DaemonSet>(), cluster.api::<Pod>());
    let ready = async |count: i32, image: &str| {
        eventually(&format!("{count} daemons of {image} are ready"), async || {
            let ds = sets.get("log").await.ok()?;
            let status = ds.status.filter(|s| s.observed_generation == ds.metadata.generation)?;
            let images = pods.list(&ListParams::default().labels("app=log")).await.ok()?.items;
            let all = images
                .iter()
                .all(|p| p.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some(image)));
            (all && (status.desired_number_scheduled, status.number_ready) == (count, count)
                && status.updated_number_scheduled == Some(count))
            .then_some(())
        })
        .await;
    };
    ready(2, "one:1").await;
    cluster.add_node("c").await;
    ready(3, "one:1").await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two:2"}]}}}});
    sets.patch("log", &PatchParams::default(), &Patch::Strategic(&patch)).await.expect("it is changed");
    ready(3, "two:2").await;
    let revisions =
        cluster.api::<ControllerRevision>().list(&ListParams::default()).await.expect("revisions").items;
    let mut numbers: Vec<i64> = revisions.iter().map(|r| r.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    // A cordoned node keeps its daemon.
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let cordon = json!({"spec": {"unschedulable": true}});
    eventually("a node is cordoned", async || {
        nodes.patch("a", &PatchParams::default(), &Patch::Merge(&cordon)).await.ok()
    })
    .await;
    pods.delete_collection(&Default::default(), &ListParams::default().labels("app=log"))
        .await
        .expect("they are deleted");
    ready(3, "two:2").await;
    cluster.stop().await;
}

fn job(name: &str, ends: &str, spec: Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {
        "metadata": {"labels": {"ends": ends}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    for (key, value) in spec.as_object().expect("a map") {
        job["spec"][key] = value.clone();
    }
    job
}

async fn ended(cluster: &Cluster, name: &str, kind: &str) -> JobStatus {
    let jobs = cluster.api::<Job>();
    eventually(&format!("job {name} is {kind}"), async || {
        let status = jobs.get(name).await.ok()?.status?;
        let is = status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
        is.then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_complete_fail_and_go() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    cluster.create::<Job>(job("five", "Succeeded", json!({"completions": 5, "parallelism": 2}))).await;
    let status = ended(&cluster, "five", "Complete").await;
    assert_eq!((status.succeeded, status.failed, status.active), (Some(5), None, None));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    let pods =
        cluster.api::<Pod>().list(&ListParams::default().labels("job-name=five")).await.expect("pods").items;
    assert_eq!(pods.len(), 5);
    assert_eq!(
        cluster.event("five", "Completed").await,
        ("job-controller".to_owned(), "Job completed".to_owned())
    );

    cluster.create::<Job>(job("never", "Failed", json!({"backoffLimit": 0}))).await;
    let status = ended(&cluster, "never", "Failed").await;
    assert_eq!((status.failed, status.succeeded), (Some(1), None));
    assert_eq!(
        cluster.event("never", "BackoffLimitExceeded").await.1,
        "Job has reached the specified backoff limit"
    );

    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "ttlSecondsAfterFinished": 0});
    cluster.create::<Job>(job("indexed", "Succeeded", indexed)).await;
    let jobs = cluster.api::<Job>();
    eventually("a finished job and its pods are removed after their time to live", async || {
        let left =
            cluster.api::<Pod>().list(&ListParams::default().labels("job-name=indexed")).await.ok()?.items;
        (jobs.get_opt("indexed").await.ok()?.is_none() && left.is_empty()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_job_rests_until_it_is_resumed() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    cluster.create::<Job>(job("later", "Succeeded", json!({"suspend": true}))).await;
    ended(&cluster, "later", "Suspended").await;
    assert!(cluster.api::<Pod>().list(&ListParams::default()).await.expect("pods").items.is_empty());
    let resume = json!({"spec": {"suspend": false}});
    cluster
        .api::<Job>()
        .patch("later", &PatchParams::default(), &Patch::Merge(&resume))
        .await
        .expect("it is resumed");
    let status = ended(&cluster, "later", "Complete").await;
    assert_eq!(status.succeeded, Some(1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_order_and_claims() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    cluster
        .create::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 3,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one:1"}]}}}}))
        .await;
    let (sets, pods) = (cluster.api::<StatefulSet>(), cluster.api::<Pod>());
    let settled = async |count: i32, image: &str| {
        eventually(&format!("{count} pods of {image}"), async || {
            let set = sets.get("db").await.ok()?;
            let status = set.status.filter(|s| s.observed_generation == set.metadata.generation)?;
            let list = pods.list(&ListParams::default().labels("app=db")).await.ok()?.items;
            let all = list
                .iter()
                .all(|p| p.spec.as_ref().is_some_and(|s| s.containers[0].image.as_deref() == Some(image)));
            let done = all
                && status.ready_replicas.unwrap_or(0) == count
                && status.replicas == count
                && status.current_revision == status.update_revision;
            done.then(|| {
                list.into_iter()
                    .map(|p| (p.metadata.creation_timestamp, p.metadata.name.unwrap_or_default()))
                    .collect::<Vec<_>>()
            })
        })
        .await
    };
    let mut list = settled(3, "one:1").await;
    list.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(list.iter().map(|(_, n)| n.as_str()).collect::<Vec<_>>(), ["db-0", "db-1", "db-2"]);
    assert!(list.is_sorted_by_key(|(created, _)| created.clone()), "one after the other: {list:?}");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two:2"}]}}}});
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(&patch)).await.expect("it is changed");
    settled(3, "two:2").await;
    sets.patch("db", &PatchParams::default(), &Patch::Merge(&json!({"spec": {"replicas": 1}})))
        .await
        .expect("it is scaled");
    let left = settled(1, "two:2").await;
    assert_eq!(left[0].1, "db-0");

    let waiting = json!({"metadata": {"name": "kv"}, "spec": {"serviceName": "kv", "selector": {"matchLabels": {"app": "kv"}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}],
        "template": {"metadata": {"labels": {"app": "kv"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    cluster.create::<StatefulSet>(waiting).await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    eventually("a claim for the first pod", async || claims.get("data-kv-0").await.ok()).await;
    let message = cluster.event("kv-0", "FailedScheduling").await.1;
    assert!(message.contains("unbound immediate PersistentVolumeClaims"), "{message}");
    cluster.stop().await;
}
