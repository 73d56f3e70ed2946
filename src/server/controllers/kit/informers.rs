//! The set of shared informers: one watch a kind, started when the first controller asks for it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::informer::Informer;
use crate::supervisor::{OnFailure, Stage, Supervisor};

/// Hands out one [`Informer`] a kind (and selector).
pub struct Informers {
    client: Client,
    supervisor: Supervisor,
    known: Mutex<HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>>,
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
            informer
        });
        let any = Arc::clone(slot);
        any.downcast().expect("the slot of a type id holds an informer of that type")
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
