//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of the service account
//! they name, and removed with it.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio_util::sync::CancellationToken;

use super::config::LegacyToken;
use super::kit::informer::{Informer, Key};
use super::kit::{Context, Error, Next, Queue, ignore_not_found, meta, patch};
use crate::supervisor::TaskError;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const WORKERS: usize = 5;

/// What is to become of a secret.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It is as it should be.
    Keep,
    /// It lacks something.
    Fill(Arc<ServiceAccount>),
    /// Its service account is gone.
    Delete,
}

/// Runs the controller of service account token secrets.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let accounts = cx.informers.get::<ServiceAccount>();
    let secrets = cx.informers.selected::<Secret>(&format!("type={TYPE}"));
    let queue: Queue<Key> = Queue::new("serviceaccount-token");
    let (a, b, in_namespace) = (queue.clone(), queue.clone(), Arc::clone(&secrets));
    let _secrets = secrets.subscribe(move |change| a.add(Key::of(change.latest().as_ref())));
    let _accounts = accounts.subscribe(move |change| {
        let account = &change.latest().metadata;
        for secret in in_namespace.in_namespace(meta::namespace(account)) {
            if meta::annotation(&secret.metadata, ACCOUNT_NAME) == Some(meta::name(account)) {
                b.add(Key::of(secret.as_ref()));
            }
        }
    });
    accounts.synced().await;
    secrets.synced().await;
    let reconcile = |key: Key| {
        let (accounts, secrets, cx) = (Arc::clone(&accounts), Arc::clone(&secrets), cx.clone());
        async move { reconcile(&cx, &accounts, &secrets, &key).await }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

async fn reconcile(
    cx: &Context,
    accounts: &Informer<ServiceAccount>,
    secrets: &Informer<Secret>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(secret) = secrets.get(key) else { return Ok(Next::Done) };
    let api: Api<Secret> = Api::namespaced(cx.client.clone(), &key.namespace);
    match judge(&secret, accounts, &cx.config.root_ca_pem) {
        Verdict::Keep => {}
        Verdict::Delete => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..Default::default()
            };
            let deleted = api.delete(&key.name, &params).await;
            ignore_not_found(
                deleted.map(|_| ()).map_err(Error::api("deleting a token without service account")),
            )?;
        }
        Verdict::Fill(account) => {
            let Some(sign) = &cx.config.legacy_tokens else { return Ok(Next::Done) };
            let token = LegacyToken {
                namespace: key.namespace.clone(),
                account: meta::name(&account.metadata).to_owned(),
                account_uid: meta::uid(&account.metadata).to_owned(),
                secret: key.name.clone(),
            };
            let mut wanted = Secret::clone(&secret);
            fill(&mut wanted, &account, &cx.config.root_ca_pem, || sign(&token).map_err(Error::Invalid))?;
            patch::write(&api, secret.as_ref(), &wanted, None).await?;
        }
    }
    Ok(Next::Done)
}

fn judge(secret: &Secret, accounts: &Informer<ServiceAccount>, ca: &str) -> Verdict {
    if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
        return Verdict::Keep;
    }
    let Some(name) = meta::annotation(&secret.metadata, ACCOUNT_NAME) else { return Verdict::Keep };
    let uid = meta::annotation(&secret.metadata, ACCOUNT_UID);
    let account = accounts.get(&Key::new(meta::namespace(&secret.metadata), name));
    let Some(account) = account.filter(|a| uid.is_none_or(|u| u == meta::uid(&a.metadata))) else {
        return Verdict::Delete;
    };
    let has = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).is_some_and(|v| !v.0.is_empty());
    let ca_is = secret.data.as_ref().and_then(|d| d.get("ca.crt")).map(|v| v.0.as_slice());
    let complete = has("token") && has("namespace") && ca_is == Some(ca.as_bytes()) && uid.is_some();
    if complete { Verdict::Keep } else { Verdict::Fill(account) }
}

fn fill(
    secret: &mut Secret,
    account: &ServiceAccount,
    ca: &str,
    token: impl FnOnce() -> Result<String, Error>,
) -> Result<(), Error> {
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), meta::uid(&account.metadata).to_owned());
    let namespace = meta::namespace(&account.metadata).to_owned();
    let data = secret.data.get_or_insert_default();
    data.insert("ca.crt".to_owned(), ByteString(ca.as_bytes().to_vec()));
    data.insert("namespace".to_owned(), ByteString(namespace.into_bytes()));
    if data.get("token").is_none_or(|t| t.0.is_empty()) {
        data.insert("token".to_owned(), ByteString(token()?.into_bytes()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accounts() -> Informer<ServiceAccount> {
        let informer = Informer::default();
        informer.apply(
            serde_json::from_value(json!({"metadata": {"name": "bot", "namespace": "n", "uid": "u"}}))
                .expect("an account"),
        );
        informer
    }

    fn secret(annotations: serde_json::Value) -> Secret {
        serde_json::from_value(
            json!({"type": TYPE, "metadata": {"name": "s", "namespace": "n", "annotations": annotations}}),
        )
        .expect("a secret")
    }

    #[test]
    fn a_token_is_made_once_and_goes_with_its_account() {
        let accounts = accounts();
        let mut new = secret(json!({ACCOUNT_NAME: "bot"}));
        let Verdict::Fill(account) = judge(&new, &accounts, "CA") else { panic!("it is empty") };
        fill(&mut new, &account, "CA", || Ok("jwt".into())).expect("it is filled");
        assert_eq!(judge(&new, &accounts, "CA"), Verdict::Keep);
        assert_eq!(new.data.as_ref().map(|d| d["token"].0.as_slice()), Some(b"jwt".as_slice()));
        fill(&mut new, &account, "CA2", || Ok("other".into())).expect("it is filled");
        assert_eq!(new.data.as_ref().map(|d| d["token"].0.as_slice()), Some(b"jwt".as_slice()));
        assert_eq!(judge(&secret(json!({ACCOUNT_NAME: "gone"})), &accounts, "CA"), Verdict::Delete);
        let stale = secret(json!({ACCOUNT_NAME: "bot", ACCOUNT_UID: "older"}));
        assert_eq!(judge(&stale, &accounts, "CA"), Verdict::Delete);
        assert_eq!(judge(&secret(json!({})), &accounts, "CA"), Verdict::Keep);
    }
}
