//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations: `pkg/apis/admissionregistration/validation`.

use std::collections::HashSet;

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, items, text};
use super::{rules, selector};
use crate::api::meta::MetaMut;
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::cel::{CompileError, Program, Type};
use crate::server::registry::strategy::{Context, Strategy};

/// What a failure policy may be.
pub const POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const TIMEOUT: &str = "the timeout value must be between 1 and 30 seconds";
const MAX_CONDITIONS: usize = 64;

/// What match conditions may name.
pub const VARIABLES: [(&str, Type); 6] = [
    ("object", Type::Dyn),
    ("oldObject", Type::Dyn),
    ("request", Type::Dyn),
    ("namespaceObject", Type::Dyn),
    ("authorizer", Type::AUTHORIZER),
    ("authorizer.requestResource", Type::RESOURCE_CHECK),
];

/// Both kinds of configurations.
pub struct WebhookStrategy {
    /// They are of mutating webhooks.
    pub mutating: bool,
}

impl Strategy for WebhookStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        MetaMut::of(object).set_generation(1);
        Ok(())
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        if new["webhooks"] != old["webhooks"] {
            let generation = Meta::of(old).generation() + 1;
            MetaMut::of(new).set_generation(generation);
        }
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object, &Strictness::default())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate(new, &Strictness::after(new, old))
    }
}

/// What is not asked of a change because the object broke the rule before.
#[derive(Default)]
struct Strictness {
    side_effects: bool,
    unknown_reviews: bool,
    equal_names: bool,
    conditions: bool,
}

impl Strictness {
    fn after(new: &Value, old: &Value) -> Self {
        let hooks = items(&old["webhooks"]);
        let names: HashSet<&str> = hooks.iter().map(|h| text(&h["name"])).collect();
        let conditions = |o: &Value| -> Vec<Value> {
            items(&o["webhooks"]).iter().map(|h| h["matchConditions"].clone()).collect()
        };
        let known = |h: &Value| {
            let versions = items(&h["admissionReviewVersions"]);
            versions.is_empty() || versions.iter().any(|v| REVIEWS.contains(&text(v)))
        };
        Self {
            side_effects: !hooks.iter().all(|h| NO_SIDE_EFFECTS.contains(&text(&h["sideEffects"]))),
            unknown_reviews: !hooks.iter().all(known),
            equal_names: names.len() < hooks.len(),
            conditions: conditions(new) == conditions(old),
        }
    }
}

