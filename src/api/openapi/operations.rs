//! Paths and operations of served resources.

use serde_json::{Map, Value, json};

use super::{Served, Style, Subresource, Types};
use crate::api::identity::GroupVersionKind;
use crate::api::schema::Schemas;

/// The media types that responses have.
const PRODUCES: [&str; 2] = ["application/json", "application/yaml"];
/// The last is not for custom kinds.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A query parameter: name, type, what it does.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter =
    ("dryRun", "string", "Nothing is stored if this is All: all stages of the request run dry.");
const FIELD_MANAGER: Parameter =
    ("fieldManager", "string", "Who makes the change, at most 128 printable characters; required for apply.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What is done about unknown and duplicate fields: Ignore drops them, Warn (the default) drops them with a warning, Strict fails the request.",
);
const FORCE: Parameter = ("force", "boolean", "For apply only: takes fields over from other managers.");
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds until the object is to be gone; zero is at once."),
    ("orphanDependents", "boolean", "Deprecated in favour of propagationPolicy."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "A watch may be sent bookmarks."),
    ("continue", "string", "Where the previous part of a list ended."),
    ("fieldSelector", "string", "Selects by fields."),
    ("labelSelector", "string", "Selects by labels."),
    ("limit", "integer", "The most items of one answer."),
    ("resourceVersion", "string", "The version from which to read or watch."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied to a list."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects there are."),
    ("timeoutSeconds", "integer", "How long the call may last."),
    ("watch", "boolean", "Sends changes instead of a list."),
];

/// The name of a type of `meta/v1`.
pub(super) fn meta(name: &str) -> String {
    format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")
}

/// The name of a kind's definition: the built-in schemas know it; a custom kind's is its reversed group, version
/// and kind.
pub(super) fn definition_of(resource: &Served, kind: &GroupVersionKind) -> String {
    let schema = match &resource.types {
        Types::Tree(schema) if *kind == resource.kind => Some(schema.clone()),
        _ => Schemas::builtin().get(kind),
    };
    let name = schema.map(|s| s.root().definition().to_owned()).unwrap_or_default();
    if !name.is_empty() {
        return name;
    }
    let mut parts: Vec<&str> = kind.group.rsplit('.').collect();
    parts.extend([&*kind.version, &*kind.kind]);
    parts.join(".")
}

/// All paths of a group version.
pub(super) fn paths(style: Style, base: &str, resources: &[Served]) -> Map<String, Value> {
    let mut paths = Map::new();
    let group_version = GroupVersion::of(base, resources);
    let discovery = Operation {
        id: format!("get{}APIResources", group_version.camel),
        description: "get available resources".into(),
        action: "",
        kind: None,
        custom: false,
        parameters: &[],
        body: None,
        answers: &[(200, "OK")],
        answer: Some(meta("APIResourceList")),
    };
    paths.insert(format!("/{base}/"), json!({"get": discovery.to_value(style, &group_version)}));
    for resource in resources {
        Writer { style, base, group_version: &group_version, resource }.write(&mut paths);
    }
    paths
}

/// How a group version is called in operations.
struct GroupVersion {
    /// As in `AppsV1`.
    camel: String,
    /// As in `apps_v1`.
    tag: String,
}

impl GroupVersion {
    fn of(base: &str, resources: &[Served]) -> Self {
        let (group, version) = resources.first().map_or(("", ""), |r| (&*r.kind.group, &*r.kind.version));
        let group = if base.starts_with("api/") { "core" } else { group.trim_end_matches(".k8s.io") };
        let camel: String = group.split('.').chain([version]).map(capital).collect();
        let lower: String = group
            .split('.')
            .enumerate()
            .map(|(i, p)| if i == 0 { p.to_owned() } else { capital(p) })
            .collect();
        Self { camel, tag: format!("{lower}_{version}") }
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

struct Operation<'a> {
    id: String,
    description: String,
    action: &'static str,
    kind: Option<&'a GroupVersionKind>,
    custom: bool,
    parameters: &'a [Parameter],
    /// The definition of the request's body.
    body: Option<String>,
    answers: &'a [(u16, &'a str)],
    /// The definition of the response's body.
    answer: Option<String>,
}

