//! kube's own client, over TLS from inside the cluster's network.

use std::fs::File;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::runtime::{reflector, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Suite;
use crate::harness::Cluster;

/// Longest wait for what normally takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client's suites.
pub fn suites() -> Vec<Suite> {
    vec![
        ("rust/objects".to_owned(), Box::new(|cluster| run(cluster, objects))),
        ("rust/watches".to_owned(), Box::new(|cluster| run(cluster, watches))),
        ("rust/pods".to_owned(), Box::new(|cluster| run(cluster, pods))),
    ]
}

/// Runs a test on a thread in the cluster's network namespace, with a client and a namespace.
fn run<F: Future<Output = ()>>(cluster: &Cluster, test: impl FnOnce(Client, String) -> F + Send) {
    let namespace = cluster.namespace("rust");
    let network = File::open(format!("/proc/{}/ns/net", cluster.server_pid())).expect("the server runs");
    let kubeconfig = crate::kubeconfig(cluster);
    let work = || {
        nix::sched::setns(&network, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace is entered");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let file = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            let client = Client::try_from(config.expect("a configuration")).expect("a client");
            let test = test(client, namespace.clone());
            tokio::time::timeout(2 * PATIENCE, test).await.expect("it takes no longer");
        });
    };
    std::thread::scope(|scope| scope.spawn(work).join()).expect("the test passes");
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
}

fn config_map(name: &str, labels: &[(&str, &str)]) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.labels = Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    map
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("no answer of the API: {other}"),
    }
}

async fn objects(client: Client, namespace: String) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let mine = PatchParams::apply("mine");
    let made = api.patch("d", &mine, &Patch::Apply(&config)).await.expect("applied");
    let again = api.patch("d", &mine, &Patch::Apply(&config)).await.expect("applied again");
    assert_eq!(made.uid(), again.uid());
    let mut other = config.clone();
    other["spec"]["replicas"] = json!(1);
    let theirs = PatchParams::apply("theirs");
    assert_eq!(code(api.patch("d", &theirs, &Patch::Apply(&other)).await.expect_err("a conflict")), 409);
    api.patch("d", &theirs.clone().force(), &Patch::Apply(&other)).await.expect("forced");
    let strict = PatchParams::default().validation_strict();
    let unknown = Patch::Merge(json!({"spec": {"unknown": 1}}));
    assert_eq!(code(api.patch("d", &strict, &unknown).await.expect_err("unknown")), 422);
    other["spec"]["unknown"] = json!(1);
    assert_eq!(code(api.patch("d", &theirs, &Patch::Apply(&other)).await.expect_err("undeclared")), 500);
    assert_eq!(api.get_scale("d").await.expect("a scale").spec.and_then(|s| s.replicas), Some(1));
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let scaled = api.patch_scale("d", &PatchParams::default(), &scale).await.expect("scaled");
    assert_eq!(scaled.spec.and_then(|s| s.replicas).unwrap_or_default(), 0);
    let partial = api.get_metadata("d").await.expect("metadata");
    assert_eq!(partial.types.as_ref().map(|t| &*t.kind), Some("PartialObjectMetadata"));
    assert_eq!(partial.uid(), made.uid());
    let list = api.list_metadata(&ListParams::default()).await.expect("metadata of all");
    assert_eq!((list.types.kind.as_str(), list.items.len()), ("PartialObjectMetadataList", 1));
    api.delete("d", &DeleteParams::foreground()).await.expect("deleted");

    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    for n in 0..5 {
        let map = config_map(&format!("m-{n}"), &[("page", "yes")]);
        maps.create(&PostParams::default(), &map).await.expect("created");
    }
    let mut names = Vec::new();
    let mut page = ListParams::default().labels("page=yes").limit(2);
    loop {
        let list = maps.list(&page).await.expect("a page");
        names.extend(list.iter().map(ResourceExt::name_any));
        let Some(token) = list.metadata.continue_.filter(|t| !t.is_empty()) else { break };
        page = page.continue_token(&token);
    }
    assert_eq!(names, ["m-0", "m-1", "m-2", "m-3", "m-4"]);
}

