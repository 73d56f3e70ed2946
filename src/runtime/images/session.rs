//! HTTP with one endpoint: who asks, what its refusals mean, and when to ask again.
//!
//! The protocol is that of OCI's distribution-spec v1.1; tokens are those of Docker's registry
//! ("Token Authentication Specification") and OAuth 2 refresh tokens. Redirects are followed, without
//! the `Authorization` header when they lead to another host.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::error::{Error, chain, known};
use super::registries::{Credentials, Endpoint, Patience, RegistriesConfig};

/// Manifests, configurations and answers about errors are small; more is no such thing.
const MAX_DOCUMENT: usize = 8 << 20;
/// A registry that wants to be left alone longer than this is given up.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// So often a request gets another token: with several requests at a time, one may have expired again.
const RENEWALS: u32 = 5;

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: Error,
    /// Whether it may go better later, and when at the earliest if the registry has said so.
    pub again: Option<Option<Duration>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: None }
    }
}

/// An endpoint that is being talked to.
pub(super) struct Session {
    http: Client,
    pub endpoint: Endpoint,
    patience: Patience,
    /// The image as the user called it, for errors.
    name: String,
    access: tokio::sync::Mutex<Access>,
}

/// The `Authorization` header in use, and how often it was changed.
#[derive(Clone, Default)]
struct Access {
    header: Option<HeaderValue>,
    changes: u32,
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// An error as registries tell it.
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Session {
    pub(super) fn new(registries: &RegistriesConfig, endpoint: Endpoint, name: &str) -> Result<Self, Error> {
        let http = registries.client(&endpoint)?;
        let (patience, name) = (registries.patience(), name.to_owned());
        Ok(Self { http, endpoint, patience, name, access: tokio::sync::Mutex::default() })
    }

    /// A small document, such as `manifests/latest`. What may go better later is tried again, with pauses;
    /// one is not waited for if there is another.
    pub(super) async fn document(&self, path: &str, accept: &[&str]) -> Result<Vec<u8>, Error> {
        let attempts = if self.endpoint.is_last { self.patience.attempts } else { 1 };
        let mut attempt = 1;
        loop {
            match self.document_once(path, accept).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) if attempt >= attempts => return Err(failure.error),
                Err(failure) => self.pause(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// Waits after the `attempt`th failure in a row; the error, if waiting is of no use.
    pub(super) async fn pause(&self, failure: Failure, attempt: u32) -> Result<(), Error> {
        let Some(told) = failure.again else { return Err(failure.error) };
        if told.is_some_and(|told| told > MAX_PAUSE) {
            return Err(failure.error);
        }
        let own = self.patience.pause.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let pause = told.unwrap_or(own).min(MAX_PAUSE);
        tracing::info!(error = %failure.error, ?pause, "a registry is asked again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    pub(super) fn attempts(&self) -> u32 {
        self.patience.attempts
    }

    async fn document_once(&self, path: &str, accept: &[&str]) -> Result<Vec<u8>, Failure> {
        let url = self.url(path);
        let response = self.get(&url, &accept.join(", "), 0).await?;
        let body = self.body(response).await?;
        body.ok_or_else(|| Error::invalid(&self.name, format!("{path} is larger than 8 MiB")).into())
    }

    /// A blob from byte `from` on. The registry may send it from its beginning all the same: see
    /// the answer's status.
    pub(super) async fn blob(&self, digest: &str, from: u64) -> Result<Response, Failure> {
        self.get(&self.url(&format!("blobs/{digest}")), "*/*", from).await
    }

    /// A blob from elsewhere, as layers that must not be distributed have them: without credentials.
    pub(super) async fn foreign(&self, url: &str, from: u64) -> Result<Response, Failure> {
        self.checked(self.send(url, "*/*", from, None).await?).await
    }

    fn url(&self, path: &str) -> String {
        let Endpoint { base, repository, namespace, .. } = &self.endpoint;
        let query = match namespace {
            Some(namespace) => form_urlencoded::Serializer::for_suffix("?".to_owned(), 1)
                .append_pair("ns", namespace)
                .finish(),
            None => String::new(),
        };
        format!("{base}/{repository}/{path}{query}")
    }

    async fn get(&self, url: &str, accept: &str, from: u64) -> Result<Response, Failure> {
        let mut access = self.access.lock().await.clone();
        let mut renewed = 0;
        loop {
            let response = self.send(url, accept, from, access.header.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || renewed == RENEWALS {
                return self.checked(response).await;
            }
            // No right yet, or a token that has expired meanwhile.
            let headers = response.headers().get_all(WWW_AUTHENTICATE);
            let challenges = challenge::parse(headers.iter().filter_map(|h| h.to_str().ok()));
            drop(response);
            access = self.renew(access, &challenges).await?;
            renewed += 1;
        }
    }

    async fn send(
        &self,
        url: &str,
        accept: &str,
        from: u64,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.get(url).header(ACCEPT, accept);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(|e| self.broken(&e))
    }

    /// Gets the right to read, unless another request just did.
    async fn renew(&self, used: Access, challenges: &[Challenge]) -> Result<Access, Failure> {
        let mut access = self.access.lock().await;
        if access.changes != used.changes {
            return Ok(access.clone());
        }
        let bearer = challenges.iter().find(|c| c.scheme == "bearer" && c.get("realm").is_some());
        let text = match (bearer, &self.endpoint.credentials) {
            (Some(_), Credentials::Bearer(token)) => format!("Bearer {token}"),
            (Some(challenge), _) => format!("Bearer {}", self.token(challenge).await?),
            (None, Credentials::Basic(user, password)) if challenges.iter().any(|c| c.scheme == "basic") => {
                basic(user, password)
            }
            _ => return Err(self.unauthorized("401 Unauthorized".to_owned()).into()),
        };
        let mut header = HeaderValue::from_str(&text)
            .map_err(|_| self.unauthorized("its token cannot be sent".to_owned()))?;
        header.set_sensitive(true);
        if used.header.as_ref() == Some(&header) {
            // The same again will not be better.
            return Err(self.unauthorized("401 Unauthorized".to_owned()).into());
        }
        *access = Access { header: Some(header), changes: access.changes + 1 };
        Ok(access.clone())
    }

    /// The question for a token for reading the repository, to the server that the registry names.
    fn token_request(&self, challenge: &Challenge) -> RequestBuilder {
        let realm = challenge.get("realm").unwrap_or_default();
        let scope = format!("repository:{}:pull", self.endpoint.repository);
        let scope = challenge.get("scope").unwrap_or(&scope);
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(service) = challenge.get("service") {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
        match &self.endpoint.credentials {
            Credentials::Identity(token) => {
                query.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
                query.append_pair("client_id", "kedge");
                let form = "application/x-www-form-urlencoded";
                self.http.post(realm).header("Content-Type", form).body(query.finish())
            }
            credentials => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let request = self.http.get(format!("{realm}{separator}{}", query.finish()));
                match credentials {
                    Credentials::Basic(user, password) => {
                        request.header(AUTHORIZATION, basic(user, password))
                    }
                    _ => request,
                }
            }
        }
    }

    async fn token(&self, challenge: &Challenge) -> Result<String, Failure> {
        let realm = challenge.get("realm").unwrap_or_default();
        let response = self.token_request(challenge).send().await.map_err(|e| self.broken(&e))?;
        let response = match self.checked(response).await {
            // It is the token server that is not there, not the image.
            Err(Failure { error: Error::NotFound { .. }, .. }) => {
                return Err(self.unauthorized(format!("{realm}: 404 Not Found")).into());
            }
            checked => checked?,
        };
        let body = self.body(response).await?.unwrap_or_default();
        let token: Token = serde_json::from_slice(&body)
            .map_err(|e| self.unauthorized(format!("{realm} gave no token: {e}")))?;
        match [token.token, token.access_token].into_iter().find(|t| !t.is_empty()) {
            Some(token) => Ok(token),
            None => Err(self.unauthorized(format!("{realm} gave no token")).into()),
        }
    }

    /// The answer, if it is one.
    async fn checked(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let pause = response.headers().get(RETRY_AFTER).and_then(|v| retry_after(v.to_str().ok()?));
        let body = self.body(response).await.ok().flatten().unwrap_or_default();
        let reasons = serde_json::from_slice::<Refusal>(&body).map(|r| r.errors).unwrap_or_default();
        let said: Vec<String> =
            reasons.into_iter().map(|r| format!("{} {}", r.code.to_lowercase(), r.message)).collect();
        let said =
            if said.is_empty() { status.to_string() } else { format!("{status}: {}", said.join(", ")) };
        let (name, registry) = (self.name.clone(), self.endpoint.host.clone());
        Err(match status.as_u16() {
            401 | 403 => self.unauthorized(said).into(),
            404 => Error::NotFound { name, registry }.into(),
            408 | 429 | 500 => Failure { error: self.failed(said), again: Some(pause) },
            502..=504 => {
                Failure { error: Error::Unavailable { name, registry, reason: said }, again: Some(pause) }
            }
            _ => self.failed(said).into(),
        })
    }

    /// A whole body; `None` if it is too large.
    async fn body(&self, mut response: Response) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_DOCUMENT {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    /// The next bytes of a body.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        response.chunk().await.map_err(|e| self.broken(&e))
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let reason = match error.is_timeout() && !error.is_connect() {
            true => format!("nothing came for {} seconds", self.patience.silence.as_secs()),
            false => known(chain(error)),
        };
        // What refuses connections or has another certificate will do so in a second, too.
        Failure {
            error: self.failed(reason),
            again: (!error.is_connect() && !error.is_builder()).then_some(None),
        }
    }

    pub(super) fn failed(&self, reason: String) -> Error {
        Error::Registry { name: self.name.clone(), registry: self.endpoint.host.clone(), reason }
    }

    fn unauthorized(&self, reason: String) -> Error {
        Error::Unauthorized { name: self.name.clone(), registry: self.endpoint.host.clone(), reason }
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// RFC 9110 `Retry-After`: seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