impl Operation<'_> {
    fn to_value(&self, style: Style, group_version: &GroupVersion) -> Value {
        let mut parameters: Vec<Value> = self.parameters.iter().map(|p| parameter(style, p)).collect();
        let patches = if self.custom { &PATCHES[..3] } else { &PATCHES };
        let media_types: Vec<&str> = if self.action == "patch" { patches.to_vec() } else { vec!["*/*"] };
        let schema = |name: &String| json!({"$ref": style.reference(name)});
        let content = |types: &[&str], name: &String| -> Value {
            types
                .iter()
                .map(|t| ((*t).to_owned(), json!({"schema": schema(name)})))
                .collect::<Map<_, _>>()
                .into()
        };
        let mut responses: Map<String, Value> = self
            .answers
            .iter()
            .map(|(code, text)| {
                let mut response = json!({"description": text});
                match (style, &self.answer) {
                    (Style::V2, Some(name)) => response["schema"] = schema(name),
                    (Style::V3, Some(name)) => response["content"] = content(&PRODUCES, name),
                    (_, None) => {}
                }
                (code.to_string(), response)
            })
            .collect();
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let mut value = json!({
            "operationId": self.id, "description": self.description, "tags": [group_version.tag],
            "responses": responses,
        });
        match (style, &self.body) {
            (Style::V2, Some(name)) => {
                parameters.push(json!({"in": "body", "name": "body", "schema": schema(name)}));
                value["consumes"] = json!(media_types);
            }
            (Style::V3, Some(name)) => value["requestBody"] = json!({"content": content(&media_types, name)}),
            (_, None) => {}
        }
        if style == Style::V2 {
            value["produces"] = json!(PRODUCES);
            value["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            value["parameters"] = parameters.into();
        }
        if let Some(kind) = self.kind {
            value["x-kubernetes-action"] = self.action.into();
            value["x-kubernetes-group-version-kind"] =
                json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        }
        value
    }
}

fn parameter(style: Style, (name, kind, description): &Parameter) -> Value {
    match style {
        Style::V2 => {
            json!({"in": "query", "name": name, "type": kind, "uniqueItems": true, "description": description})
        }
        Style::V3 => {
            json!({"in": "query", "name": name, "schema": {"type": kind, "uniqueItems": true},
            "description": description})
        }
    }
}

fn path_parameter(style: Style, name: &str, description: &str) -> Value {
    match style {
        Style::V2 => {
            json!({"in": "path", "name": name, "required": true, "type": "string", "uniqueItems": true,
            "description": description})
        }
        Style::V3 => {
            json!({"in": "path", "name": name, "required": true, "description": description,
            "schema": {"type": "string", "uniqueItems": true}})
        }
    }
}

struct Writer<'a> {
    style: Style,
    base: &'a str,
    group_version: &'a GroupVersion,
    resource: &'a Served,
}

