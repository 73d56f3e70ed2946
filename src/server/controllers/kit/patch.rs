//! Writing back: the whole object, as upstream's controllers do and as their roles allow, but only
//! when it differs from what it was.

use std::fmt::Debug;

use kube::api::PostParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// Writes `new`, made from the cached `old`, as the object itself or (`"status"`) its subresource.
/// Fails with a conflict when the stored object is no longer `old`. Gives the stored object, or
/// `None` when nothing had to be written.
pub async fn write<K>(api: &Api<K>, old: &K, new: &K, subresource: Option<&str>) -> Result<Option<K>, Error>
where
    K: Resource + PartialEq + Serialize + Clone + DeserializeOwned + Debug,
{
    if old == new {
        return Ok(None);
    }
    let name = old.meta().name.as_deref().unwrap_or_default();
    let params = PostParams::default();
    let written = match subresource {
        Some(subresource) => api.replace_subresource(subresource, name, &params, new).await,
        None => api.replace(name, &params, new).await,
    };
    written.map(Some).map_err(Error::api("writing an object back"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn only_a_difference_is_written() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(
                (request.method().as_str(), request.uri().path()),
                ("PUT", "/api/v1/namespaces/n/configmaps/a")
            );
            async { Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::from(b"{}".to_vec()))) }
        });
        let api: Api<ConfigMap> = Api::namespaced(kube::Client::new(service, "default"), "n");
        let mut old = ConfigMap::default();
        old.metadata.name = Some("a".into());
        assert!(write(&api, &old, &old, None).await.expect("nothing to do").is_none());
        let mut new = old.clone();
        new.immutable = Some(true);
        assert!(write(&api, &old, &new, None).await.is_ok());
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
}
