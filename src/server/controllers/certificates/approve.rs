//! Approves what nodes ask for to talk to the API, if who asks may: `pkg/controller/certificates/approver`.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;

use super::super::kit::informer::Key;
use super::super::kit::{Context, Error, Next, Queue, meta};
use super::{KUBELET_CLIENT, certificate, condition, has, kubelet, parsed, usages, with_condition};
use crate::supervisor::TaskError;

const WORKERS: usize = 5;

/// A sort of request that is approved without a human.
struct Recognizer {
    /// The node asks for itself, with the certificate it has.
    own: bool,
    /// What who asks must be allowed to create, below `certificatesigningrequests`.
    subresource: &'static str,
    message: &'static str,
}

/// In this order: a node that has a certificate needs less of a right.
const RECOGNIZERS: [Recognizer; 2] = [
    Recognizer {
        own: true,
        subresource: "selfnodeclient",
        message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    },
    Recognizer {
        own: false,
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    },
];

/// Runs the controller that approves the client certificates of nodes.
pub async fn run(cx: Context, stop: CancellationToken) -> Result<(), TaskError> {
    let requests = cx.informers.get::<Request>();
    let queue: Queue<Key> = Queue::new("certificatesigningrequest-approving");
    let adds = queue.clone();
    let _requests = requests.subscribe(move |change| {
        if change.new.as_deref().is_some_and(is_open) {
            adds.add(Key::of(change.latest().as_ref()));
        }
    });
    requests.synced().await;
    let reconcile = |key: Key| {
        let (requests, cx) = (Arc::clone(&requests), cx.clone());
        async move {
            match requests.get(&key).filter(|r| is_open(r)) {
                Some(request) => approve(&cx, &request).await,
                None => Ok(Next::Done),
            }
        }
    };
    queue.run(WORKERS, stop, reconcile).await;
    Ok(())
}

/// A node's request that nobody decided yet.
fn is_open(request: &Request) -> bool {
    request.spec.signer_name == KUBELET_CLIENT
        && certificate(request).is_none()
        && !has(request, "Approved")
        && !has(request, "Denied")
}

/// How the request may be approved; empty for one that a human has to look at.
fn recognized(request: &Request) -> Result<Vec<&'static Recognizer>, Error> {
    let asked = parsed(request)?;
    if kubelet::client(&asked, usages(request)).is_err() {
        return Ok(Vec::new());
    }
    let own = request.spec.username.as_deref() == Some(asked.common_name.as_str());
    Ok(RECOGNIZERS.iter().filter(|r| own || !r.own).collect())
}

async fn approve(cx: &Context, request: &Request) -> Result<Next, Error> {
    let recognized = recognized(request)?;
    for recognizer in &recognized {
        if !may(cx, request, recognizer.subresource).await? {
            continue;
        }
        let approved = with_condition(request, condition("Approved", "AutoApproved", recognizer.message));
        let api: Api<Request> = Api::all(cx.client.clone());
        let name = meta::name(&request.metadata);
        api.replace_subresource("approval", name, &PostParams::default(), &approved)
            .await
            .map_err(Error::api("approving a node's certificate"))?;
        return Ok(Next::Done);
    }
    if recognized.is_empty() {
        return Ok(Next::Done);
    }
    // The right may be granted later; upstream tries again as well.
    let name = meta::name(&request.metadata);
    Err(Error::Unfinished(format!("recognized csr {name:?} but subject access review was not approved")))
}

/// Whether who made the request may have it approved.
async fn may(cx: &Context, request: &Request, subresource: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(subresource.to_owned()),
                verb: Some("create".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(cx.client.clone());
    let answer = api
        .create(&PostParams::default(), &review)
        .await
        .map_err(Error::api("asking whether a certificate may be approved"))?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLIENT_USAGES, request};
    use super::*;

    #[test]
    fn a_node_renews_its_own_and_others_ask_for_new_nodes() {
        let of = |signer: &str, user: &str, subject, names: &[&str]| -> Vec<&str> {
            let request = request(signer, user, subject, names, &CLIENT_USAGES);
            if !is_open(&request) {
                return Vec::new();
            }
            recognized(&request).unwrap().iter().map(|r| r.subresource).collect()
        };
        let node = ("system:nodes", "system:node:a");
        assert_eq!(of(KUBELET_CLIENT, "system:node:a", node, &[]), ["selfnodeclient", "nodeclient"]);
        assert_eq!(of(KUBELET_CLIENT, "system:bootstrap:abcdef", node, &[]), ["nodeclient"]);
        assert_eq!(of(KUBELET_CLIENT, "system:node:a", ("system:masters", "system:node:a"), &[]), [""; 0]);
        assert_eq!(of(KUBELET_CLIENT, "system:node:a", node, &["a.b"]), [""; 0]);
        assert_eq!(of(super::super::KUBELET_SERVING, "system:node:a", node, &[]), [""; 0]);
    }

    #[test]
    fn what_is_decided_stays_so() {
        let open = request(KUBELET_CLIENT, "u", ("system:nodes", "system:node:a"), &[], &CLIENT_USAGES);
        assert!(is_open(&open));
        for kind in ["Approved", "Denied"] {
            assert!(!is_open(&with_condition(&open, condition(kind, "r", "m"))), "{kind}");
        }
    }
}
