//! Streams through the API server: logs, exec, attach, port-forward, and HTTP proxies.
//!
//! What a request asks for is found out from the objects in the cache ([`target`]); then its bytes go
//! to the node API or the pod, and back, unseen. A protocol upgrade (WebSocket, SPDY) is passed on as
//! it is: both ends speak to each other.

mod client;
mod log_options;
mod log_socket;
mod options;
mod rewrite;
mod target;
mod upgrade;

use std::io;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;

use super::api::{Answer, Api, Cx};
use super::body::{self, Body};
use crate::api::Status;
use crate::api::status::Reason;
use crate::server::admission::Shown;
use crate::server::objects::{Call, WriteOptions};
pub(super) use client::NodeClient;
use rewrite::Links;
use target::{Scheme, Target};

/// Headers that concern one connection only.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// So much of a node's refusal is passed on.
const MAX_REFUSAL: usize = 64 << 10;

/// `pods/log`.
pub(super) async fn log(api: &Api, mut cx: Cx) -> Answer {
    log_options::check(&cx.params, cx.name()?)?;
    let pod = target::pod(api, &cx)?;
    let container = target::container(&pod, cx.params.get("container"))?;
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let path = format!("/containerLogs/{}/{}/{container}", cx.namespace().unwrap_or_default(), cx.name()?);
    let mut target = target::node_of(api, &pod)?.path(path, cx.parts.uri.query());
    if cx.params.flag("insecureSkipTLSVerifyBackend") {
        target.scheme = Scheme::UnverifiedNode;
    }
    let asked = cx.parts.headers.clone();
    let socket = if log_socket::is_asked(&asked) { upgrade::take(&mut cx.parts) } else { None };
    if socket.is_some() {
        // The node is asked for the plain text.
        cx.parts.headers.remove(http::header::UPGRADE);
    }
    let response = refusal_as_status(send(api, cx, target, undialed).await?).await?;
    match socket {
        Some(client) => log_socket::serve(client, &asked, response.into_body()),
        None => Ok(response),
    }
}

/// A node refuses in plain text; clients read a Status. Codes and texts as in apiserver's
/// `GenericHttpResponseChecker`.
async fn refusal_as_status(response: Response<Body>) -> Answer {
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MAX_REFUSAL
        && let Some(Ok(frame)) = body.frame().await
    {
        text.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let status = match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::NOT_FOUND => Status::new(404, Reason::NotFound, text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(format!("the node refused the API server ({code}): {text}"))
        }
        code if code.is_client_error() => Status::bad_request(text),
        _ => Status::service_unavailable(text),
    };
    Err(status.into())
}

/// `pods/exec`, `pods/attach` and `pods/portforward`.
pub(super) async fn stream(api: &Api, cx: Cx) -> Answer {
    let subresource = cx.info.subresource.clone().unwrap_or_default();
    admit(api, &cx, &subresource).await?;
    let pod = target::pod(api, &cx)?;
    let (namespace, name) = (cx.namespace().unwrap_or_default(), cx.name()?);
    let (path, query) = if subresource == "portforward" {
        (format!("/portForward/{namespace}/{name}"), cx.parts.uri.query().map(str::to_owned))
    } else {
        let container = target::container(&pod, cx.params.get("container"))?;
        (format!("/{subresource}/{namespace}/{name}/{container}"), Some(target::stream_query(&cx.params)))
    };
    target::check_running(&pod, &subresource)?;
    let target = target::node_of(api, &pod)?.path(path, query.as_deref());
    send(api, cx, target, undialed).await
}

/// Asks admission about a connection.
async fn admit(api: &Api, cx: &Cx, subresource: &str) -> Result<(), Status> {
    let kind = cx.entry.subresource(subresource).and_then(|s| s.kind.clone());
    let kind = kind.ok_or_else(Status::no_such_path)?;
    let mut shown = options::of(cx, subresource, &kind);
    let write = WriteOptions::default();
    let call = Call { shown: Shown::Whole(&kind), ..cx.call(&write) };
    // Warnings have no place in the answer of a stream.
    api.objects.connect(&call, cx.name()?, subresource, &mut shown).await.map(drop)
}

