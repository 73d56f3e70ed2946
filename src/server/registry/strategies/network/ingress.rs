//! Ingresses: `pkg/apis/networking/validation`.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategies::check::{Errors, indexed, is_empty, items, text};
use crate::server::registry::strategies::service::host_name;
use crate::server::registry::strategy::{Context, Strategy, defaults};

const CLASS: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

/// The strategy of Ingresses.
pub struct IngressStrategy;

impl Strategy for IngressStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        defaults::prepare_create(object);
        object["status"] = json!({"loadBalancer": {}});
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = validate(&object["spec"], None);
        let (annotation, class) =
            (&object["metadata"]["annotations"][CLASS], &object["spec"]["ingressClassName"]);
        if !annotation.is_null() && !class.is_null() && annotation != class {
            let path = Path::new("annotations").child(CLASS);
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(&path, annotation.clone(), detail));
        }
        errors
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(&new["spec"], Some(&old["spec"]))
    }

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let list = |object: &Value| object["status"]["loadBalancer"]["ingress"].clone();
        let before: Vec<Value> = items(&list(old)).iter().map(|i| i["ip"].clone()).collect();
        let path = Path::new("status").child("loadBalancer").child("ingress");
        let mut errors = Errors::default();
        for (ingress, path) in indexed(&list(new), &path) {
            if !is_empty(&ingress["ip"]) {
                errors.address(&path.child("ip"), &ingress["ip"], &before);
            }
            host_name(&path.child("hostname"), &ingress["hostname"], &mut errors);
        }
        errors.0
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        if object["metadata"]["annotations"].get(CLASS).is_none() {
            return Vec::new();
        }
        vec![format!("annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead")]
    }
}

pub(super) fn validate(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    if is_empty(&spec["rules"]) && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let shown = if spec["rules"].is_null() { Value::Null } else { json!([]) };
        errors.push(FieldError::invalid(&path, shown, detail));
    }
    if !spec["defaultBackend"].is_null() {
        backend(&spec["defaultBackend"], &path.child("defaultBackend"), &mut errors);
    }
    for (rule, path) in indexed(&spec["rules"], &path.child("rules")) {
        host(&rule["host"], &path.child("host"), &mut errors);
        let at = path.child("http").child("paths");
        if !rule["http"].is_null() && is_empty(&rule["http"]["paths"]) {
            errors.push(FieldError::required(&at, ""));
        }
        for (item, path) in indexed(&rule["http"]["paths"], &at) {
            validate_path(item, &path, &mut errors);
        }
    }
    tls(spec, old, &path.child("tls"), &mut errors);
    if let Some(class) = spec["ingressClassName"].as_str() {
        let wrong = names::dns1123_subdomain(class);
        errors.invalid_all(&path.child("ingressClassName"), &spec["ingressClassName"], wrong);
    }
    errors.0
}

fn host(host: &Value, path: &Path, errors: &mut Errors) {
    if is_empty(host) {
        return;
    }
    if text(host).parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host.clone(), "must be a DNS name, not an IP address"));
    }
    let wild = text(host).contains('*');
    let rule = if wild { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    errors.invalid_all(path, host, rule(text(host)));
}

fn tls(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let wrong_name = |tls: &Value| {
        let name = text(&tls["secretName"]);
        if name.is_empty() { Vec::new() } else { names::dns1123_subdomain(name) }
    };
    let lenient = old.is_some_and(|old| items(&old["tls"]).iter().any(|tls| !wrong_name(tls).is_empty()));
    for (tls, path) in indexed(&spec["tls"], path) {
        for (name, path) in indexed(&tls["hosts"], &path.child("hosts")) {
            let wild = text(name).contains('*');
            let rule = if wild { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
            errors.invalid_all(&path, name, rule(text(name)));
        }
        if !lenient {
            errors.invalid_all(&path.child("secretName"), &tls["secretName"], wrong_name(tls));
        }
    }
}

fn validate_path(item: &Value, path: &Path, errors: &mut Errors) {
    const WITHIN: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const AT_END: [&str; 2] = ["/..", "/."];
    let (value, at) = (text(&item["path"]), path.child("path"));
    let absolute = value.starts_with('/');
    let mut wrong = |detail: String| errors.push(FieldError::invalid(&at, value, detail));
    match text(&item["pathType"]) {
        "" => {
            errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !absolute {
                wrong("must be an absolute path".to_owned());
            }
            for bad in WITHIN.iter().filter(|bad| value.contains(**bad)) {
                wrong(format!("must not contain '{bad}'"));
            }
            for bad in AT_END.iter().filter(|bad| value.ends_with(**bad)) {
                wrong(format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !absolute {
                wrong("must be an absolute path".to_owned());
            }
        }
        other => errors.push(FieldError::not_supported(&path.child("pathType"), other, &PATH_TYPES)),
    }
    backend(&item["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (true, true) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
        (false, false) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (false, true) => service_backend(service, path, errors),
        (true, false) => {
            reference(resource, &path.child("resource"), errors);
        }
    }
}

fn service_backend(service: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("service");
    errors.named(&at.child("name"), &service["name"], names::dns1123_label);
    let (name, number) = (&service["port"]["name"], service["port"]["number"].as_i64().unwrap_or_default());
    let at = at.child("port");
    match (is_empty(name), number) {
        (true, 0) => errors.push(FieldError::required(path, "port name or number is required")),
        (false, 0) => errors.invalid_all(&at.child("name"), name, names::port_name(text(name))),
        (true, n) => errors.invalid_all(&at.child("number"), &json!(n), names::port_number(n)),
        (false, _) => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
    }
}

/// A reference by group, kind and name.
pub(super) fn reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = reference["apiGroup"].as_str() {
        errors.invalid_all(&path.child("apiGroup"), &reference["apiGroup"], names::dns1123_subdomain(group));
    }
    for field in ["kind", "name"] {
        errors.named(&path.child(field), &reference[field], names::path_segment);
    }
}
