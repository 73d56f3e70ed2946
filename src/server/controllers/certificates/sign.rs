//! Signs what is approved: `pkg/controller/certificates/signer`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use kube::Api;
use tokio_util::sync::CancellationToken;

use super::super::config::{CertificateOrder, CertificateSigner};
use super::super::kit::informer::Key;
use super::super::kit::{Context, Error, Next, Queue, patch};
use super::{
    CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, certificate, condition, has, kubelet, parsed,
    usages, with_condition,
};
use crate::api::csr::CertificateRequest;
use crate::supervisor::TaskError;

const WORKERS: usize = 5;

/// Runs the signers of Kubernetes' own names.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let Some(signer) = cx.config.certificates.clone() else {
        stop.cancelled().await;
        return Ok(());
    };
    let requests = cx.informers.get::<Request>();
    let queue: Queue<Key> = Queue::new("certificatesigningrequest-signing");
    let adds = queue.clone();
    let _requests = requests.subscribe(move |change| {
        if change.new.as_deref().is_some_and(is_due) {
            adds.add(Key::of(change.latest().as_ref()));
        }
    });
    requests.synced().await;
    let reconcile = |key: Key| {
        let (requests, cx, signer) = (Arc::clone(&requests), cx.clone(), Arc::clone(&signer));
        async move {
            let Some(request) = requests.get(&key).filter(|r| is_due(r)) else { return Ok(Next::Done) };
            let wanted = signed(&request, &signer)?;
            patch::write(&Api::all(cx.client), request.as_ref(), &wanted, Some("status")).await?;
            Ok(Next::Done)
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// Approved, for one of the signers here, and neither signed nor failed.
fn is_due(request: &Request) -> bool {
    let ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN];
    ours.contains(&request.spec.signer_name.as_str())
        && certificate(request).is_none()
        && has(request, "Approved")
        && !has(request, "Denied")
        && !has(request, "Failed")
}

/// The request with its certificate, or with the condition that says why there will be none.
fn signed(request: &Request, signer: &CertificateSigner) -> Result<Request, Error> {
    let asked = parsed(request)?;
    if let Err(why) = check(&request.spec.signer_name, &asked, usages(request)) {
        return Ok(with_condition(request, condition("Failed", "SignerValidationFailure", &why)));
    }
    let seconds = request.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok());
    let order = CertificateOrder {
        // Only what servers show is signed by another CA than what clients show.
        serving: matches!(request.spec.signer_name.as_str(), KUBELET_SERVING | LEGACY_UNKNOWN),
        request: asked,
        usages: usages(request).to_vec(),
        life: seconds.map(Duration::from_secs),
    };
    let pem = signer(&order).map_err(Error::Invalid)?;
    let mut wanted = request.clone();
    wanted.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
    Ok(wanted)
}

/// Whether the signer of this name grants such a request.
fn check(signer: &str, asked: &CertificateRequest, usages: &[String]) -> Result<(), String> {
    match signer {
        KUBELET_CLIENT => kubelet::client(asked, usages).map_err(|e| e.to_string()),
        KUBELET_SERVING => kubelet::serving(asked, usages).map_err(|e| e.to_string()),
        CLIENT => client_usages(usages),
        _ => Ok(()),
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|u| !known.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|u| u == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLIENT_USAGES, SERVER_USAGES, request};
    use super::*;

    fn signer() -> CertificateSigner {
        Arc::new(|order: &CertificateOrder| Ok(format!("{} {:?}", order.serving, order.life)))
    }

    fn outcome(request: &Request) -> String {
        let done = signed(request, &signer()).unwrap();
        match certificate(&done) {
            Some(pem) => String::from_utf8_lossy(pem).into_owned(),
            None => super::super::conditions(&done).last().unwrap().message.clone().unwrap(),
        }
    }

    #[test]
    fn each_signer_has_its_ca_and_its_rules() {
        let jane = ("dev", "jane");
        let node = ("system:nodes", "system:node:a");
        for (signer, subject, names, usages, expected) in [
            (CLIENT, jane, &[][..], &CLIENT_USAGES[..], "false None"),
            (CLIENT, jane, &[], &["server auth"], "invalid usage for client certificate: server auth"),
            (
                CLIENT,
                jane,
                &[],
                &["digital signature"],
                "missing required usage for client certificate: client auth",
            ),
            (KUBELET_CLIENT, node, &[], &CLIENT_USAGES, "false None"),
            (KUBELET_CLIENT, jane, &[], &CLIENT_USAGES, "subject organization is not system:nodes"),
            (KUBELET_SERVING, node, &["a.b"], &SERVER_USAGES, "true None"),
            (KUBELET_SERVING, node, &[], &SERVER_USAGES, "DNS or IP subjectAltName is required"),
            (LEGACY_UNKNOWN, jane, &[], &["any"], "true None"),
        ] {
            assert_eq!(outcome(&request(signer, "u", subject, names, usages)), expected, "{signer}");
        }
        let mut short = request(CLIENT, "u", jane, &[], &CLIENT_USAGES);
        short.spec.expiration_seconds = Some(900);
        assert_eq!(outcome(&short), "false Some(900s)");
    }

    #[test]
    fn only_what_is_approved_and_ours_is_signed() {
        let open = request(CLIENT, "u", ("dev", "jane"), &[], &CLIENT_USAGES);
        assert!(!is_due(&open));
        let approved = with_condition(&open, condition("Approved", "r", "m"));
        assert!(is_due(&approved));
        assert!(!is_due(&with_condition(&approved, condition("Failed", "r", "m"))));
        let mut other = approved.clone();
        other.spec.signer_name = "example.com/mine".to_owned();
        assert!(!is_due(&other));
        let mut done = approved;
        done.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
        assert!(!is_due(&done));
    }
}
