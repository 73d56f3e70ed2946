//! What somebody wants to do.

use crate::server::request_info::RequestInfo;

/// An action on a resource, or on another path of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, …; for other paths the HTTP method in lower case.
    pub verb: &'a str,
    /// The resource's group; empty for the core group.
    pub group: &'a str,
    /// The plural name; empty for other paths.
    pub resource: &'a str,
    /// Such as `status`.
    pub subresource: Option<&'a str>,
    /// The namespace, if any.
    pub namespace: Option<&'a str>,
    /// The object's name, if any.
    pub name: Option<&'a str>,
    /// The path, if this is not about a resource.
    pub path: Option<&'a str>,
    /// The field selector of a list or watch.
    pub field_selector: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// What a request wants.
    pub fn of(request: &'a RequestInfo) -> Self {
        if !request.is_resource {
            return Self { verb: &request.verb, path: Some(&request.path), ..Self::default() };
        }
        Self {
            verb: &request.verb,
            group: &request.api_group,
            resource: &request.resource,
            subresource: request.subresource.as_deref(),
            namespace: request.namespace.as_deref(),
            name: request.name.as_deref(),
            path: None,
            field_selector: request.field_selector.as_deref(),
        }
    }
}
