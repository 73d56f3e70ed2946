//! The API inside this process: a tower service with the filters of the wire, without TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
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
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(chain::serve(&api, Sender::Known(user), request).await) })
    }
}
