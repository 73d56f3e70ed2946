//! Clients of the API: one over a service in this process, one over HTTPS for nodes elsewhere; and
//! reflectors that are shared by all who read a kind.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use http::{Request, Response};
use kube::client::Body;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Config, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};

/// How long a watch lasts before it is begun anew, in seconds. A watch within the process does not die
/// silently, and an idle machine shall not be woken.
const WATCH_SECONDS: u32 = 3600;

/// How to watch through a client of [`in_process`]: for an hour at a time, and without bookmarks, which
/// this server has no need of: a kind that does not change can be watched from any revision.
pub fn watch_config() -> watcher::Config {
    watcher::Config { bookmarks: false, ..watcher::Config::default().timeout(WATCH_SECONDS) }
}

/// A client over a service that answers the API's requests in this process.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, "default")
}

/// A client over HTTPS: `server` is the API's URL, the rest PEM.
///
/// # Errors
/// The URL or one of the certificates cannot be used.
pub fn https(server: &str, ca: &str, certificate: &str, key: &str) -> Result<Client, BoxError> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use kube::config::{Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

    let name = "default".to_owned();
    let user = json_of(&[
        ("client-certificate-data", STANDARD.encode(certificate)),
        ("client-key-data", STANDARD.encode(key)),
    ])?;
    let kubeconfig = Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(server.to_owned()),
                certificate_authority_data: Some(STANDARD.encode(ca)),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() }),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    };
    let config =
        futures::executor::block_on(Config::from_custom_kubeconfig(kubeconfig, &Default::default()))?;
    Ok(Client::try_from(config)?)
}

/// A structure of text fields, some of which are secret types that are only made by decoding.
fn json_of<T: DeserializeOwned>(fields: &[(&str, String)]) -> Result<T, serde_json::Error> {
    let map = fields.iter().map(|(k, v)| ((*k).to_owned(), serde_json::Value::from(v.as_str())));
    serde_json::from_value(serde_json::Value::Object(map.collect()))
}

/// Reflectors, one a kind, shared by all who ask. A kind is watched from the first time it is asked for
/// until `stop`.
#[derive(Clone)]
pub struct Reflectors {
    client: Client,
    stop: CancellationToken,
    known: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

type Shared<K> = (Store<K>, watch::Receiver<u64>);

impl Reflectors {
    /// Reflectors that watch through `client` until `stop`.
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, stop, known: Arc::default() }
    }

    /// The store of a kind, and a subscription that is told after each change of it.
    pub fn store<K>(&self) -> (Store<K>, watch::Receiver<u64>)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Hash + Eq + Clone + Default + Unpin + Send + Sync,
    {
        let mut known = self.known.lock();
        if let Some(shared) = known.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Shared<K>>()) {
            return shared.clone();
        }
        let (store, writer) = reflector::store::<K>();
        let (changes, subscription) = watch::channel(0);
        let shared: Shared<K> = (store, subscription);
        known.insert(TypeId::of::<K>(), Box::new(shared.clone()));
        let events = watcher(Api::<K>::all(self.client.clone()), watch_config());
        let stop = self.stop.clone();
        // The caller's supervisor stops it through the token; it cannot fail: the watch is begun anew.
        tokio::spawn(async move {
            let mut stream = pin!(reflector(writer, events.default_backoff()));
            while let Some(Some(event)) = stop.run_until_cancelled(stream.next()).await {
                match event {
                    Ok(_) => changes.send_modify(|n| *n += 1),
                    Err(error) => {
                        tracing::warn!(%error, kind = type_name::<K>(), "watch failed; trying again")
                    }
                }
            }
        });
        shared
    }
}
