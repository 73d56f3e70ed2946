//! What every cluster has from its first moment: namespaces, priority classes, default roles, the API's
//! own Service.

use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::admission;
use super::auth::User;
use super::auth::authz::rbac::bootstrap::{self as roles, Outcome};
use super::cache::Scope;
use super::objects::{Call, Change, DeleteOptions, Objects, WriteOptions};
use super::registry::Resource;
use super::service_addresses;
use crate::api::{GroupVersionKind, Meta, Status};
use crate::config::ServerSettings;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// So many are made at a time: they share the disk's sync.
const AT_ONCE: usize = 64;

/// Makes what is missing.
///
/// # Errors
/// What could not be made, and why.
pub(super) async fn ensure(objects: &Objects, settings: &ServerSettings, port: u16) -> Result<(), String> {
    let namespaces =
        NAMESPACES.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    at_once(namespaces.to_vec(), |object| create_if_missing(objects, object)).await?;
    at_once(admission::system_classes(), |object| create_if_missing(objects, object)).await?;
    at_once(roles::objects(), |object| reconcile(objects, object)).await?;
    create_if_missing(objects, service_addresses::default_network(settings.service_cidr)).await?;
    let [service, endpoints, slice] = own_service(settings, port)?;
    create_if_missing(objects, service).await?;
    for object in [endpoints, slice] {
        // Where the API is may have changed since the last start. That nobody else can reach it, as
        // with a loopback address, is no reason not to start.
        if let Err(error) = create_or_replace(objects, object).await {
            tracing::warn!(%error, "the address of the API cannot be published");
        }
    }
    Ok(())
}

/// Makes the API's own Service, or where it is reached, again when somebody deletes it, as upstream does.
///
/// # Errors
/// What could not be made, or the task fell behind.
pub(super) async fn keep_own_service(
    objects: &Objects,
    settings: &ServerSettings,
    port: u16,
    stop: CancellationToken,
) -> Result<(), String> {
    let kept = own_service(settings, port)?;
    let mut watchers = Vec::new();
    for object in &kept {
        let kind =
            objects.kind(entry(objects, object)?.as_ref()).map_err(|status| failed(object, &status))?;
        watchers.push(kind.list_and_watch(Scope::Key("default/kubernetes".to_owned())).1);
    }
    loop {
        for object in &kept {
            create_if_missing(objects, object.clone()).await?;
        }
        let changes = future::select_all(watchers.iter_mut().map(|watcher| Box::pin(watcher.next())));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            (events, ..) = changes => drop(events.map_err(|e| e.to_string())?),
        }
    }
}

async fn at_once<F>(list: Vec<Value>, ensure: impl Fn(Value) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    stream::iter(list).map(ensure).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
}

fn entry(objects: &Objects, object: &Value) -> Result<Arc<Resource>, String> {
    let (version, kind) = (Meta::of(object).api_version(), Meta::of(object).kind());
    let wanted = GroupVersionKind::from_api_version(version, kind);
    objects.registry.of_kind(&wanted).ok_or_else(|| format!("{wanted} is not served"))
}

fn namespace(object: &Value) -> Option<&str> {
    Some(Meta::of(object).namespace()).filter(|n| !n.is_empty())
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "kedge".to_owned(), ..WriteOptions::default() }
}

fn failed(object: &Value, status: &Status) -> String {
    format!("{} {}: {status}", Meta::of(object).kind(), Meta::of(object).name())
}

async fn create_if_missing(objects: &Objects, object: Value) -> Result<(), String> {
    let (resource, user, options) = (&entry(objects, &object)?, User::loopback(), options());
    if objects.get(resource, namespace(&object), Meta::of(&object).name()).is_ok() {
        return Ok(());
    }
    let call = Call::own(resource, namespace(&object), &user, &options);
    match objects.create(&call, object.clone()).await {
        Ok(_) => Ok(()),
        Err(status) if status.code == 409 => Ok(()),
        Err(status) => Err(failed(&object, &status)),
    }
}

/// Makes a default role or binding what it has to be at least.
async fn reconcile(objects: &Objects, wanted: Value) -> Result<(), String> {
    let (resource, user, options) = (&entry(objects, &wanted)?, User::loopback(), options());
    let (namespace, name) = (namespace(&wanted), Meta::of(&wanted).name());
    let Ok(existing) = objects.get(resource, namespace, name) else {
        return create_if_missing(objects, wanted).await;
    };
    let call = Call::own(resource, namespace, &user, &options);
    let done = match roles::reconcile(&existing.value(), &wanted) {
        Outcome::Keep => return Ok(()),
        Outcome::Update(object) => {
            let change = Change { name, ..Change::default() };
            objects.update(&call, change, &mut |_| Ok(object.clone())).await.map(drop)
        }
        Outcome::Recreate => objects.delete(&call, name, &DeleteOptions::default()).await.map(drop),
    };
    done.map_err(|status| failed(&wanted, &status))?;
    create_if_missing(objects, wanted).await
}

async fn create_or_replace(objects: &Objects, object: Value) -> Result<(), String> {
    let (resource, user, options) = (&entry(objects, &object)?, User::loopback(), options());
    let call = Call::own(resource, namespace(&object), &user, &options);
    let change = Change { name: Meta::of(&object).name(), create: true, ..Change::default() };
    let replaced = objects.update(&call, change, &mut |_| Ok(object.clone())).await;
    replaced.map(drop).map_err(|status| failed(&object, &status))
}

fn metadata(labels: Value) -> Value {
    json!({"name": "kubernetes", "namespace": "default", "labels": labels})
}

/// The Service `default/kubernetes`, its Endpoints and its EndpointSlice.
fn own_service(settings: &ServerSettings, port: u16) -> Result<[Value; 3], String> {
    let Some(address) = settings.service_cidr.nth(1) else {
        return Err(format!("{} has no room for a Service", settings.service_cidr));
    };
    let at = settings.node.node_ip;
    Ok([service(address.into(), port), endpoints(at, port), slice(at, port)])
}

fn service(address: IpAddr, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": metadata(json!({"component": "apiserver", "provider": "kubernetes"})),
        "spec": {"clusterIP": address.to_string(), "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}})
}

fn endpoints(address: IpAddr, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"})),
        "subsets": [{"addresses": [{"ip": address.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]})
}

fn slice(address: IpAddr, port: u16) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": metadata(json!({"kubernetes.io/service-name": "kubernetes"})),
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
}
