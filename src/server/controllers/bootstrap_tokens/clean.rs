//! Removes bootstrap tokens that expired. Each waits for its own moment.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio_util::sync::CancellationToken;

use super::super::kit::informer::Key;
use super::super::kit::{Context, Error, Next, Queue, ignore_not_found};
use super::{Expiry, NAMESPACE, expiry, secrets};
use crate::supervisor::TaskError;

const WORKERS: usize = 1;

/// Runs the controller that removes expired bootstrap tokens.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let secrets = secrets(&cx);
    let queue: Queue<Key> = Queue::new("token-cleaner");
    let adds = queue.clone();
    let _secrets = secrets.subscribe(move |change| {
        let key = Key::of(change.latest().as_ref());
        if change.new.is_some() && key.namespace == NAMESPACE {
            adds.add(key);
        }
    });
    secrets.synced().await;
    let reconcile = |key: Key| {
        let (secrets, client) = (Arc::clone(&secrets), cx.client.clone());
        async move {
            let Some(secret) = secrets.get(&key) else { return Ok(Next::Done) };
            match left(&secret, Timestamp::now()) {
                None => Ok(Next::Done),
                Some(left) if !left.is_zero() => Ok(Next::After(left)),
                Some(_) => {
                    remove(&Api::namespaced(client, NAMESPACE), &secret, &key.name).await.map(|()| Next::Done)
                }
            }
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// How long the token still holds; `None` for ever.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    match expiry(secret) {
        Expiry::Never => None,
        Expiry::At(end) => Some(Duration::try_from(end.duration_since(now)).unwrap_or_default()),
    }
}

async fn remove(api: &Api<Secret>, secret: &Secret, name: &str) -> Result<(), Error> {
    let preconditions = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let deleted = api.delete(name, &params).await.map(drop);
    ignore_not_found(deleted.map_err(Error::api("removing an expired bootstrap token")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::secret;
    use super::*;

    #[test]
    fn a_token_stays_until_its_expiration() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let of = |text: &str| left(&secret("abcdef", &[("expiration", text)]), now);
        assert_eq!(left(&secret("abcdef", &[]), now), None);
        assert_eq!(of(""), None);
        assert_eq!(of("2026-01-01T01:00:00Z"), Some(Duration::from_secs(3600)));
        assert_eq!(of("2026-01-01T02:00:00+01:00"), Some(Duration::from_secs(3600)));
        assert_eq!(of("2025-12-31T23:59:59Z"), Some(Duration::ZERO));
        assert_eq!(of("soon"), Some(Duration::ZERO));
    }
}