/// `nodes/proxy`, `pods/proxy` and `services/proxy`.
pub(super) async fn proxy(api: &Api, mut cx: Cx) -> Answer {
    let plain = cx.info.rest.is_none() && !cx.parts.uri.path().ends_with('/');
    if plain && matches!(cx.parts.method, Method::GET | Method::HEAD) && !upgrade::is_asked(&cx.parts.headers)
    {
        return Ok(to_slash(&cx.parts.uri));
    }
    admit(api, &cx, "proxy").await?;
    let target = match &*cx.entry.plural {
        "nodes" => target::node(api, cx.name()?)?,
        "pods" => target::pod_address(api, &cx)?,
        _ => target::service_address(api, &cx)?,
    };
    let path = format!("/{}", cx.info.rest.as_deref().unwrap_or_default());
    let asked = cx.parts.uri.path();
    let prefix = asked.strip_suffix(&path).unwrap_or(asked).to_owned();
    let forwarded = HeaderValue::from_str(&format!("{prefix}{path}"));
    if let Ok(uri) = forwarded {
        cx.parts.headers.insert("x-forwarded-uri", uri);
    }
    let hosts = [target.authority(), host(&cx.parts).unwrap_or_default()];
    let target = target.path(path, cx.parts.uri.query());
    let unreachable = |e| Status::service_unavailable(format!("error trying to reach service: {e}"));
    let unreachable = if upgrade::is_asked(&cx.parts.headers) { undialed } else { unreachable };
    let (mut parts, body) = send(api, cx, target, unreachable).await?.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(parts, body));
    }
    let body = Links { prefix, hosts }.answer(&mut parts.headers, body);
    Ok(Response::from_parts(parts, body))
}

/// The host the client called.
fn host(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(HOST).and_then(|h| h.to_str().ok());
    header.or_else(|| parts.uri.authority().map(|a| a.as_str())).map(str::to_owned)
}

/// Relative links of a page only work below a path that ends in a slash.
fn to_slash(uri: &Uri) -> Response<Body> {
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The text of a path of a node's API.
///
/// # Errors
/// The node is not known, cannot be reached, or refuses.
pub(super) async fn ask_node(api: &Api, node: &str, path: &str) -> Result<String, Status> {
    let target = target::node(api, node)?.path(path.to_owned(), None);
    let request = Request::get(path).header(HOST, target.authority()).body(body::empty());
    let request = request.map_err(Status::internal)?;
    let response = api.nodes.send(&target, request).await.map_err(Status::internal)?;
    if !response.status().is_success() {
        return Err(Status::internal(format!("{path} of node {node}: {}", response.status())));
    }
    let bytes = response.into_body().collect().await.map_err(Status::internal)?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn undialed(error: io::Error) -> Status {
    Status::internal(format!("error dialing backend: {error}"))
}

/// Passes a request on to a target, and the answer back.
async fn send(api: &Api, cx: Cx, target: Target, unreachable: fn(io::Error) -> Status) -> Answer {
    let Cx { mut parts, body, .. } = cx;
    let host = host(&parts);
    let upgraded = upgrade::take(&mut parts);
    let mut request = Request::new(body.into_inner());
    *request.method_mut() = parts.method;
    *request.uri_mut() =
        target.uri.parse().map_err(|e| Status::bad_request(format!("{}: {e}", target.uri)))?;
    *request.headers_mut() = passed_on(&parts.headers, upgraded.is_some());
    // A pod is told what its client called; a node API has no use for that.
    let called = host.filter(|_| matches!(target.scheme, Scheme::Http | Scheme::Https));
    if let Ok(host) = HeaderValue::from_str(&called.unwrap_or_else(|| target.authority())) {
        request.headers_mut().insert(HOST, host);
    }
    let mut response = api.nodes.send(&target, request).await.map_err(unreachable)?;
    match upgraded {
        Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let backend = hyper::upgrade::on(&mut response);
            upgrade::join(client, backend);
            let (parts, _) = response.into_parts();
            Ok(Response::from_parts(parts, body::empty()))
        }
        _ => {
            let (mut parts, body) = response.into_parts();
            parts.headers = passed_on(&parts.headers, false);
            Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
        }
    }
}

/// The headers of a message that are not about its connection. The caller's credentials are for this
/// server alone.
fn passed_on(headers: &HeaderMap, upgrade: bool) -> HeaderMap {
    let mut kept = headers.clone();
    kept.remove(AUTHORIZATION);
    for name in HOP_BY_HOP.map(HeaderName::from_static) {
        if !(upgrade && matches!(name.as_str(), "connection" | "upgrade")) {
            kept.remove(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_here_and_upgrades_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("te", "trailers"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let names = |upgrade| {
            let mut names: Vec<_> = passed_on(&headers, upgrade).keys().map(|k| k.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(true), ["connection", "upgrade", "x-stream-protocol-version"]);
        assert_eq!(names(false), ["x-stream-protocol-version"]);
    }

    #[test]
    fn a_proxied_root_ends_in_a_slash() {
        let response = to_slash(&"/api/v1/nodes/n/proxy?a=b".parse().unwrap());
        assert_eq!(response.headers()[LOCATION], "/api/v1/nodes/n/proxy/?a=b");
    }
}
