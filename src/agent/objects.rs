//! ConfigMaps and Secrets that pods of this node refer to: each watched by its name while some pod
//! needs it, and no others.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::supervisor::{OnFailure, Stage, Supervisor};

/// A ConfigMap or Secret that a pod names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference<'a> {
    /// The ConfigMap of that name.
    ConfigMap(&'a str),
    /// The Secret of that name.
    Secret(&'a str),
}

/// The ConfigMaps and Secrets that a pod's volumes and environments name, each once.
pub(crate) fn references(pod: &Pod) -> BTreeSet<Reference<'_>> {
    let mut all = BTreeSet::new();
    let Some(spec) = &pod.spec else { return all };
    let ordinary =
        spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| (&c.env, &c.env_from));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.env, &c.env_from));
    for (env, env_from) in ordinary.chain(ephemeral) {
        for source in env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            all.extend(source.config_map_key_ref.iter().map(|r| Reference::ConfigMap(&r.name)));
            all.extend(source.secret_key_ref.iter().map(|r| Reference::Secret(&r.name)));
        }
        for source in env_from.iter().flatten() {
            all.extend(source.config_map_ref.iter().map(|r| Reference::ConfigMap(&r.name)));
            all.extend(source.secret_ref.iter().map(|r| Reference::Secret(&r.name)));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        all.extend(volume.config_map.iter().map(|s| Reference::ConfigMap(&s.name)));
        let secret = volume.secret.as_ref().and_then(|s| s.secret_name.as_deref());
        all.extend(secret.map(Reference::Secret));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            all.extend(source.config_map.iter().map(|s| Reference::ConfigMap(&s.name)));
            all.extend(source.secret.iter().map(|s| Reference::Secret(&s.name)));
        }
    }
    all
}

/// What is watched by its name.
pub(crate) trait Held:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// It never changes again, which saves the watch.
    fn is_immutable(&self) -> bool;
}

impl Held for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Held for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

/// What is known of a watched object.
#[derive(Clone, Debug)]
pub(crate) enum Fetched<K> {
    /// Nothing yet.
    Loading,
    /// There is none.
    Absent,
    /// Its newest state.
    Present(Arc<K>),
    /// It could not be read; it is tried again.
    Failed(String),
}

/// Kubernetes' word for an object whose first answer is late.
const LATE: &str = "timed out waiting for the condition";
/// A pod that runs must not be held up by an API that does not answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

impl<K> Fetched<K> {
    /// The object; `None` if there is none and none is needed. Otherwise the text says which one is missing.
    pub(crate) fn required(self, kind: &str, name: &str, optional: bool) -> Result<Option<Arc<K>>, String> {
        match self {
            Self::Present(object) => Ok(Some(object)),
            Self::Failed(error) => Err(error),
            Self::Loading => Err(format!("failed to sync {kind} cache: {LATE}")),
            _ if optional => Ok(None),
            _ => Err(format!("{kind} \"{name}\" not found")),
        }
    }
}

/// An object under watch. Dropping the last handle ends the watch.
pub(crate) struct Watched<K> {
    state: watch::Receiver<Fetched<K>>,
    subscribers: Arc<Mutex<Vec<Weak<Notify>>>>,
    _stop: DropGuard,
}

impl<K: Clone> Watched<K> {
    /// The object, once its first answer is there; `Loading` if that takes long. Subscribers are told when it
    /// comes.
    pub(crate) async fn get(&self) -> Fetched<K> {
        let mut state = self.state.clone();
        let first = state.wait_for(|s| !matches!(s, Fetched::Loading));
        match tokio::time::timeout(FIRST_ANSWER, first).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => Fetched::Failed("the agent is stopping".into()),
            Err(_) => Fetched::Loading,
        }
    }
}

impl<K> Watched<K> {
    /// Has `wake` notified whenever the object changes.
    pub(crate) fn subscribe(&self, wake: &Arc<Notify>) {
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|s| s.strong_count() > 0);
        let known = subscribers.iter().any(|s| std::ptr::eq(s.as_ptr(), Arc::as_ptr(wake)));
        if !known {
            subscribers.push(Arc::downgrade(wake));
        }
    }
}

