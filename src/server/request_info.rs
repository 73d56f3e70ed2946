//! What a request is about, parsed from its method and URI once.
//!
//! Follows `k8s.io/apiserver/pkg/endpoints/request.RequestInfo`: authorization, admission, audit and
//! the handlers all read this one structure.

use std::borrow::Cow;

use http::{Method, Uri};

/// The parts of a request's path and query that decide who handles it and who may send it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The request is for a resource, below `/api/v1` or `/apis/<group>/<version>`.
    pub is_resource: bool,
    /// The path without the query.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other
    /// requests the HTTP method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// Empty for the core group.
    pub api_group: String,
    /// Such as `v1`.
    pub api_version: String,
    /// The namespace of the path; for a namespace itself its own name.
    pub namespace: Option<String>,
    /// Plural name of the resource.
    pub resource: String,
    /// Such as `status`.
    pub subresource: Option<String>,
    /// The object's name, from the path or from a `metadata.name=` field selector.
    pub name: Option<String>,
    /// What of the path follows the subresource, without a leading slash, for `proxy`.
    pub rest: Option<String>,
    /// The query parameter `fieldSelector`.
    pub field_selector: Option<String>,
    /// The query parameter `labelSelector`.
    pub label_selector: Option<String>,
}

/// Subresources of a namespace, which in its path look like resources in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Parses method and URI.
    pub fn parse(method: &Method, uri: &Uri) -> Self {
        let mut info = Self {
            path: uri.path().to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let mut watch = info.parse_path();
        if !info.is_resource {
            return info;
        }
        for (key, value) in query_pairs(uri.query().unwrap_or_default()) {
            match key.as_ref() {
                "fieldSelector" => info.field_selector = Some(value.into_owned()),
                "labelSelector" => info.label_selector = Some(value.into_owned()),
                "watch" => watch |= is_true(&value),
                _ => {}
            }
        }
        info.set_verb(method, watch);
        info
    }

    /// Whether the path has the deprecated `watch` element.
    fn parse_path(&mut self) -> bool {
        let path = self.path.clone();
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let mut rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                (self.api_prefix, self.api_version) = ("api".into(), (*version).into());
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                self.api_prefix = "apis".into();
                (self.api_group, self.api_version) = ((*group).into(), (*version).into());
                rest
            }
            _ => return false,
        };
        let watch = rest.len() > 1 && rest[0] == "watch";
        if watch {
            rest = &rest[1..];
        }
        if let ["namespaces", namespace, inner @ ..] = rest {
            self.namespace = Some(decode(namespace));
            if let [first, ..] = inner
                && !NAMESPACE_SUBRESOURCES.contains(first)
            {
                rest = inner;
            }
        }
        self.is_resource = true;
        self.resource = rest[0].to_owned();
        self.name = rest.get(1).map(|n| decode(n));
        self.subresource = rest.get(2).map(|s| (*s).to_owned());
        if rest.len() > 3 {
            self.rest = Some(rest_of_path(&path, rest[2], rest[3]));
        }
        watch
    }

    fn set_verb(&mut self, method: &Method, watch: bool) {
        let collection = self.name.is_none();
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if collection => "deletecollection",
            Method::DELETE => "delete",
            Method::GET | Method::HEAD if watch && self.subresource.is_none() => "watch",
            Method::GET | Method::HEAD if collection => "list",
            Method::GET | Method::HEAD => "get",
            _ => return,
        };
        self.verb = verb.to_owned();
        if collection && matches!(verb, "list" | "watch" | "deletecollection") {
            self.name = self.field_selector.as_deref().and_then(name_of_selector);
        }
    }

    /// Plural and group as RBAC and [`Reader`](crate::server::reader::Reader) name a
    /// resource: `pods`, `deployments.apps`.
    pub fn group_resource(&self) -> Cow<'_, str> {
        if self.api_group.is_empty() {
            Cow::Borrowed(&self.resource)
        } else {
            Cow::Owned(format!("{}.{}", self.resource, self.api_group))
        }
    }
}

/// The rest of a proxied path, kept as it was sent: a trailing slash has a meaning to the backend.
fn rest_of_path(path: &str, subresource: &str, first: &str) -> String {
    let marker = format!("/{subresource}/{first}");
    path.find(&marker).map_or_else(String::new, |at| path[at + subresource.len() + 2..].to_owned())
}

fn name_of_selector(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty()).then(|| value.to_owned())
    })
}

/// The values Go's `strconv.ParseBool` takes for true, and a parameter without a value.
pub(crate) fn is_true(value: &str) -> bool {
    !matches!(value, "0" | "false" | "False" | "FALSE" | "f" | "F")
}

/// The key and value pairs of a query string, decoded.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

fn decode(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str) -> RequestInfo {
        RequestInfo::parse(&method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn verbs_follow_method_and_path() {
        for (method, uri, verb, resource, name) in [
            ("GET", "/api/v1/pods", "list", "pods", None),
            ("GET", "/api/v1/namespaces/a/pods/p", "get", "pods", Some("p")),
            ("GET", "/api/v1/pods?watch=true", "watch", "pods", None),
            ("GET", "/api/v1/pods?watch=0", "list", "pods", None),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "pods", None),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", "create", "deployments", None),
            ("PUT", "/api/v1/nodes/n", "update", "nodes", Some("n")),
            ("PATCH", "/api/v1/nodes/n", "patch", "nodes", Some("n")),
            ("DELETE", "/api/v1/nodes/n", "delete", "nodes", Some("n")),
            ("DELETE", "/api/v1/nodes", "deletecollection", "nodes", None),
        ] {
            let info = parse(method, uri);
            assert!(info.is_resource, "{uri}");
            assert_eq!((&*info.verb, &*info.resource, info.name.as_deref()), (verb, resource, name), "{uri}");
        }
    }

    #[test]
    fn a_namespace_is_in_itself() {
        let info = parse("GET", "/api/v1/namespaces/a");
        assert_eq!(
            (info.namespace.as_deref(), &*info.resource, info.name.as_deref()),
            (Some("a"), "namespaces", Some("a"))
        );
        let info = parse("PUT", "/api/v1/namespaces/a/finalize");
        assert_eq!(
            (&*info.resource, info.name.as_deref(), info.subresource.as_deref()),
            ("namespaces", Some("a"), Some("finalize"))
        );
        let info = parse("GET", "/api/v1/namespaces");
        assert_eq!((info.namespace, &*info.resource), (None, "namespaces"));
    }

    #[test]
    fn a_name_in_the_field_selector_is_the_name() {
        let info = parse("GET", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp&watch=1");
        assert_eq!((&*info.verb, info.name.as_deref()), ("watch", Some("p")));
        assert_eq!(info.field_selector.as_deref(), Some("metadata.name=p"));
    }

    #[test]
    fn proxy_keeps_the_rest_of_the_path() {
        let info = parse("GET", "/api/v1/nodes/n/proxy/logs/a%20b/");
        assert_eq!(info.subresource.as_deref(), Some("proxy"));
        assert_eq!(info.rest.as_deref(), Some("logs/a%20b/"));
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in
            ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3"]
        {
            let info = parse("GET", path);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }
}
