//! `pkg/apis/certificates/validation`. What was allowed once stays allowed in objects that have it.

use std::collections::BTreeSet;

use serde_json::Value;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::check::{Errors, indexed, is_empty, items, same, text};
use super::bytes;
use crate::api::csr::CertificateRequest;
use crate::api::{FieldError, Path, names};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST: i64 = 600;
const DOMAIN_MAX: usize = 253;
/// Conditions that are true or not there.
const TRUE_ONLY: [&str; 3] = ["Approved", "Denied", "Failed"];
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Through which path a request is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Main,
    Status,
    Approval,
}

/// What is wrong with a request; `old` is what it was before, if anything.
pub(super) fn request(csr: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (spec, path) = (&csr["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    if let Err(error) = CertificateRequest::parse(&bytes(&spec["request"])) {
        errors.push(FieldError::invalid(&path.child("request"), spec["request"].clone(), error.to_string()));
    }
    if is_empty(&spec["usages"]) {
        errors.push(FieldError::required(&path.child("usages"), ""));
    }
    usages(&spec["usages"], &path.child("usages"), &mut errors);
    let (signer, at) = (text(&spec["signerName"]), path.child("signerName"));
    if signer == LEGACY_SIGNER && old.is_none() {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&at, signer, detail));
    } else {
        signer_name(signer, &at, &mut errors);
    }
    if spec["expirationSeconds"].as_i64().is_some_and(|s| s < SHORTEST) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        let value = spec["expirationSeconds"].clone();
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), value, detail));
    }
    let status = Path::new("status");
    conditions(&csr["status"]["conditions"], &status.child("conditions"), old, &mut errors);
    let certificate = &csr["status"]["certificate"];
    let untouched = old.is_some_and(|old| same(certificate, &old["status"]["certificate"]));
    if !untouched && let Err(error) = certificates(&bytes(certificate)) {
        errors.push(FieldError::invalid(&status.child("certificate"), "<certificate data>", error));
    }
    errors.0
}

fn usages(list: &Value, path: &Path, errors: &mut Errors) {
    for (usage, path) in indexed(list, path) {
        if !USAGES.contains(&text(usage)) {
            errors.push(FieldError::not_supported(&path, usage.clone(), &USAGES));
        }
    }
    let mut seen = BTreeSet::new();
    for (usage, path) in indexed(list, path) {
        if !seen.insert(text(usage)) {
            errors.push(FieldError::duplicate(&path, usage.clone()));
        }
    }
}

/// `ValidateSignerName`: a domain and a path, as in `example.com/signer-name`.
fn signer_name(signer: &str, path: &Path, errors: &mut Errors) {
    if signer.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, signer, detail));
    };
    if domain.len() > DOMAIN_MAX {
        errors.push(FieldError::too_long(path, DOMAIN_MAX));
    }
    let mut labels = |part: &str, rule: fn(&str) -> Vec<String>| {
        // The first label that is wrong says enough.
        let wrong = part.split('.').map(|label| (label, rule(label))).find(|(_, found)| !found.is_empty());
        for why in wrong.iter().flat_map(|(_, found)| found) {
            let label = wrong.as_ref().map(|(label, _)| *label).unwrap_or_default();
            errors.push(FieldError::invalid(path, part, format!("validating label {label:?}: {why}")));
        }
    };
    labels(domain, names::dns1123_label);
    labels(rest, names::dns1123_subdomain);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    let longest = DOMAIN_MAX + 1 + DOMAIN_MAX + 63 + 1;
    if signer.len() > longest {
        errors.push(FieldError::too_long(path, longest));
    }
}

fn conditions(list: &Value, path: &Path, old: Option<&Value>, errors: &mut Errors) {
    let before = old.map(|old| items(&old["status"]["conditions"])).unwrap_or_default();
    let has = |list: &[Value], kind: &str| list.iter().any(|c| text(&c["type"]) == kind);
    let both_before = has(before, "Approved") && has(before, "Denied");
    let (mut seen, mut before_seen) = (BTreeSet::new(), BTreeSet::new());
    let twice_before = !before.iter().all(|c| before_seen.insert(text(&c["type"])));
    for (condition, path) in indexed(list, path) {
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        if kind.is_empty() && !has(before, "") {
            errors.push(FieldError::required(&path.child("type"), ""));
        }
        let allowed: &[&str] =
            if TRUE_ONLY.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            errors.push(FieldError::required(&path.child("status"), ""));
        } else if !allowed.contains(&status) {
            errors.push(FieldError::not_supported(&path.child("status"), status, allowed));
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && !both_before && seen.contains(other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        if !seen.insert(kind) && !twice_before {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
    }
}

/// PEM blocks of certificates and nothing else.
fn certificates(pem: &[u8]) -> Result<(), String> {
    if pem.is_empty() {
        return Ok(());
    }
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|e| e.to_string())?;
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        X509Certificate::from_der(&block.contents).map_err(|e| e.to_string())?;
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

/// What is wrong with a change of a request.
pub(super) fn update(new: &Value, old: &Value, part: Part) -> Vec<FieldError> {
    let mut errors = request(new, Some(old));
    let path = Path::new("status");
    let of = |csr: &Value, kind: &str| -> Vec<Value> {
        items(&csr["status"]["conditions"]).iter().filter(|c| text(&c["type"]) == kind).cloned().collect()
    };
    let mut refuse = |what: &str, kind: &str| {
        let detail = format!("updates may not {what} a condition of type {kind:?}");
        errors.push(FieldError::forbidden(&path.child("conditions"), detail));
    };
    for kind in TRUE_ONLY {
        if of(new, kind).len() < of(old, kind).len() {
            refuse("remove", kind);
        }
    }
    for kind in ["Approved", "Denied"].iter().filter(|_| part != Part::Approval) {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() > before.len() {
            refuse("add", kind);
        } else if now.len() == before.len() && now != before {
            refuse("modify", kind);
        }
    }
    let certificate = |csr: &Value| bytes(&csr["status"]["certificate"]);
    if certificate(new) != certificate(old) {
        let detail = match part {
            Part::Status if certificate(old).is_empty() => return errors,
            Part::Status => "updates may not modify existing certificate content",
            _ => "updates may not set certificate content",
        };
        errors.push(FieldError::forbidden(&path.child("certificate"), detail));
    }
    errors
}
