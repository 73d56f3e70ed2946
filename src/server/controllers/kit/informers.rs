//! The set of shared informers: one watch a kind, started when the first controller asks for it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::informer::Informer;
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// Hands out one [`Informer`] a kind (and selector).
pub struct Informers {
    client: Client,
    supervisor: Supervisor,
    known: Mutex<HashMap<(TypeId, String), Known>>,
}

struct Known {
    informer: Arc<dyn Any + Send + Sync>,
    synced: watch::Receiver<bool>,
}

impl Informers {
    /// Informers that watch through `client` in tasks of `supervisor`.
    pub fn new(client: Client, supervisor: Supervisor) -> Arc<Self> {
        Arc::new(Self { client, supervisor, known: Mutex::default() })
    }

    /// The informer of all objects of kind `K`.
    pub fn get<K>(&self) -> Arc<Informer<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.selected("")
    }

    /// The informer of the objects of kind `K` that a field selector chooses.
    pub fn selected<K>(&self, fields: &str) -> Arc<Informer<K>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut known = self.known.lock();
        let slot = known.entry((TypeId::of::<K>(), fields.to_owned())).or_insert_with(|| {
            let informer = Arc::new(Informer::<K>::default());
            self.start(&informer, fields);
            let synced = informer.synced_state();
            Known { informer, synced }
        });
        let any = Arc::clone(&slot.informer);
        any.downcast().expect("the slot of a type id holds an informer of that type")
    }

    /// Runs what needs the informers until it ends. When the stop comes before all of them have their first list,
    /// it is dropped: they will not get one any more, and who waits for it would wait for ever.
    pub async fn run<T>(&self, stop: &CancellationToken, task: impl Future<Output = T>) -> Option<T> {
        let in_vain = async {
            stop.cancelled().await;
            if self.known.lock().values().all(|known| *known.synced.borrow()) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = task => Some(result),
            () = in_vain => None,
        }
    }

    fn start<K>(&self, informer: &Arc<Informer<K>>, fields: &str)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let informer = Arc::clone(informer);
        let client = self.client.clone();
        let mut config = crate::client::watch_config();
        let mut name = format!("informer {}", K::plural(&()));
        if !fields.is_empty() {
            config = config.fields(fields);
            name = format!("{name} {fields}");
        }
        self.supervisor.spawn(name, Stage::Controller, OnFailure::Restart, move |stop| {
            let (informer, client, config) = (Arc::clone(&informer), client.clone(), config.clone());
            async move {
                informer.follow(Api::all(client), config, stop).await;
                Ok(())
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    /// A client whose server never answers.
    fn silent() -> Client {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_stop_before_the_first_list_ends_who_waits_for_it() {
        let supervisor = Supervisor::new();
        let informers = Informers::new(silent(), supervisor.clone());
        let stop = supervisor.token(Stage::Controller);
        let maps = informers.get::<ConfigMap>();
        let waiting = informers.run(&stop, maps.synced());
        assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
        assert_eq!(waiting.await, None);
        // With complete lists a task ends in its own way.
        maps.set_synced();
        assert_eq!(informers.run(&stop, async { tokio::task::yield_now().await }).await, Some(()));
    }
}
