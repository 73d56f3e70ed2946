//! `spec.conversion`.

use serde_json::{Value, json};

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

pub(super) fn check(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let conversion = &spec["conversion"];
    if conversion.is_null() {
        return;
    }
    errors.one_of(&path.child("strategy"), &conversion["strategy"], &["None", "Webhook"]);
    let webhook = &conversion["webhook"];
    let (client, reviews) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if conversion["strategy"] != "Webhook" {
        const ALONE: &str = "should not be set when strategy is not set to Webhook";
        if !webhook["clientConfig"].is_null() {
            errors.push(FieldError::forbidden(&client, ALONE));
        }
        if !is_empty(&webhook["conversionReviewVersions"]) {
            errors.push(FieldError::forbidden(&reviews, ALONE));
        }
        return;
    }
    match &webhook["clientConfig"] {
        Value::Null => {
            errors.push(FieldError::required(&client, "required when strategy is set to Webhook"));
        }
        config => check_client(config, &client, errors),
    }
    let before = old.map(|old| &old["spec"]["conversion"]["webhook"]["conversionReviewVersions"]);
    check_reviews(&webhook["conversionReviewVersions"], before, &reviews, errors);
}

fn check_client(config: &Value, path: &Path, errors: &mut Errors) {
    match (config["url"].as_str(), &config["service"]) {
        (Some(_), Value::Object(_)) | (None, Value::Null) => {
            errors.push(FieldError::required(path, "exactly one of url or service is required"));
        }
        (Some(url), _) => check_url(url, &path.child("url"), errors),
        (None, service) => {
            let path = path.child("service");
            errors.required(&path.child("name"), &service["name"]);
            errors.required(&path.child("namespace"), &service["namespace"]);
            let wrong = names::port_number(service["port"].as_i64().unwrap_or(443));
            if !wrong.is_empty() {
                let why = format!("port is not valid: {}", wrong.join(", "));
                errors.push(FieldError::invalid(&path.child("port"), service["port"].clone(), why));
            }
            let given = text(&service["path"]);
            if !given.is_empty() && !given.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("path"), given, "must start with a '/'"));
            }
        }
    }
}

fn check_url(url: &str, path: &Path, errors: &mut Errors) {
    let mut push = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        push(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let host = if scheme.is_empty() { "" } else { rest.split(['/', '?', '#']).next().unwrap_or_default() };
    if host.is_empty() {
        push(host, format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = host.split_once('@') {
        push(user, "user information is not permitted in the URL".into());
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        push(fragment, "fragments are not permitted in the URL".into());
    }
    if let Some((_, query)) = before.split_once('?').filter(|(_, query)| !query.is_empty()) {
        push(query, "query parameters are not permitted in the URL".into());
    }
}

fn check_reviews(versions: &Value, before: Option<&Value>, path: &Path, errors: &mut Errors) {
    if !errors.required(path, versions) {
        return;
    }
    let known = |list: &Value| items(list).iter().any(|v| REVIEWS.contains(&text(v)));
    let mut seen: Vec<&Value> = Vec::new();
    for (version, at) in indexed(versions, path) {
        if seen.contains(&version) {
            errors.push(FieldError::invalid(&at, version.clone(), "duplicate version"));
            continue;
        }
        seen.push(version);
        errors.invalid_all(&at, version, names::dns1035_label(text(version)));
    }
    let must = before.is_none_or(|before| is_empty(before) || known(before));
    if must && !known(versions) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, json!(versions), why));
    }
}
