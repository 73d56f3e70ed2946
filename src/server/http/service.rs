//! The API inside this process: a tower service with the filters of the wire, without TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tower::Service;

use super::api::Api;
use super::body::{Body, BoxError};
use super::chain::{self, Sender};
use crate::server::auth::User;

/// Serves the requests of one user. Clones are cheap.
#[derive(Clone)]
pub struct ApiService {
    api: Arc<Api>,
    user: User,
}

impl ApiService {
    /// The API for this user.
    pub fn new(api: Arc<Api>, user: User) -> Self {
        Self { api, user }
    }
}

impl<B> Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (api, user) = (Arc::clone(&self.api), self.user.clone());
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if let Some(program) = program(&user) {
            request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(program));
        }
        Box::pin(async move { Ok(chain::serve(&api, Sender::Known(user), request).await) })
    }
}

/// The program that does a user's work in a cluster of many processes: it names the manager of the fields it
/// sets, which people and tools look for.
fn program(user: &User) -> Option<&'static str> {
    match user.name.as_str() {
        "system:kube-scheduler" => Some("kube-scheduler"),
        "system:apiserver" => Some("kube-apiserver"),
        name if name.starts_with("system:node:") => Some("kubelet"),
        name if name.starts_with("system:serviceaccount:kube-system:") => Some("kube-controller-manager"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_this_process_have_the_names_of_upstreams_programs() {
        for (user, wanted) in [
            (User::controller("job-controller"), Some("kube-controller-manager")),
            (User::scheduler(), Some("kube-scheduler")),
            (User::node("a"), Some("kubelet")),
            (User::loopback(), Some("kube-apiserver")),
            (User::anonymous(), None),
        ] {
            assert_eq!(program(&user), wanted, "{}", user.name);
        }
    }
}
