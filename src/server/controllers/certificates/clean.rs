//! Removes requests that nobody needs any more: `pkg/controller/certificates/cleaner`. Each waits for its
//! own time; nothing is looked through.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::DeleteParams;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::kit::informer::Key;
use super::super::kit::{Context, Error, Next, Queue, ignore_not_found};
use super::{certificate, conditions};
use crate::supervisor::TaskError;

const WORKERS: usize = 2;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How long one that is signed, denied or failed stays.
const DECIDED: Duration = HOUR;
/// How long one stays that nobody decides.
const PENDING: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the controller that removes old requests.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let requests = cx.informers.get::<Request>();
    let queue: Queue<Key> = Queue::new("certificatesigningrequest-cleaner");
    let adds = queue.clone();
    let _requests = requests.subscribe(move |change| {
        if change.new.is_some() {
            adds.add(Key::of(change.latest().as_ref()));
        }
    });
    requests.synced().await;
    let reconcile = |key: Key| {
        let (requests, client) = (Arc::clone(&requests), cx.client.clone());
        async move {
            let Some(at) = requests.get(&key).and_then(|r| ends(&r)) else { return Ok(Next::Done) };
            if let Ok(left) = at.duration_since(SystemTime::now()).map(|d| d.max(Duration::from_secs(1))) {
                return Ok(Next::After(left));
            }
            let api: Api<Request> = Api::all(client);
            let deleted = api.delete(&key.name, &DeleteParams::default()).await.map(drop);
            ignore_not_found(deleted.map_err(Error::api("removing an old certificate request")))?;
            Ok(Next::Done)
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// When the request may go; `None` while somebody works on it.
fn ends(request: &Request) -> Option<SystemTime> {
    let decided = conditions(request).iter().filter_map(|c| {
        let final_one = match c.type_.as_str() {
            "Approved" => certificate(request).is_some(),
            "Denied" | "Failed" => true,
            _ => false,
        };
        final_one.then(|| c.last_update_time.as_ref().map(|t| time(t) + DECIDED)).flatten()
    });
    let pending = || request.metadata.creation_timestamp.as_ref().map(|t| time(t) + PENDING);
    let untouched = conditions(request).is_empty().then(pending).flatten();
    decided.chain(untouched).chain(certificate(request).and_then(expiry)).min()
}

fn time(time: &Time) -> SystemTime {
    SystemTime::from(time.0)
}

/// When the signed certificate ends.
fn expiry(pem: &[u8]) -> Option<SystemTime> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLIENT_USAGES, request};
    use super::super::{condition, with_condition};
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_request_stays_as_long_as_it_is_of_use() {
        let about = |request: &Request| {
            let left = ends(request)?.duration_since(SystemTime::now()).unwrap_or_default();
            Some((left.as_secs_f64() / 3600.0).round() as u64)
        };
        let open = request("a.b/c", "u", ("dev", "jane"), &[], &CLIENT_USAGES);
        assert_eq!(about(&open), Some(24));
        let mut approved = with_condition(&open, condition("Approved", "r", "m"));
        assert_eq!(about(&approved), None, "its signer has all the time");
        approved.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
        assert_eq!(about(&approved), Some(1));
        assert_eq!(about(&with_condition(&open, condition("Denied", "r", "m"))), Some(1));
        assert_eq!(about(&with_condition(&open, condition("Failed", "r", "m"))), Some(1));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = (SystemTime::now() - HOUR).into();
        let pem = params.self_signed(&key).unwrap().pem();
        approved.status.as_mut().unwrap().certificate = Some(ByteString(pem.into_bytes()));
        assert_eq!(about(&approved), Some(0), "it ended");
    }
}
