//! Carrying out a plan for slices, and waiting until the watch shows it.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::slices::{MANAGED_BY, Plan};
use crate::server::controllers::kit::informer::{Informer, Key};
use crate::server::controllers::kit::{Context, Error, ignore_not_found, meta, patch};

/// The slices of a Service that one controller manages.
pub fn managed(
    informer: &Informer<EndpointSlice>,
    key: &Key,
    label: &str,
    manager: &str,
) -> Vec<Arc<EndpointSlice>> {
    let ours = |s: &Arc<EndpointSlice>| {
        let labels = meta::labels(&s.metadata);
        labels.get(label) == Some(&key.name)
            && labels.get(MANAGED_BY).is_some_and(|m| m == manager)
            && s.metadata.deletion_timestamp.is_none()
    };
    informer.in_namespace(&key.namespace).into_iter().filter(ours).collect()
}

/// Creates, changes and deletes slices.
pub async fn carry_out(
    cx: &Context,
    informer: &Informer<EndpointSlice>,
    namespace: &str,
    plan: Plan,
) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(cx.client.clone(), namespace);
    let mut written: Vec<(Key, Option<u64>)> = Vec::new();
    let version = |s: &EndpointSlice| s.metadata.resource_version.as_deref().and_then(|v| v.parse().ok());
    for slice in &plan.create {
        match api
            .create(&PostParams::default(), slice)
            .await
            .map_err(Error::api("creating an endpoint slice"))
        {
            Ok(s) => written.push((Key::of(&s), version(&s))),
            Err(e) if e.is_namespace_terminating() => {}
            Err(e) => return Err(e),
        }
    }
    for (old, new) in &plan.update {
        if let Some(s) = patch::write(&api, old.as_ref(), new, None).await? {
            written.push((Key::of(&s), version(&s)));
        }
    }
    for slice in &plan.delete {
        let deleted = api.delete(meta::name(&slice.metadata), &DeleteParams::default()).await;
        ignore_not_found(deleted.map(|_| ()).map_err(Error::api("deleting an endpoint slice")))?;
    }
    informer
        .caught_up(|cache| {
            let shows =
                |(key, wanted): &(Key, Option<u64>)| cache.get(key).is_some_and(|s| version(&s) >= *wanted);
            written.iter().all(shows) && plan.delete.iter().all(|s| cache.get(&Key::of(s.as_ref())).is_none())
        })
        .await;
    Ok(())
}
