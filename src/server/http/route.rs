//! Who answers a request: by verb and subresource, never by kind.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use parking_lot::Mutex;

use super::api::{Answer, Api, Cx};
use super::body::Body;
use super::params::Params;
use super::{
    discovery, evict, health, list, metrics, patch, proxy, read, render, review, scale, special, usage, write,
};
use crate::api::Status;
use crate::server::auth::User;
use crate::server::registry::{Resource, Storage, Subresource};
use crate::server::request_info::RequestInfo;

/// Hands a request that may be served to its handler.
pub(super) async fn handle(api: &Api, parts: Parts, body: Body, info: RequestInfo, user: User) -> Answer {
    let params = Params::parse(&parts.uri);
    if !info.is_resource {
        return other(api, &parts, &info, &params);
    }
    let registry = &api.objects.registry;
    let Some(entry) = registry.find(&info.api_group, &info.api_version, &info.resource) else {
        let all = registry.all();
        let mut of_version = all.of_version(&info.api_group, &info.api_version);
        return if of_version.next().is_some() {
            Err(Status::no_such_path().into())
        } else {
            Ok(not_found())
        };
    };
    let stored = match entry.storage {
        Storage::View(_) => registry.stored(&entry.stored_name()),
        Storage::Own | Storage::Virtual => Some(Arc::clone(&entry)),
    };
    let stored = stored.ok_or_else(Status::no_such_path)?;
    check_path(&entry, &info)?;
    let cx = Cx { parts, info, params, user, body: Mutex::new(body), entry, stored };
    let entry = Arc::clone(&cx.entry);
    let mut response = match cx.info.subresource.clone() {
        None => main(api, cx).await,
        Some(name) => {
            let sub = entry.subresource(&name).ok_or_else(|| no_subresource(&cx))?;
            subresource(api, cx, sub).await
        }
    }?;
    let custom = entry.custom.iter().flat_map(|custom| custom.warnings().iter().cloned());
    let warnings: Vec<String> = entry.deprecation.iter().map(ToString::to_string).chain(custom).collect();
    render::add_warnings(&mut response, &warnings);
    Ok(response)
}

fn no_subresource(cx: &Cx) -> Status {
    match (&cx.entry.custom, &cx.info.name) {
        (Some(_), Some(name)) => Status::not_found(&cx.entry.group_resource(), name),
        _ => Status::no_such_path(),
    }
}

/// Namespaced objects are named within a namespace, others outside of all.
fn check_path(entry: &Resource, info: &RequestInfo) -> Result<(), Status> {
    let in_namespace = info.namespace.is_some() && info.resource != "namespaces";
    if !entry.namespaced && in_namespace {
        return Err(Status::no_such_path());
    }
    let collection = matches!(&*info.verb, "list" | "watch" | "deletecollection");
    if entry.namespaced && !in_namespace && !collection {
        return Err(Status::no_such_path());
    }
    Ok(())
}

async fn main(api: &Api, cx: Cx) -> Answer {
    let verb = cx.info.verb.clone();
    if !cx.entry.verbs.contains(&verb.as_str()) || cx.parts.method == Method::HEAD {
        return Err(Status::method_not_allowed().into());
    }
    if matches!(cx.entry.storage, Storage::Virtual) {
        return match &*verb {
            "create" => review::create(api, cx).await,
            _ if cx.entry.group == usage::GROUP => usage::serve(api, &cx).await,
            _ => review::components(api, &cx),
        };
    }
    // Before anything is done: a client that cannot read the answer shall not find it done.
    render::output(&cx)?;
    match &*verb {
        "get" => read::get(api, &cx),
        "list" => list::list(api, &cx),
        "watch" => list::watch(api, &cx),
        "create" if cx.info.name.is_none() => write::create(api, cx).await,
        "update" => write::update(api, cx).await,
        "patch" => patch::patch(api, cx).await,
        "delete" => write::delete(api, cx).await,
        "deletecollection" => list::delete_collection(api, cx).await,
        _ => Err(Status::method_not_allowed().into()),
    }
}

async fn subresource(api: &Api, cx: Cx, sub: &Subresource) -> Answer {
    let verb = cx.info.verb.clone();
    // Of no verb, and still what a proxied server may be asked.
    let is_options = sub.name == "proxy" && cx.parts.method == Method::OPTIONS;
    if !sub.verbs.contains(&verb.as_str()) && !is_options {
        return Err(Status::method_not_allowed().into());
    }
    if !matches!(&*sub.name, "log" | "exec" | "attach" | "portforward" | "proxy") {
        render::output(&cx)?;
    }
    match (&*sub.name, &*verb) {
        ("log", _) => proxy::log(api, cx).await,
        ("exec" | "attach" | "portforward", _) => proxy::stream(api, cx).await,
        ("proxy", _) => proxy::proxy(api, cx).await,
        ("binding", _) => special::binding(api, cx).await,
        ("eviction", _) => evict::evict(api, cx).await,
        ("token", _) => special::token(api, cx).await,
        ("scale", "get") => scale::get(api, &cx),
        ("scale", "update") => scale::update(api, cx).await,
        ("scale", _) => scale::patch(api, cx).await,
        // Parts of the object: the strategy keeps the rest as it is.
        (_, "get") => read::get(api, &cx),
        (_, "update") => write::update(api, cx).await,
        (_, "patch") => patch::patch(api, cx).await,
        _ => Err(Status::method_not_allowed().into()),
    }
}

/// Paths that are no resources.
fn other(api: &Api, parts: &Parts, info: &RequestInfo, params: &Params) -> Answer {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed().into());
    }
    if info.path == "/metrics" {
        let mut response = render::text(StatusCode::OK, metrics::text(api));
        let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        return Ok(response);
    }
    let found =
        health::serve(api, &info.path, params).or_else(|| discovery::serve(api, &info.path, &parts.headers));
    if found.is_none() && info.path == "/openapi/v2" {
        return Err(Status::not_acceptable(&["application/json"]).into());
    }
    Ok(found.unwrap_or_else(not_found))
}

/// The answer of paths below which nothing is served: text, as upstream's multiplexer gives it.
fn not_found() -> Response<Body> {
    render::text(StatusCode::NOT_FOUND, "404 page not found\n")
}
