//! HTTPS to webhooks.
//!
//! An [`Endpoint`] is where a webhook is: a URL, or a Service whose endpoints are found when it is called
//! ([`target`]). Its connections are used again while they are fresh ([`pool`]); nobody is trusted but whom the
//! configuration's `caBundle` names, or the system's authorities without one ([`tls`]). Failures are told in the
//! words of upstream's HTTP client ([`error`]), which people search for.

mod connect;
mod error;
mod pool;
mod target;
mod tls;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::Instant;

use crate::server::reader::Reader;
pub(super) use error::Error;
use pool::Pool;
use target::Target;
pub(super) use tls::SystemRoots;

/// What webhooks are told who asks: some look at it.
const AGENT: &str = "kube-apiserver-admission";
/// An answer may have this many bytes.
const MAX_ANSWER: usize = 8 << 20;

/// Where a webhook is.
pub(in crate::server::admission::webhook) struct Endpoint {
    config: Value,
    target: Result<Target, String>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    pool: Arc<Pool>,
}

impl Endpoint {
    /// From a `WebhookClientConfig`.
    pub(in crate::server::admission::webhook) fn of(config: &Value) -> Self {
        Self {
            target: Target::of(config),
            tls: OnceLock::new(),
            pool: Arc::default(),
            config: config.clone(),
        }
    }

    /// Whether it was made of this configuration.
    pub(in crate::server::admission::webhook) fn is_of(&self, config: &Value) -> bool {
        self.config == *config
    }

    /// Posts a review and reads the answer, within so many seconds.
    ///
    /// # Errors
    /// The webhook cannot be reached, takes too long, or does not answer 200.
    pub(in crate::server::admission::webhook) async fn post(
        &self,
        reader: &dyn Reader,
        roots: &SystemRoots,
        body: Bytes,
        seconds: u64,
    ) -> Result<Bytes, Error> {
        let target = self.target.as_ref().map_err(|why| Error::Client(why.clone()))?;
        let tls = self.tls.get_or_init(|| tls::config(&self.authorities()?, roots));
        let tls = tls.as_ref().map_err(|why| Error::Client(why.clone()))?;
        let query = format!("timeout={seconds}s");
        let posted = |why: String| Error::Post { url: format!("{}?{query}", target.url), why };
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let exchange = async {
            let mut reuse = true;
            loop {
                let request = request(target, &query, body.clone()).map_err(posted)?;
                match self.exchange(target, reader, tls, request, reuse).await {
                    Ok(answer) => return Ok(answer),
                    // The other side closes a connection that was idle whenever it likes.
                    Err(failed) if failed.stale => reuse = false,
                    Err(failed) => return Err(posted(failed.why)),
                }
            }
        };
        let answered = tokio::time::timeout_at(deadline, exchange).await;
        let (status, answer) = answered.unwrap_or_else(|_| Err(posted(error::DEADLINE.to_owned())))?;
        match error::of_status(status, &answer) {
            Some(why) => Err(Error::Answer(why)),
            None => Ok(answer),
        }
    }

    fn authorities(&self) -> Result<Vec<u8>, String> {
        let text = self.config["caBundle"].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| format!("illegal caBundle: {e}"))
    }

    async fn exchange(
        &self,
        target: &Target,
        reader: &dyn Reader,
        tls: &Arc<ClientConfig>,
        request: Request<Full<Bytes>>,
        reuse: bool,
    ) -> Result<(http::StatusCode, Bytes), Failed> {
        let fresh = |why: String| Failed { why, stale: false };
        let addresses = target.addresses(reader).await.map_err(fresh)?;
        let pooled = if reuse { self.pool.take(&addresses) } else { None };
        let old = pooled.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => connect::connect(&addresses, &target.server_name, tls).await.map_err(fresh)?,
        };
        let failed = |e: hyper::Error| Failed { why: error::of_exchange(&e), stale: old };
        connection.sender.ready().await.map_err(failed)?;
        let response = connection.sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let answer = read(response).await.map_err(fresh)?;
        self.pool.put(connection);
        Ok((status, answer))
    }
}

/// A request that failed on one connection.
struct Failed {
    why: String,
    /// The connection had been used before: a new one may do better.
    stale: bool,
}

fn request(target: &Target, query: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let host = HeaderValue::from_str(&target.authority).map_err(|e| e.to_string())?;
    Request::builder()
        .method(Method::POST)
        .uri(format!("{}?{query}", target.path))
        .header(HOST, host)
        .header(ACCEPT, HeaderValue::from_static("application/json, */*"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(AGENT))
        .body(Full::new(body))
        .map_err(|e| e.to_string())
}

async fn read(response: Response<Incoming>) -> Result<Bytes, String> {
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| error::of_exchange(&e))?;
        answer.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        if answer.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    Ok(answer.freeze())
}
