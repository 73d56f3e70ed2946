//! Signs the ConfigMap `cluster-info` of kube-public, if there is one, with every token that may: who
//! knows a token can trust what it reads there (RFC 7515, detached).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::kit::informer::Key;
use super::super::kit::{Context, Error, Next, Queue, meta, patch};
use super::{Expiry, NAMESPACE, PREFIX, datum, expiry, secrets};
use crate::supervisor::TaskError;

const PUBLIC: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
const WORKERS: usize = 1;

/// Runs the controller that signs `cluster-info`.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let secrets = secrets(&cx);
    let maps = cx.informers.selected::<ConfigMap>(&format!("metadata.name={NAME}"));
    let queue: Queue<Key> = Queue::new("bootstrap-signer");
    let (a, b) = (queue.clone(), queue.clone());
    let _secrets = secrets.subscribe(move |_| a.add(Key::new(PUBLIC, NAME)));
    let _maps = maps.subscribe(move |change| {
        if meta::namespace(&change.latest().metadata) == PUBLIC {
            b.add(Key::new(PUBLIC, NAME));
        }
    });
    secrets.synced().await;
    maps.synced().await;
    let reconcile = |key: Key| {
        let (secrets, maps, client) = (Arc::clone(&secrets), Arc::clone(&maps), cx.client.clone());
        async move {
            let Some(map) = maps.get(&key) else { return Ok(Next::Done) };
            let wanted = signed(&map, &tokens(&secrets.list(), Timestamp::now()))?;
            patch::write(&Api::namespaced(client, PUBLIC), map.as_ref(), &wanted, None).await?;
            Ok(Next::Done)
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// Ids and secrets of the tokens that sign.
fn tokens(secrets: &[Arc<Secret>], now: Timestamp) -> BTreeMap<String, String> {
    let signs = |secret: &&Arc<Secret>| {
        let name = meta::name(&secret.metadata).strip_prefix(PREFIX);
        meta::namespace(&secret.metadata) == NAMESPACE
            && name == Some(datum(secret, "token-id"))
            && !datum(secret, "token-secret").is_empty()
            && datum(secret, "usage-bootstrap-signing") == "true"
            && match expiry(secret) {
                Expiry::Never => true,
                Expiry::At(end) => end > now,
            }
    };
    let pair = |s: &Arc<Secret>| (datum(s, "token-id").to_owned(), datum(s, "token-secret").to_owned());
    secrets.iter().filter(signs).map(pair).collect()
}

/// The map with a signature of each token and no others.
fn signed(map: &ConfigMap, tokens: &BTreeMap<String, String>) -> Result<ConfigMap, Error> {
    let mut wanted = map.clone();
    let Some(content) = map.data.as_ref().and_then(|data| data.get(CONTENT)) else { return Ok(wanted) };
    let data = wanted.data.get_or_insert_default();
    data.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, secret) in tokens {
        data.insert(format!("{SIGNATURE}{id}"), signature(content, id, secret)?);
    }
    Ok(wanted)
}

fn signature(content: &str, id: &str, secret: &str) -> Result<String, Error> {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)
        .map_err(|e| Error::Invalid(format!("cluster-info cannot be signed with token {id}: {e}")))?;
    Ok(format!("{header}..{signature}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::secret;
    use super::*;

    fn map(data: &[(&str, &str)]) -> ConfigMap {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[test]
    fn a_signature_is_a_detached_jws() {
        let tokens = BTreeMap::from([("abcdef".to_owned(), "0123456789abcdef".to_owned())]);
        let done =
            signed(&map(&[(CONTENT, "x"), ("jws-kubeconfig-gone00", "y"), ("other", "z")]), &tokens).unwrap();
        let data = done.data.clone().unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig", "other"]);
        let (header, signature) = data["jws-kubeconfig-abcdef"].split_once("..").unwrap();
        let header_text = URL_SAFE_NO_PAD.decode(header).unwrap();
        assert_eq!(header_text, br#"{"alg":"HS256","kid":"abcdef"}"#);
        let key = jsonwebtoken::DecodingKey::from_secret(b"0123456789abcdef");
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode("x"));
        let good =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert!(good);
        assert_eq!(signed(&done, &tokens).unwrap(), done, "signing again changes nothing");
        let empty = map(&[("other", "z")]);
        assert_eq!(signed(&empty, &tokens).unwrap(), empty);
    }

    #[test]
    fn only_tokens_that_may_sign_do() {
        let good = [("token-id", "abcdef"), ("token-secret", "s"), ("usage-bootstrap-signing", "true")];
        let with = |key: &'static str, value: &'static str| {
            let mut data = good.to_vec();
            data.retain(|(k, _)| *k != key);
            data.push((key, value));
            let found = tokens(&[Arc::new(secret("abcdef", &data))], Timestamp::now());
            found.contains_key("abcdef")
        };
        assert!(with("description", "x"));
        assert!(!with("usage-bootstrap-signing", "false"));
        assert!(!with("token-id", "fedcba"));
        assert!(!with("expiration", "2020-01-01T00:00:00Z"));
    }
}