impl WebhookStrategy {
    fn validate(&self, object: &Value, lax: &Strictness) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let mut names = HashSet::new();
        for (hook, path) in indexed(&object["webhooks"], &Path::new("webhooks")) {
            self.validate_hook(hook, &path, lax, &mut errors);
            let at = path.child("admissionReviewVersions");
            validate_reviews(&hook["admissionReviewVersions"], &at, lax, &mut errors);
            let name = text(&hook["name"]);
            if !name.is_empty() && !names.insert(name.to_owned()) && !lax.equal_names {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        errors.0
    }

    fn validate_hook(&self, hook: &Value, path: &Path, lax: &Strictness, errors: &mut Errors) {
        fully_qualified(&path.child("name"), text(&hook["name"]), errors);
        for (rule, path) in indexed(&hook["rules"], &path.child("rules")) {
            rules::validate(rule, &path, errors);
        }
        errors.optionally_one_of(&path.child("failurePolicy"), &hook["failurePolicy"], &POLICIES);
        errors.optionally_one_of(&path.child("matchPolicy"), &hook["matchPolicy"], &MATCHES);
        let allowed = if lax.side_effects { &SIDE_EFFECTS[..] } else { &NO_SIDE_EFFECTS[..] };
        let at = path.child("sideEffects");
        if is_empty(&hook["sideEffects"]) {
            errors.push(FieldError::required(&at, format!("must specify one of {}", allowed.join(", "))));
        }
        errors.optionally_one_of(&at, &hook["sideEffects"], allowed);
        let timeout = &hook["timeoutSeconds"];
        if timeout.as_i64().is_some_and(|t| !(1..=30).contains(&t)) {
            errors.push(FieldError::invalid(&path.child("timeoutSeconds"), timeout.clone(), TIMEOUT));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            selector::validate(&hook[field], &path.child(field), errors);
        }
        if self.mutating {
            let at = path.child("reinvocationPolicy");
            errors.optionally_one_of(&at, &hook["reinvocationPolicy"], &REINVOCATIONS);
        }
        validate_client(&hook["clientConfig"], &path.child("clientConfig"), errors);
        if !lax.conditions {
            let at = path.child("matchConditions");
            validate_conditions(&hook["matchConditions"], &at, &VARIABLES, errors);
        }
    }
}

fn fully_qualified(path: &Path, name: &str, errors: &mut Errors) {
    let wrong = names::dns1123_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn validate_reviews(versions: &Value, path: &Path, lax: &Strictness, errors: &mut Errors) {
    let list = REVIEWS.join(", ");
    if items(versions).is_empty() {
        return errors.push(FieldError::required(path, format!("must specify one of {list}")));
    }
    let mut seen = HashSet::new();
    for (version, path) in indexed(versions, path) {
        if seen.insert(text(version)) {
            errors.invalid_all(&path, version, names::dns1035_label(text(version)));
        } else {
            errors.push(FieldError::invalid(&path, version.clone(), "duplicate version"));
        }
    }
    if !lax.unknown_reviews && !items(versions).iter().any(|v| REVIEWS.contains(&text(v))) {
        let detail = format!("must include at least one of {list}");
        errors.push(FieldError::invalid(path, versions.clone(), detail));
    }
}

/// What is wrong with a `WebhookClientConfig`.
pub fn validate_client(config: &Value, path: &Path, errors: &mut Errors) {
    match (&config["url"], &config["service"]) {
        (Value::String(url), Value::Null) => validate_url(url, &path.child("url"), errors),
        (Value::Null, service @ Value::Object(_)) => {
            validate_service(service, &path.child("service"), errors);
        }
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    if url.contains(|c: char| c.is_control() || c == ' ') {
        let detail = format!("url must be a valid URL: parse {url:?}: invalid character in URL{FORM}");
        return errors.push(FieldError::required(path, detail));
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    let authority =
        rest.strip_prefix("//").map(|r| r.split('/').next().unwrap_or_default()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, detail));
    }
    if host.is_empty() {
        errors.push(FieldError::invalid(path, host, format!("host must be specified{FORM}")));
    }
    let parts = [
        (user, "user information is not permitted in the URL"),
        (Some(fragment).filter(|f| !f.is_empty()), "fragments are not permitted in the URL"),
        (Some(query).filter(|q| !q.is_empty()), "query parameters are not permitted in the URL"),
    ];
    for (part, detail) in parts {
        if let Some(part) = part {
            errors.push(FieldError::invalid(path, part, detail));
        }
    }
}

fn validate_service(service: &Value, path: &Path, errors: &mut Errors) {
    errors.required(&path.child("name"), &service["name"]);
    errors.required(&path.child("namespace"), &service["namespace"]);
    let port = service["port"].as_i64().unwrap_or(443);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    let (at, given) = (path.child("path"), text(&service["path"]));
    let mut invalid = |detail: String| errors.push(FieldError::invalid(&at, given, detail));
    match given {
        "" | "/" => return,
        "//" => return invalid("segment[0] may not be empty".to_owned()),
        _ => {}
    }
    if !given.starts_with('/') {
        invalid("must start with a '/'".to_owned());
    }
    // As upstream, which drops the first byte whatever it is.
    let mut rest = given.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            invalid(format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            invalid(format!("segment[{i}]: {why}"));
        }
    }
}

/// What is wrong with a list of `MatchCondition`s.
pub fn validate_conditions(conditions: &Value, path: &Path, variables: &[(&str, Type)], errors: &mut Errors) {
    let count = items(conditions).len();
    if count > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, count, MAX_CONDITIONS));
    }
    let mut names = HashSet::new();
    for (condition, path) in indexed(conditions, path) {
        let expression = text(&condition["expression"]).trim();
        let at = path.child("expression");
        if expression.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if let Err(why) = compile(expression, variables, &[Type::Bool]) {
            errors.push(FieldError::invalid(&at, expression, why));
        }
        let (name, at) = (text(&condition["name"]), path.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        errors.invalid_all(&at, &condition["name"], names::qualified_name(name));
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
}

/// Compiles an expression whose result has to be of one of these types, if there are any.
///
/// # Errors
/// Why it cannot be used, in upstream's words.
pub fn compile(expression: &str, variables: &[(&str, Type)], types: &[Type]) -> Result<Program, String> {
    let program = Program::compile(expression, variables)
        .map_err(|CompileError(why)| format!("compilation failed: {why}"))?;
    let result = program.result_type();
    if types.is_empty() || *result == Type::Dyn || types.contains(result) {
        return Ok(program);
    }
    let names: Vec<String> = types.iter().map(ToString::to_string).collect();
    Err(match names.as_slice() {
        [one] => format!("must evaluate to {one} but got {result}"),
        many => format!("must evaluate to one of [{}] but got {result}", many.join(" ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(change: Value) -> Value {
        let mut hook = json!({
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://h/p"},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        });
        json_patch::merge(&mut hook, &change);
        hook
    }

    fn wrong(hooks: &[Value]) -> Vec<String> {
        let object = json!({"webhooks": hooks});
        let strategy = WebhookStrategy { mutating: true };
        strategy.validate(&object, &Strictness::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_has_upstreams_words() {
        assert_eq!(wrong(&[hook(json!({}))]), [""; 0]);
        let at = "webhooks[0]";
        for (change, text) in [
            (json!({"name": null}), "name: Required value"),
            (
                json!({"name": "a.b"}),
                "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                json!({"failurePolicy": "x"}),
                "failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\"",
            ),
            (
                json!({"matchPolicy": "x"}),
                "matchPolicy: Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
            ),
            (
                json!({"reinvocationPolicy": "x"}),
                "reinvocationPolicy: Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\"",
            ),
            (
                json!({"sideEffects": null}),
                "sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ),
            (
                json!({"sideEffects": "Some"}),
                "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                json!({"timeoutSeconds": 31}),
                "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                json!({"clientConfig": {"url": null}}),
                "clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                json!({"clientConfig": {"url": "http://h"}}),
                "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                json!({"clientConfig": {"url": "https://h?a=b"}}),
                "clientConfig.url: Invalid value: \"a=b\": query parameters are not permitted in the URL",
            ),
            (
                json!({"clientConfig": {"url": null, "service": {"name": "s", "namespace": "n", "path": "a//b", "port": 443}}}),
                "clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
            ),
            (
                json!({"admissionReviewVersions": ["v2"]}),
                "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
            ),
            (
                json!({"admissionReviewVersions": []}),
                "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (json!({"matchConditions": [{"name": "a"}]}), "matchConditions[0].expression: Required value"),
            (json!({"matchConditions": [{"expression": "true"}]}), "matchConditions[0].name: Required value"),
        ] {
            let found = wrong(&[hook(change.clone())]);
            assert_eq!(found.first(), Some(&format!("{at}.{text}")), "{change}: {found:?}");
        }
        let twice = [hook(json!({})), hook(json!({}))];
        assert_eq!(wrong(&twice), ["webhooks[1].name: Duplicate value: \"a.example.com\""]);
    }

    #[test]
    fn old_sins_are_forgiven() {
        let old = json!({"webhooks": [hook(json!({"sideEffects": "Unknown"}))]});
        let new = json!({"webhooks": [hook(json!({"sideEffects": "Some"}))]});
        let strategy = WebhookStrategy { mutating: false };
        assert!(strategy.validate(&new, &Strictness::after(&new, &old)).is_empty());
    }
}