async fn watches(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &config_map(name, &[("w", "1")])).await.expect("created");
    }
    // A streaming list: what there is, a bookmark that says so, then what happens.
    let params = WatchParams::default().labels("w").initial_events();
    let mut stream = api.watch(&params, "0").await.expect("a watch").boxed();
    let mut seen = Vec::new();
    let end = loop {
        match stream.try_next().await.expect("no error").expect("no end") {
            WatchEvent::Added(map) => seen.push(map.name_any()),
            WatchEvent::Bookmark(bookmark) => break bookmark,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(end.metadata.annotations.get("k8s.io/initial-events-end").map(String::as_str), Some("true"));
    let patch = Patch::Merge(json!({"metadata": {"labels": {"w": null}}}));
    api.patch("a", &PatchParams::default(), &patch).await.expect("patched");
    match stream.try_next().await.expect("no error").expect("no end") {
        WatchEvent::Deleted(map) => assert_eq!(map.name_any(), "a"),
        other => panic!("{other:?}"),
    }

    for config in
        [watcher::Config::default().labels("w"), watcher::Config::default().labels("w").streaming_lists()]
    {
        let (reader, writer) = reflector::store();
        let mut reflected = reflector(writer, watcher(api.clone(), config)).boxed();
        let api = api.clone();
        let change = async move {
            reader.wait_until_ready().await.expect("a first list");
            assert_eq!(reader.state().iter().map(|m| m.name_any()).collect::<Vec<_>>(), ["b"]);
            api.create(&PostParams::default(), &config_map("late", &[("w", "1")])).await.expect("created");
            while reader.state().len() < 2 {
                tokio::task::yield_now().await;
            }
            api.delete("late", &DeleteParams::default()).await.expect("deleted");
            while reader.state().len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = change => {}
            end = async { while let Ok(Some(_)) = reflected.try_next().await {} } => panic!("it ended: {end:?}"),
        }
    }
    let partial: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(api.into_client(), &namespace);
    let mut metadata = watcher(partial, watcher::Config::default().labels("w")).boxed();
    let first = loop {
        match metadata.try_next().await.expect("no error").expect("no end") {
            watcher::Event::InitApply(map) => break map,
            _ => continue,
        }
    };
    assert_eq!(first.name_any(), "b");
}

async fn pods(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "busybox:1.36",
        "command": ["sh", "-c", "echo one; echo two; httpd -p 8080 -h /www; sleep 10000"]}]}}))
    .expect("a pod");
    api.create(&PostParams::default(), &pod).await.expect("created");
    let running = kube::runtime::wait::await_condition(
        api.clone(),
        "p",
        kube::runtime::wait::conditions::is_pod_running(),
    );
    tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("it runs");
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = api.log_stream("p", &follow).await.expect("a log").lines();
    assert_eq!(lines.try_next().await.expect("a line").as_deref(), Some("one"));
    assert_eq!(lines.try_next().await.expect("a line").as_deref(), Some("two"));

    let attach = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = api.exec("p", ["sh", "-c", "cat; exit 5"], &attach).await.expect("exec");
    let mut input = process.stdin().expect("stdin");
    input.write_all(b"through cat\n").await.expect("written");
    input.shutdown().await.expect("closed");
    drop(input);
    let mut output = String::new();
    process.stdout().expect("stdout").read_to_string(&mut output).await.expect("read");
    let status = process.take_status().expect("a status").await.expect("it ends");
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    let exit = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    assert_eq!(
        (&*output, exit.and_then(|c| c.message.as_deref())),
        ("through cat\n", Some("5")),
        "{causes:?}"
    );

    let mut forwarder = api.portforward("p", &[8080]).await.expect("a port");
    let mut stream = forwarder.take_stream(8080).expect("a stream");
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.ends_with("it works\n"), "{answer}");
    api.evict("p", &EvictParams::default()).await.expect("evicted");
}