type Table<K> = Mutex<HashMap<(String, String), Weak<Watched<K>>>>;

/// All objects under watch.
pub(crate) struct Objects {
    client: kube::Client,
    supervisor: Supervisor,
    config_maps: Table<ConfigMap>,
    secrets: Table<Secret>,
}

impl Objects {
    /// Watches nothing yet.
    pub(crate) fn new(client: kube::Client, supervisor: Supervisor) -> Self {
        Self { client, supervisor, config_maps: Mutex::default(), secrets: Mutex::default() }
    }

    /// The ConfigMap of that name.
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Arc<Watched<ConfigMap>> {
        self.watched(&self.config_maps, namespace, name)
    }

    /// The Secret of that name.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Arc<Watched<Secret>> {
        self.watched(&self.secrets, namespace, name)
    }

    fn watched<K: Held>(&self, table: &Table<K>, namespace: &str, name: &str) -> Arc<Watched<K>> {
        let mut table = table.lock();
        table.retain(|_, w| w.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(watched) = table.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        let watched = Arc::new(self.start(namespace, name));
        table.insert(key, Arc::downgrade(&watched));
        watched
    }

    fn start<K: Held>(&self, namespace: &str, name: &str) -> Watched<K> {
        let (sender, state) = watch::channel(Fetched::Loading);
        let sender = Arc::new(sender);
        let subscribers: Arc<Mutex<Vec<Weak<Notify>>>> = Arc::default();
        let stop = CancellationToken::new();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let task_name = format!("object watches: {} {namespace}/{name}", K::kind(&()));
        let (name, interested, ended) = (name.to_owned(), Arc::clone(&subscribers), stop.clone());
        self.supervisor.spawn(task_name, Stage::Agent, OnFailure::Restart, move |token| {
            let (api, name, ended) = (api.clone(), name.clone(), ended.clone());
            let (sender, interested) = (Arc::clone(&sender), Arc::clone(&interested));
            async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = ended.cancelled() => {}
                    () = follow(api, &name, &sender, &interested) => {}
                }
                Ok(())
            }
        });
        Watched { state, subscribers, _stop: stop.drop_guard() }
    }
}

/// Tells what becomes of an object until it can change no more.
async fn follow<K: Held>(
    api: Api<K>,
    name: &str,
    sender: &watch::Sender<Fetched<K>>,
    interested: &Mutex<Vec<Weak<Notify>>>,
) {
    let mut stream = std::pin::pin!(watch_object(api, name).default_backoff());
    while let Some(next) = stream.next().await {
        let state = match next {
            Ok(None) => Fetched::Absent,
            Ok(Some(object)) => Fetched::Present(Arc::new(object)),
            // What is known stays known while the API is away.
            Err(_) if matches!(*sender.borrow(), Fetched::Present(_)) => continue,
            Err(error) => Fetched::Failed(reason(error)),
        };
        let last = matches!(&state, Fetched::Present(object) if object.is_immutable());
        sender.send_replace(state);
        for subscriber in interested.lock().iter().filter_map(Weak::upgrade) {
            subscriber.notify_one();
        }
        if last {
            return;
        }
    }
}

