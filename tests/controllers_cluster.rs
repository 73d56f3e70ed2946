//! Namespaces, endpoints, nodes and the scheduler, against a server in this process.

mod controllers_support;

use controllers_support::{Cluster, deployment, eventually, from, set_ready};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn requesting(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]})
}

async fn placed(cluster: &Cluster, name: &str) -> String {
    let pods = cluster.api::<Pod>();
    eventually(&format!("pod {name} is placed"), async || pods.get(name).await.ok()?.spec?.node_name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_a_node_with_room() {
    let cluster = Cluster::start().await;
    cluster.create::<Pod>(pod("early", requesting("1"))).await;
    let (source, message) = cluster.event("early", "FailedScheduling").await;
    assert_eq!(
        (source.as_str(), message.as_str()),
        ("default-scheduler", "no nodes available to schedule pods")
    );
    cluster.add_node("a").await;
    assert_eq!(placed(&cluster, "early").await, "a");
    assert_eq!(cluster.event("early", "Scheduled").await.1, "Successfully assigned default/early to a");

    cluster.create::<Pod>(pod("large", requesting("3500m"))).await;
    let message = cluster.event("large", "FailedScheduling").await.1;
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
         available: 1 No preemption victims found for incoming pod."
    );
    let pods = cluster.api::<Pod>();
    let condition = eventually("the pod says why", async || {
        let conditions = pods.get("large").await.ok()?.status?.conditions?;
        conditions.into_iter().find(|c| c.type_ == "PodScheduled")
    })
    .await;
    assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("False", Some("Unschedulable")));
    assert_eq!(condition.message, Some(message));
    // Room is made: the waiting pod takes it.
    pods.delete("early", &DeleteParams::default().grace_period(0)).await.expect("it is deleted");
    assert_eq!(placed(&cluster, "large").await, "a");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_spread_and_rules_are_kept() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.add_node(name).await;
    }
    cluster.run_pods();
    cluster.create::<Deployment>(deployment("web", 30, "i")).await;
    let pods = cluster.api::<Pod>();
    let on: Vec<String> = eventually("all pods are placed", async || {
        let list = pods.list(&ListParams::default().labels("app=web")).await.ok()?.items;
        let on: Vec<_> = list.into_iter().filter_map(|p| p.spec?.node_name).collect();
        (on.len() == 30).then_some(on)
    })
    .await;
    for node in ["a", "b", "c"] {
        let count = on.iter().filter(|n| *n == node).count();
        assert!((8..=12).contains(&count), "{node} has {count} of 30");
    }
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"labelSelector": {"matchLabels": {"apart": "yes"}}, "topologyKey": "topology.kubernetes.io/zone"}]}}});
    let mut nodes = Vec::new();
    for name in ["x", "y", "z"] {
        let mut wanted = pod(name, apart.clone());
        wanted["metadata"]["labels"]["apart"] = json!("yes");
        cluster.create::<Pod>(wanted).await;
        nodes.push(placed(&cluster, name).await);
    }
    nodes.sort();
    assert_eq!(nodes, ["a", "b", "c"]);
    cluster
        .create::<Pod>(pod("chosen", json!({"nodeSelector": {"topology.kubernetes.io/zone": "zone-b"}})))
        .await;
    assert_eq!(placed(&cluster, "chosen").await, "b");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_readiness() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(service).await;
    let slices = cluster.api::<EndpointSlice>();
    let look = async || {
        let list =
            slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.ok()?.items;
        let [slice] = list.as_slice() else { return None };
        Some(slice.clone())
    };
    eventually("an empty slice", async || {
        look().await.filter(|s| s.endpoints.as_ref().is_none_or(Vec::is_empty))
    })
    .await;
    cluster.create::<Deployment>(deployment("web", 2, "i")).await;
    let ready = async |n: usize| {
        eventually(&format!("{n} ready endpoints"), async || {
            let slice = look().await?;
            let count = slice
                .endpoints
                .iter()
                .flatten()
                .filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)));
            (count.count() == n).then_some(slice)
        })
        .await
    };
    let slice = ready(2).await;
    assert_eq!(slice.ports.as_ref().and_then(|p| p[0].port), Some(8080));
    let endpoint = slice.endpoints.as_ref().map(|e| e[0].clone()).expect("endpoints");
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("a"), Some("zone-a")));
    let target = endpoint.target_ref.and_then(|t| t.name).expect("a pod");
    set_ready(&cluster.api::<Pod>(), &target, false, None).await;
    ready(1).await;
    let legacy = cluster.api::<Endpoints>();
    eventually("Endpoints tell the same", async || {
        let subsets = legacy.get("web").await.ok()?.subsets?;
        let ready = subsets[0].addresses.as_ref().map_or(0, Vec::len);
        let other = subsets[0].not_ready_addresses.as_ref().map_or(0, Vec::len);
        ((ready, other) == (1, 1)).then_some(())
    })
    .await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.expect("it is deleted");
    eventually("slices and Endpoints go with their Service", async || {
        let left =
            slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.ok()?.items;
        (left.is_empty() && legacy.get_opt("web").await.ok()?.is_none()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_written_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    let subsets = json!([{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]}]);
    cluster.create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": subsets})).await;
    let slices = cluster.api::<EndpointSlice>();
    let slice = eventually("a slice", async || {
        slices.list(&ListParams::default().labels("kubernetes.io/service-name=db")).await.ok()?.items.pop()
    })
    .await;
    assert_eq!(slice.endpoints.map(|e| e[0].addresses.clone()), Some(vec!["192.0.2.9".to_owned()]));
    assert_eq!(
        slice.metadata.labels.map(|l| l["endpointslice.kubernetes.io/managed-by"].clone()).as_deref(),
        Some("endpointslicemirroring-controller.k8s.io")
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_has_an_account_and_a_ca_and_goes_with_its_content() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.run_pods();
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let team = from::<Namespace>(json!({"metadata": {"name": "team"}}));
    namespaces.create(&PostParams::default(), &team).await.expect("a namespace");
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "team");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "team");
    let ca = eventually("the default account and the CA", async || {
        accounts.get("default").await.ok()?;
        maps.get("kube-root-ca.crt").await.ok()?.data?.remove("ca.crt")
    })
    .await;
    assert!(ca.contains("BEGIN CERTIFICATE"), "{ca}");
    accounts.delete("default", &DeleteParams::default()).await.expect("it is deleted");
    eventually("it is made again", async || accounts.get("default").await.ok()).await;

    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "team");
    deployments.create(&PostParams::default(), &from(deployment("web", 2, "i"))).await.expect("a deployment");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    maps.create(&PostParams::default(), &from(held)).await.expect("a map");
    namespaces.delete("team", &DeleteParams::default()).await.expect("it is deleted");
    let message = eventually("the namespace says what it waits for", async || {
        let conditions = namespaces.get("team").await.ok()?.status?.conditions?;
        let c = conditions
            .into_iter()
            .find(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True")?;
        c.message
    })
    .await;
    assert!(message.contains("example.com/hold in 1 resource instances"), "{message}");
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&free)).await.expect("it is let go");
    eventually("the namespace is gone", async || {
        namespaces.get_opt("team").await.ok()?.is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_networks_and_evict_what_does_not_tolerate_their_taints() {
    let cluster = Cluster::start().await;
    cluster.add_node("a").await;
    cluster.add_node("b").await;
    cluster.run_pods();
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let mut networks = eventually("both have networks", async || {
        let list = nodes.list(&ListParams::default()).await.ok()?.items;
        let networks: Vec<String> = list.into_iter().filter_map(|n| n.spec?.pod_cidr).collect();
        (networks.len() == 2).then_some(networks)
    })
    .await;
    networks.sort();
    assert_eq!(networks, ["10.42.0.0/24", "10.42.1.0/24"]);
    let tolerations = json!([{"key": "gone", "operator": "Exists"}]);
    cluster
        .create::<Pod>(pod(
            "stays",
            json!({"tolerations": tolerations, "nodeSelector": {"topology.kubernetes.io/zone": "zone-a"}}),
        ))
        .await;
    cluster
        .create::<Pod>(pod("goes", json!({"nodeSelector": {"topology.kubernetes.io/zone": "zone-a"}})))
        .await;
    placed(&cluster, "stays").await;
    placed(&cluster, "goes").await;
    let taint = json!({"spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]}});
    eventually("the node is tainted", async || {
        nodes.patch("a", &PatchParams::default(), &Patch::Merge(&taint)).await.ok()
    })
    .await;
    let pods = cluster.api::<Pod>();
    eventually("the intolerant pod is gone", async || {
        pods.get_opt("goes").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(pods.get("stays").await.is_ok_and(|p| p.metadata.deletion_timestamp.is_none()));
    let (source, message) = cluster.event("goes", "TaintManagerEviction").await;
    assert_eq!(
        (source.as_str(), message.as_str()),
        ("taint-eviction-controller", "Marking for deletion Pod default/goes")
    );

    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady",
        "lastHeartbeatTime": "2030-01-01T00:00:01Z", "lastTransitionTime": "2030-01-01T00:00:01Z"}]}});
    eventually("the status is written", async || {
        nodes.patch_status("b", &PatchParams::default(), &Patch::Strategic(&not_ready)).await.ok()
    })
    .await;
    eventually("a node that is not ready is tainted", async || {
        let taints = nodes.get("b").await.ok()?.spec?.taints?;
        let count = taints.iter().filter(|t| t.key == "node.kubernetes.io/not-ready").count();
        (count == 2).then_some(())
    })
    .await;
    assert_eq!(nodes.get("b").await.map(|n| n.name_any()).ok().as_deref(), Some("b"));
    cluster.stop().await;
}
