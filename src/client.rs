//! Clients of the API: one over a service in this process, one over HTTPS for nodes elsewhere.

pub mod tls;

use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
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