impl Writer<'_> {
    fn write(&self, paths: &mut Map<String, Value>) {
        let Served { plural, namespaced, subresources, .. } = self.resource;
        let all = format!("/{}/{plural}", self.base);
        let collection = if *namespaced {
            format!("/{}/namespaces/{{namespace}}/{plural}", self.base)
        } else {
            all.clone()
        };
        self.put(paths, &collection, self.collection());
        if *namespaced {
            let everywhere = self.verb("list").then(|| ("get", self.list("ForAllNamespaces")));
            self.put(paths, &all, everywhere.into_iter().collect());
        }
        let item = format!("{collection}/{{name}}");
        self.put(paths, &item, self.item());
        for subresource in subresources {
            self.put(paths, &format!("{item}/{}", subresource.name), self.subresource(subresource));
        }
    }

    fn put(&self, paths: &mut Map<String, Value>, path: &str, methods: Vec<(&str, Operation<'_>)>) {
        if methods.is_empty() {
            return;
        }
        let mut entry: Map<String, Value> = methods
            .into_iter()
            .map(|(method, operation)| {
                (method.to_owned(), operation.to_value(self.style, self.group_version))
            })
            .collect();
        let mut parameters = Vec::new();
        if path.contains("{name}") {
            let description = format!("name of the {}", self.resource.kind.kind);
            parameters.push(path_parameter(self.style, "name", &description));
        }
        if path.contains("{namespace}") {
            parameters.push(path_parameter(
                self.style,
                "namespace",
                "object name and auth scope, such as for teams and projects",
            ));
        }
        if !parameters.is_empty() {
            entry.insert("parameters".into(), parameters.into());
        }
        paths.insert(path.to_owned(), entry.into());
    }

    fn verb(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|v| v == verb)
    }

    fn scope(&self) -> &'static str {
        if self.resource.namespaced { "Namespaced" } else { "" }
    }

    fn definition(&self) -> String {
        definition_of(self.resource, &self.resource.kind)
    }

    fn operation(&self, verb: &str, action: &'static str, description: String) -> Operation<'_> {
        let kind = &self.resource.kind;
        Operation {
            id: format!("{verb}{}{}{}", self.group_version.camel, self.scope(), kind.kind),
            description,
            action,
            kind: Some(kind),
            custom: matches!(self.resource.types, Types::Custom(_)),
            parameters: &[],
            body: None,
            answers: &[(200, "OK")],
            answer: Some(self.definition()),
        }
    }

    fn list(&self, suffix: &str) -> Operation<'_> {
        let kind = &self.resource.kind.kind;
        let operation = self.operation("list", "list", format!("list or watch objects of kind {kind}"));
        let scope = if suffix.is_empty() { self.scope() } else { "" };
        Operation {
            id: format!("list{}{scope}{kind}{suffix}", self.group_version.camel),
            parameters: LIST,
            answer: Some(format!("{}List", self.definition())),
            ..operation
        }
    }

    fn collection(&self) -> Vec<(&'static str, Operation<'_>)> {
        let kind = &self.resource.kind.kind;
        let mut methods = Vec::new();
        if self.verb("list") {
            methods.push(("get", self.list("")));
        }
        if self.verb("create") {
            let operation = self.operation("create", "post", format!("create a {kind}"));
            let answers = &[(200, "OK"), (201, "Created"), (202, "Accepted")];
            methods.push((
                "post",
                Operation { parameters: WRITE, body: Some(self.definition()), answers, ..operation },
            ));
        }
        if self.verb("deletecollection") {
            let operation =
                self.operation("delete", "deletecollection", format!("delete collection of {kind}"));
            let id = format!("delete{}Collection{}{kind}", self.group_version.camel, self.scope());
            let body = Some(meta("DeleteOptions"));
            methods.push((
                "delete",
                Operation { id, parameters: DELETE, body, answer: Some(meta("Status")), ..operation },
            ));
        }
        methods
    }

    fn item(&self) -> Vec<(&'static str, Operation<'_>)> {
        let kind = &self.resource.kind.kind;
        let written = &[(200, "OK"), (201, "Created")];
        let mut methods = Vec::new();
        if self.verb("get") {
            methods.push(("get", self.operation("read", "get", format!("read the specified {kind}"))));
        }
        if self.verb("update") {
            let operation = self.operation("replace", "put", format!("replace the specified {kind}"));
            let body = Some(self.definition());
            methods.push(("put", Operation { parameters: WRITE, body, answers: written, ..operation }));
        }
        if self.verb("patch") {
            let operation =
                self.operation("patch", "patch", format!("partially update the specified {kind}"));
            let body = Some(meta("Patch"));
            methods.push(("patch", Operation { parameters: PATCH, body, answers: written, ..operation }));
        }
        if self.verb("delete") {
            let operation = self.operation("delete", "delete", format!("delete a {kind}"));
            let (body, answer) = (Some(meta("DeleteOptions")), Some(meta("Status")));
            let answers = &[(200, "OK"), (202, "Accepted")];
            methods.push(("delete", Operation { parameters: DELETE, body, answers, answer, ..operation }));
        }
        methods
    }

    fn subresource<'s>(&'s self, subresource: &'s Subresource) -> Vec<(&'static str, Operation<'s>)> {
        let kind = subresource.kind.as_ref().unwrap_or(&self.resource.kind);
        let definition = definition_of(self.resource, kind);
        // Discovery's verb, the method, which is the action too, and what operations are called by.
        let table = [
            ("get", "get", "read"),
            ("create", "post", "create"),
            ("update", "put", "replace"),
            ("patch", "patch", "patch"),
        ];
        let served = table.into_iter().filter(|row| subresource.verbs.iter().any(|v| v == row.0));
        let methods = served.map(|(_, method, verb)| {
            let (parameters, body): (&[Parameter], _) = match method {
                "get" => (&[], None),
                "patch" => (PATCH, Some(meta("Patch"))),
                _ => (WRITE, Some(definition.clone())),
            };
            let name: String = subresource.name.split(['-', '/']).map(capital).collect();
            let description =
                format!("{verb} {} of the specified {}", subresource.name, self.resource.kind.kind);
            let operation = self.operation(verb, method, description);
            let id = format!("{}{name}", operation.id);
            let answer = Some(definition.clone());
            (method, Operation { id, kind: Some(kind), parameters, body, answer, ..operation })
        });
        methods.collect()
    }
}
