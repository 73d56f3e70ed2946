//! What all requests share.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use parking_lot::Mutex;

use super::body::{self, Body};
use super::discovery::Discovery;
use super::limit::Limits;
use super::metrics::Metrics;
use super::params::Params;
use super::proxy::NodeClient;
use super::usage::Readings;
use crate::api::Status;
use crate::server::admission::Shown;
use crate::server::auth::{Authenticator, Authorizer, Pki, User, authn};
use crate::server::objects::{Call, ListRefused, Objects, WriteOptions};
use crate::server::registry::Resource;
use crate::server::request_info::RequestInfo;
use crate::supervisor::Supervisor;

/// The API server without its listener.
pub struct Api {
    /// All objects.
    pub objects: Objects,
    /// Who requests are from.
    pub authenticator: Authenticator,
    /// What they may do.
    pub authorizer: Authorizer,
    /// Certificates and the key of tokens.
    pub pki: Pki,
    /// Tasks whose health `/readyz` shows.
    pub supervisor: Supervisor,
    pub(super) discovery: Discovery,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) nodes: NodeClient,
    pub(super) usage: Readings,
    /// How the API is reached from outside.
    pub(super) server_url: String,
}

impl Api {
    /// Puts the parts together. `server_url` is how clients reach the API.
    ///
    /// # Errors
    /// The kubelet client certificate cannot be used.
    pub fn new(
        objects: Objects,
        pki: Pki,
        authentication: authn::Options,
        supervisor: Supervisor,
        server_url: String,
    ) -> Result<Self, rustls::Error> {
        let reader = Arc::clone(&objects.cache) as Arc<dyn crate::server::reader::Reader>;
        Ok(Self {
            authenticator: Authenticator::new(pki.clone(), Arc::clone(&reader), authentication),
            authorizer: Authorizer::new(reader),
            discovery: Discovery::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
            nodes: NodeClient::new(&pki)?,
            usage: Readings::default(),
            objects,
            pki,
            supervisor,
            server_url,
        })
    }
}

/// A request for a resource, on its way to a handler.
pub(super) struct Cx {
    pub(super) parts: Parts,
    pub(super) info: RequestInfo,
    pub(super) params: Params,
    pub(super) user: User,
    /// Behind a lock only so that the request can be shared between threads.
    pub(super) body: Mutex<Body>,
    /// The entry of the path.
    pub(super) entry: Arc<Resource>,
    /// The entry that stores its objects: the same but for views.
    pub(super) stored: Arc<Resource>,
}

impl Cx {
    /// The namespace, for kinds that have one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.info.namespace.as_deref().filter(|_| self.entry.namespaced)
    }

    /// The object's name.
    ///
    /// # Errors
    /// 405 for a path without one.
    pub(super) fn name(&self) -> Result<&str, Status> {
        self.info.name.as_deref().ok_or_else(Status::method_not_allowed)
    }

    /// The request as a write of the stored kind.
    pub(super) fn call<'a>(&'a self, options: &'a WriteOptions) -> Call<'a> {
        Call {
            resource: &self.stored,
            entry: &self.entry,
            namespace: self.namespace(),
            user: &self.user,
            options,
            shown: Shown::Itself,
        }
    }

    /// Takes the request's body.
    ///
    /// # Errors
    /// 400 or 413.
    pub(super) async fn read_body(&self) -> Result<bytes::Bytes, Status> {
        let taken = std::mem::replace(&mut *self.body.lock(), body::empty());
        body::read(taken).await
    }

    /// The body's content type.
    pub(super) fn content_type(&self) -> &str {
        self.parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// A request that failed, on its way to the one place that encodes errors.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: Status,
    /// A page token with which the client can go on all the same.
    pub(super) continues: Option<String>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, continues: None }
    }
}

impl From<ListRefused> for Failure {
    fn from(refused: ListRefused) -> Self {
        Self { status: refused.status, continues: refused.continues }
    }
}

/// What handlers answer.
pub(super) type Answer = Result<http::Response<Body>, Failure>;

/// 201 for what is new.
pub(super) fn created_or_ok(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
