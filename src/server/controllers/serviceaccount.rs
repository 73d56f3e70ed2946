//! What every namespace has: the service account `default` and the ConfigMap with the CA by which
//! pods verify the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;

use super::kit::informer::{Change, Informer, Key};
use super::kit::{Context, Error, Next, Queue, meta, patch};
use crate::supervisor::TaskError;

const WORKERS: usize = 5;
const DEFAULT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

fn is_active(namespaces: &Informer<Namespace>, name: &str) -> bool {
    namespaces.named(name).is_some_and(|n| n.metadata.deletion_timestamp.is_none())
}

/// A namespace appeared, or came back to life.
fn appeared(change: &Change<Namespace>) -> Option<Key> {
    let fresh = change.old.is_none() && change.new.is_some();
    fresh.then(|| Key::new("", meta::name(&change.latest().metadata)))
}

/// Runs the controller of default service accounts.
pub async fn run_accounts(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let namespaces = cx.informers.get::<Namespace>();
    let accounts = cx.informers.get::<ServiceAccount>();
    let queue: Queue<Key> = Queue::new("serviceaccount");
    let (a, b) = (queue.clone(), queue.clone());
    let _namespaces = namespaces.subscribe(move |change| {
        if let Some(key) = appeared(change) {
            a.add(key);
        }
    });
    let _accounts = accounts.subscribe(move |change| {
        let meta = &change.latest().metadata;
        if change.deleted() && meta::name(meta) == DEFAULT {
            b.add(Key::new("", meta::namespace(meta)));
        }
    });
    namespaces.synced().await;
    accounts.synced().await;
    let ensure = |key: Key| {
        let (namespaces, accounts, client) =
            (Arc::clone(&namespaces), Arc::clone(&accounts), cx.client.clone());
        async move {
            if !is_active(&namespaces, &key.name) || accounts.get(&Key::new(&key.name, DEFAULT)).is_some() {
                return Ok(Next::Done);
            }
            let account = ServiceAccount {
                metadata: ObjectMeta { name: Some(DEFAULT.into()), ..Default::default() },
                ..Default::default()
            };
            let api: Api<ServiceAccount> = Api::namespaced(client, &key.name);
            created(api.create(&PostParams::default(), &account).await, "creating a default service account")
        }
    };
    queue.run(WORKERS, stop, ensure).await;
    Ok(())
}

/// Whether a creation may count as done: the object is there, or its namespace is going.
fn created<K>(result: kube::Result<K>, doing: &'static str) -> Result<Next, Error> {
    match result.map_err(Error::api(doing)) {
        Ok(_) => Ok(Next::Done),
        Err(e) if e.reason() == "AlreadyExists" || e.is_namespace_terminating() || e.is_not_found() => {
            Ok(Next::Done)
        }
        Err(e) => Err(e),
    }
}

/// Runs the publisher of the API server's CA.
pub async fn run_root_ca(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let namespaces = cx.informers.get::<Namespace>();
    let maps = cx.informers.selected::<ConfigMap>(&format!("metadata.name={ROOT_CA}"));
    let queue: Queue<Key> = Queue::new("root-ca-certificate-publisher");
    let (a, b) = (queue.clone(), queue.clone());
    let _namespaces = namespaces.subscribe(move |change| {
        if let Some(key) = appeared(change) {
            a.add(key);
        }
    });
    let _maps = maps.subscribe(move |change| b.add(Key::new("", meta::namespace(&change.latest().metadata))));
    namespaces.synced().await;
    maps.synced().await;
    let ensure = |key: Key| {
        let (namespaces, maps, cx) = (Arc::clone(&namespaces), Arc::clone(&maps), cx.clone());
        async move {
            if !is_active(&namespaces, &key.name) {
                return Ok(Next::Done);
            }
            let api: Api<ConfigMap> = Api::namespaced(cx.client.clone(), &key.name);
            let known = maps.get(&Key::new(&key.name, ROOT_CA));
            let mut wanted = known.as_deref().cloned().unwrap_or_default();
            fill(&mut wanted, &cx.config.root_ca_pem);
            match known {
                Some(old) => patch::write(&api, old.as_ref(), &wanted, None).await.map(|_| Next::Done),
                None => created(api.create(&PostParams::default(), &wanted).await, "publishing the root CA"),
            }
        }
    };
    queue.run(WORKERS, stop, ensure).await;
    Ok(())
}

/// Gives the ConfigMap its content.
fn fill(map: &mut ConfigMap, pem: &str) {
    map.metadata.name = Some(ROOT_CA.to_owned());
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    map.data = Some(BTreeMap::from([("ca.crt".to_owned(), pem.to_owned())]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_content_of_the_ca_map_is_replaced() {
        let mut map =
            ConfigMap { data: Some(BTreeMap::from([("x".into(), "y".into())])), ..Default::default() };
        map.metadata.namespace = Some("n".into());
        fill(&mut map, "PEM");
        assert_eq!(map.data, Some(BTreeMap::from([("ca.crt".to_owned(), "PEM".to_owned())])));
        assert_eq!(map.metadata.name.as_deref(), Some(ROOT_CA));
        assert_eq!(map.metadata.namespace.as_deref(), Some("n"));
    }

    #[test]
    fn only_a_new_namespace_appears() {
        let n = Arc::new(Namespace {
            metadata: ObjectMeta { name: Some("n".into()), ..Default::default() },
            ..Default::default()
        });
        let new = Change { old: None, new: Some(Arc::clone(&n)) };
        assert_eq!(appeared(&new), Some(Key::new("", "n")));
        assert_eq!(appeared(&Change { old: Some(Arc::clone(&n)), new: Some(Arc::clone(&n)) }), None);
        assert_eq!(appeared(&Change { old: Some(n), new: None }), None);
    }

    #[tokio::test]
    async fn an_informer_knows_active_namespaces() {
        let namespaces = Informer::<Namespace>::default();
        assert!(!is_active(&namespaces, "n"));
        namespaces.apply(Namespace {
            metadata: ObjectMeta { name: Some("n".into()), ..Default::default() },
            ..Default::default()
        });
        assert!(is_active(&namespaces, "n"));
    }
}
