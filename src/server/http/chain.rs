//! The one filter chain: panic guard, request info, authentication, impersonation, limits of requests
//! in flight, authorisation, handler, the encoding of errors, and the count in `/metrics`. Audit belongs
//! between impersonation and the limits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use http::{HeaderValue, Request, Response};
use rustls::pki_types::CertificateDer;

use super::api::{Api, Failure};
use super::body::Body;
use super::{render, route};
use crate::api::Status;
use crate::server::auth::{User, authn, impersonation};
use crate::server::request_info::RequestInfo;

/// Who sends a request, as far as is known before authentication.
pub(super) enum Sender {
    /// A connection, with the certificates the client showed.
    Peer(Option<Arc<Vec<CertificateDer<'static>>>>),
    /// This process, as this user.
    Known(User),
}

/// Answers a request. Never fails: errors are answers.
pub(super) async fn serve(api: &Api, sender: Sender, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let info = RequestInfo::parse(request.method(), request.uri());
    let headers = request.headers().clone();
    let dry_run =
        request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All"));
    let outcome = AssertUnwindSafe(filtered(api, sender, request, info.clone())).catch_unwind().await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => render::failure(&failure, &headers),
        Err(panic) => {
            let text = panic_text(&*panic);
            tracing::error!(path = %info.path, verb = %info.verb, panic = %text, "a request handler panicked");
            let status =
                Status::internal(format!("the server panicked while it handled the request: {text}"));
            render::failure(&Failure::from(status), &headers)
        }
    };
    api.metrics.count(&info, dry_run, response.status().as_u16(), started.elapsed());
    let headers = response.headers_mut();
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-cache, private"));
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert("audit-id", id);
    }
    response
}

async fn filtered(
    api: &Api,
    sender: Sender,
    request: Request<Body>,
    info: RequestInfo,
) -> Result<Response<Body>, Failure> {
    let (mut parts, body) = request.into_parts();
    let user = match sender {
        Sender::Known(user) => user,
        Sender::Peer(certificates) => {
            let peer = certificates.as_deref().map(Vec::as_slice);
            let user = api.authenticator.authenticate(&parts.headers, &parts.uri, peer).await?;
            let user = impersonation::apply(&api.authorizer, &parts.headers, user)?;
            authn::strip(&mut parts.headers);
            impersonation::strip(&mut parts.headers);
            user
        }
    };
    let _slot = api.limits.enter(&user, &info).await?;
    api.authorizer.authorize(&user, &info)?;
    route::handle(api, parts, body, info, user).await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}
