//! Bootstrap tokens: removed when they expire, and used to sign what who joins reads before it can trust
//! anything. Follows `pkg/controller/bootstrap`.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

mod clean;
mod sign;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::kit::{Context, Informer};
use crate::api::meta::parse_time;

pub use clean::run as run_cleaner;
pub use sign::run as run_signer;

/// Where the tokens' Secrets lie.
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";

/// The Secrets of bootstrap tokens; of those only the ones in [`NAMESPACE`] count.
fn secrets(cx: &Context) -> Arc<Informer<Secret>> {
    cx.informers.selected::<Secret>(&format!("type={TYPE}"))
}

fn datum<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice()).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    At(Timestamp),
}

/// What cannot be read is over.
fn expiry(secret: &Secret) -> Expiry {
    match datum(secret, "expiration") {
        "" => Expiry::Never,
        text => Expiry::At(parse_time(text).unwrap_or(Timestamp::MIN)),
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    /// The Secret of a token with these data.
    pub fn secret(id: &str, data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        Secret {
            metadata: ObjectMeta {
                name: Some(format!("{PREFIX}{id}")),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        }
    }
}
