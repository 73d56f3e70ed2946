//! ConfigMaps and Secrets that pods of this node refer to: each watched by its name while some pod
//! needs it, and no others.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::supervisor::{OnFailure, Stage, Supervisor};

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

impl<K> Fetched<K> {
    /// The object; `None` if there is none and none is needed. Otherwise the text says which one is missing.
    pub(crate) fn required(self, kind: &str, name: &str, optional: bool) -> Result<Option<Arc<K>>, String> {
        match self {
            Self::Present(object) => Ok(Some(object)),
            Self::Failed(error) => Err(error),
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
    /// The object, once its first answer is there.
    pub(crate) async fn get(&self) -> Fetched<K> {
        let mut state = self.state.clone();
        match state.wait_for(|s| !matches!(s, Fetched::Loading)).await {
            Ok(state) => state.clone(),
            Err(_) => Fetched::Failed("the agent is stopping".into()),
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

    fn watched<K>(&self, table: &Table<K>, namespace: &str, name: &str) -> Arc<Watched<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
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

    fn start<K>(&self, namespace: &str, name: &str) -> Watched<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let (sender, state) = watch::channel(Fetched::Loading);
        let sender = Arc::new(sender);
        let subscribers: Arc<Mutex<Vec<Weak<Notify>>>> = Arc::default();
        let stop = CancellationToken::new();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let task_name = format!("watch {} {namespace}/{name}", K::kind(&()));
        let (name, interested, ended) = (name.to_owned(), Arc::clone(&subscribers), stop.clone());
        self.supervisor.spawn(task_name, Stage::Agent, OnFailure::Restart, move |token| {
            let (api, name, ended) = (api.clone(), name.clone(), ended.clone());
            let (sender, interested) = (Arc::clone(&sender), Arc::clone(&interested));
            async move {
                let mut stream = std::pin::pin!(watch_object(api, &name).default_backoff());
                loop {
                    let next = tokio::select! {
                        () = token.cancelled() => return Ok(()),
                        () = ended.cancelled() => return Ok(()),
                        next = stream.next() => next,
                    };
                    let state = match next {
                        None => return Ok(()),
                        Some(Ok(None)) => Fetched::Absent,
                        Some(Ok(Some(object))) => Fetched::Present(Arc::new(object)),
                        // What is known stays known while the API is away.
                        Some(Err(_)) if matches!(*sender.borrow(), Fetched::Present(_)) => continue,
                        Some(Err(error)) => Fetched::Failed(error.to_string()),
                    };
                    sender.send_replace(state);
                    for subscriber in interested.lock().iter().filter_map(Weak::upgrade) {
                        subscriber.notify_one();
                    }
                }
            }
        });
        Watched { state, subscribers, _stop: stop.drop_guard() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_objects_are_named_unless_optional() {
        let error = Fetched::<Secret>::Absent.required("secret", "s", false).expect_err("missing");
        assert_eq!(error, "secret \"s\" not found");
        assert!(Fetched::<Secret>::Absent.required("secret", "s", true).expect("optional").is_none());
        assert!(Fetched::<Secret>::Failed("no".into()).required("secret", "s", true).is_err());
    }
}
