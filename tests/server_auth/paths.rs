//! Every path and verb the API has, as its own discovery tells.

use kedge::server::Server;
use kedge::server::auth::User;
use serde_json::{Value, json};

use crate::door::in_process;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: String,
    pub body: Value,
    /// It lists objects that are stored.
    lists: bool,
}

/// Paths that say how the API is, and no more.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// What `system:basic-user` is about.
const ONESELF: [&str; 3] = ["/selfsubjectaccessreviews", "/selfsubjectrulesreviews", "/selfsubjectreviews"];

impl Request {
    fn new(method: &str, uri: impl Into<String>, body: Value) -> Self {
        Self { method: method.to_owned(), uri: uri.into(), body, lists: false }
    }

    /// Anybody may ask this.
    pub fn is_public(&self) -> bool {
        self.method == "GET" && PUBLIC.contains(&self.uri.as_str())
    }

    /// Anybody who is somebody may ask this.
    pub fn is_about_oneself(&self) -> bool {
        self.method == "POST" && ONESELF.iter().any(|end| self.uri.ends_with(end))
    }

    /// A path that says what the API has, or that service accounts may read.
    pub fn is_discovery(&self) -> bool {
        let path = self.uri.as_str();
        let group = path.strip_prefix("/apis/").is_some_and(|rest| rest.split('/').count() <= 2);
        let known = ["/api", "/api/v1", "/apis", "/openid/v1/jwks", "/.well-known/openid-configuration"];
        let open = group || known.contains(&path) || path.starts_with("/openapi");
        self.method == "GET" && (open || self.is_public())
    }
}

async fn get(server: &Server, uri: &str) -> Value {
    let (code, value) = in_process(server, User::loopback(), "GET", uri, Value::Null).await;
    assert_eq!(code, 200, "{uri}: {value}");
    value
}

/// All of them.
pub async fn walk(server: &Server) -> Vec<Request> {
    let mut found = Vec::new();
    let root = get(server, "/").await;
    let mut paths: Vec<String> = serde_json::from_value(root["paths"].clone()).unwrap();
    let more =
        ["/", "/openapi/v3/api/v1", "/healthz/ping", "/metrics/slis", "/logs", "/debug/pprof", "/nothing"];
    paths.extend(more.map(str::to_owned));
    for path in &paths {
        let methods = ["GET", "POST", "PUT", "DELETE"];
        found.extend(methods.map(|method| Request::new(method, path, Value::Null)));
    }
    let versions =
        paths.iter().filter(|p| *p == "/api/v1" || p.split('/').count() == 4 && p.starts_with("/apis/"));
    for version in versions {
        let resources = get(server, version).await;
        for resource in resources["resources"].as_array().unwrap() {
            found.extend(requests(version, resource));
        }
    }
    found.extend(["GET", "POST"].map(|m| Request::new(m, "/apis/example.org/v1/things", json!({}))));
    found
}

/// A request for each verb of a resource or subresource.
fn requests(version: &str, resource: &Value) -> Vec<Request> {
    let name = resource["name"].as_str().unwrap();
    let (plural, sub) = name.split_once('/').map_or((name, None), |(p, s)| (p, Some(s)));
    let scope = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
    let all = format!("{version}{scope}/{plural}");
    let mut one = format!("{all}/x");
    if let Some(sub) = sub {
        one = format!("{one}/{sub}");
    }
    let verbs = resource["verbs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap());
    let request = |verb: &str| match verb {
        "create" => {
            let uri = if sub.is_some() { one.clone() } else { all.clone() };
            Request::new("POST", uri, json!({"metadata": {"name": "x"}}))
        }
        "get" => Request::new("GET", one.clone(), Value::Null),
        "update" => Request::new("PUT", one.clone(), json!({"metadata": {"name": "x"}})),
        "patch" => Request::new("PATCH", one.clone(), json!({"metadata": {"labels": {"a": "b"}}})),
        "delete" => Request::new("DELETE", one.clone(), Value::Null),
        "deletecollection" => Request::new("DELETE", all.clone(), Value::Null),
        "list" => Request { lists: true, ..Request::new("GET", all.clone(), Value::Null) },
        "watch" => Request::new("GET", format!("{all}?watch=true"), Value::Null),
        other => panic!("{name} has a verb nobody knows: {other}"),
    };
    verbs.map(request).collect()
}

/// All objects there are.
pub async fn state(server: &Server, paths: &[Request]) -> Vec<(String, Value)> {
    let mut state = Vec::new();
    for path in paths.iter().filter(|p| p.lists && !p.uri.ends_with("/componentstatuses")) {
        state.push((path.uri.clone(), get(server, &path.uri).await["items"].clone()));
    }
    state
}