/// The API's own words, if it said something.
fn reason(error: watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.message.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use kube::client::Body;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn missing_objects_are_named_unless_optional() {
        let error = Fetched::<Secret>::Absent.required("secret", "s", false).expect_err("missing");
        assert_eq!(error, "secret \"s\" not found");
        assert!(Fetched::<Secret>::Absent.required("secret", "s", true).expect("optional").is_none());
        assert!(Fetched::<Secret>::Failed("no".into()).required("secret", "s", true).is_err());
        let late = Fetched::<Secret>::Loading.required("secret", "s", true).expect_err("late");
        assert_eq!(late, "failed to sync secret cache: timed out waiting for the condition");
    }

    #[test]
    fn all_that_a_pod_names() {
        let from = |kind: &str, name: &str| json!({kind: {"name": name, "key": "k"}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "i", "env": [{"name": "E", "valueFrom": from("secretKeyRef", "s1")}]}],
            "containers": [
                {"name": "c", "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s2"}}]},
                {"name": "d", "env": [{"name": "E", "valueFrom": from("configMapKeyRef", "m1")}]}],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "m2"}}]}],
            "volumes": [{"name": "v", "configMap": {"name": "m3"}}, {"name": "w", "secret": {"secretName": "s3"}},
                {"name": "x", "projected": {"sources": [{"secret": {"name": "s4"}}, {"configMap": {"name": "m4"}}]}}]}}))
        .expect("a pod");
        let maps = ["m1", "m2", "m3", "m4"].map(Reference::ConfigMap);
        let secrets = ["s1", "s2", "s3", "s4"].map(Reference::Secret);
        assert_eq!(references(&pod), maps.into_iter().chain(secrets).collect());
    }

    /// An API with one ConfigMap, or one of that name whatever the name. Counts what is asked of it.
    #[derive(Default)]
    struct Fake {
        lists: AtomicUsize,
        watches: AtomicUsize,
        open: AtomicUsize,
        closed: Notify,
        immutable: bool,
    }

    struct Open(Arc<Fake>);

    type Answer = UnsyncBoxBody<bytes::Bytes, std::io::Error>;

    impl Drop for Open {
        fn drop(&mut self) {
            self.0.open.fetch_sub(1, Ordering::SeqCst);
            self.0.closed.notify_one();
        }
    }

    impl Fake {
        fn answer(self: &Arc<Self>, request: &Request<Body>) -> Response<Answer> {
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("fieldSelector=metadata.name"), "only by name: {query}");
            if query.contains("watch=true") {
                self.watches.fetch_add(1, Ordering::SeqCst);
                self.open.fetch_add(1, Ordering::SeqCst);
                let open = Open(Arc::clone(self));
                let silent = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
                let stream = silent.map(move |chunk| {
                    let _keep = &open;
                    chunk
                });
                let frames = stream.map(|c| c.map(http_body::Frame::data));
                return Response::new(StreamBody::new(frames).boxed_unsync());
            }
            self.lists.fetch_add(1, Ordering::SeqCst);
            let item = json!({"metadata": {"name": "m", "namespace": "ns", "resourceVersion": "1"},
                "immutable": self.immutable, "data": {"k": "v"}});
            let list = json!({"apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": {"resourceVersion": "1"}, "items": [item]});
            let bytes = bytes::Bytes::from(serde_json::to_vec(&list).expect("JSON"));
            Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
        }

        fn objects(self: &Arc<Self>) -> Objects {
            let fake = Arc::clone(self);
            let service = tower::service_fn(move |request: Request<Body>| {
                let answer = fake.answer(&request);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            Objects::new(kube::Client::new(service, "default"), Supervisor::new())
        }
    }

    #[tokio::test]
    async fn many_pods_with_one_object_are_one_watch_which_ends_with_the_last() {
        let fake = Arc::new(Fake::default());
        let objects = fake.objects();
        let pods: Vec<_> = (0..200).map(|_| objects.config_map("ns", "m")).collect();
        for pod in &pods {
            assert!(matches!(pod.get().await, Fetched::Present(_)));
        }
        let wait = async {
            while fake.watches.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("a watch");
        let asked = || (fake.lists.load(Ordering::SeqCst), fake.watches.load(Ordering::SeqCst));
        assert_eq!(asked(), (1, 1));
        drop(pods);
        tokio::time::timeout(Duration::from_secs(30), fake.closed.notified()).await.expect("the watch ends");
        assert_eq!(fake.open.load(Ordering::SeqCst), 0);
        assert!(matches!(objects.config_map("ns", "m").get().await, Fetched::Present(_)));
        assert_eq!(asked().0, 2, "who comes later asks anew");
    }

    #[tokio::test]
    async fn what_cannot_change_is_not_watched() {
        let fake = Arc::new(Fake { immutable: true, ..Fake::default() });
        let objects = fake.objects();
        let watched = objects.config_map("ns", "m");
        let wake = Arc::new(Notify::new());
        watched.subscribe(&wake);
        assert!(matches!(watched.get().await, Fetched::Present(_)));
        let ended = async {
            while Arc::strong_count(&watched.subscribers) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the task ends");
        assert_eq!(fake.watches.load(Ordering::SeqCst), 0);
        assert!(matches!(watched.get().await, Fetched::Present(_)), "it is still known");
    }
}
