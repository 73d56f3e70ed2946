//! CertificateSigningRequests: `pkg/registry/certificates/certificates` and the admission plugins
//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

mod validate;

use serde_json::{Value, json};

use super::check::{items, same, text};
use crate::api::csr::CertificateRequest;
use crate::api::field::quote;
use crate::api::meta::now;
use crate::api::{FieldError, GroupResource, Meta, Status};
use crate::server::auth::authn::review::user_info;
use crate::server::auth::authz::{self, Attributes};
use crate::server::auth::user::MASTERS;
use crate::server::registry::strategy::{Context, Strategy, defaults};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateSigningRequests, which say who asks: the server's word, not the client's.
pub struct SigningRequestStrategy;

impl Strategy for SigningRequestStrategy {
    fn prepare_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({});
        let info = user_info(cx.user);
        for field in ["username", "uid", "groups", "extra"] {
            defaults::keep(&mut object["spec"], &info, field);
        }
        no_masters(object)
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate::request(object, None)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        // What is asked for stays; approval and certificate have subresources.
        defaults::keep(new, old, "spec");
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::update(new, old, validate::Part::Main)
    }

    fn prepare_subresource(
        &self,
        cx: &Context<'_>,
        sub: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        defaults::keep(new, old, "spec");
        if sub == "approval" {
            permitted(cx, "approve", old)?;
            let conditions = new["status"]["conditions"].take();
            defaults::keep(new, old, "status");
            if !conditions.is_null() {
                new["status"]["conditions"] = conditions;
            } else if let Some(status) = new["status"].as_object_mut() {
                status.remove("conditions");
            }
        } else {
            let changed = |field: &str| !same(&new["status"][field], &old["status"][field]);
            if changed("certificate") || changed("conditions") {
                permitted(cx, "sign", old)?;
            }
            keep_conditions(new, old, "Approved");
            keep_conditions(new, old, "Denied");
        }
        stamp(new, old);
        Ok(())
    }

    fn validate_subresource(&self, _: &Context<'_>, sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let part = if sub == "approval" { validate::Part::Approval } else { validate::Part::Status };
        validate::update(new, old, part)
    }
}

/// The bytes of a field that the API shows in base64.
fn bytes(value: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text(value)).unwrap_or_default()
}

fn forbidden(object: &Value, why: impl std::fmt::Display) -> Status {
    Status::forbidden(&GroupResource::new(GROUP, "certificatesigningrequests"), Meta::of(object).name(), why)
}

/// Nobody gets a certificate of the group that may do everything.
fn no_masters(object: &Value) -> Result<(), Status> {
    if text(&object["spec"]["signerName"]) != CLIENT_SIGNER {
        return Ok(());
    }
    // One that cannot be read is told so by validation.
    let Ok(request) = CertificateRequest::parse(&bytes(&object["spec"]["request"])) else { return Ok(()) };
    if request.organizations.iter().any(|o| o == MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(forbidden(object, why));
    }
    Ok(())
}

/// The user may approve, or sign, for the request's signer, or for all of the signer's domain.
fn permitted(cx: &Context<'_>, verb: &str, old: &Value) -> Result<(), Status> {
    let signer = text(&old["spec"]["signerName"]);
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let ok = [signer, &domain].iter().any(|name| {
        let wanted =
            Attributes { verb, group: GROUP, resource: "signers", name: Some(name), ..Attributes::default() };
        authz::allowed(cx.reader, cx.user, &wanted)
    });
    if ok {
        return Ok(());
    }
    Err(forbidden(old, format!("user not permitted to {verb} requests with signerName {}", quote(signer))))
}

/// Conditions of this type stay as they are, unless some were added or removed, which validation refuses.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let before: Vec<&Value> =
        items(&old["status"]["conditions"]).iter().filter(|c| text(&c["type"]) == kind).collect();
    let Some(list) = new["status"]["conditions"].as_array_mut() else { return };
    let now: Vec<&mut Value> = list.iter_mut().filter(|c| c["type"] == kind).collect();
    if now.len() == before.len() {
        now.into_iter().zip(before).for_each(|(now, before)| *now = before.clone());
    }
}

/// Fills in when a condition was written and when it became what it is.
fn stamp(new: &mut Value, old: &Value) {
    let Some(list) = new["status"]["conditions"].as_array_mut() else { return };
    for condition in list {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(now());
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |o: &&Value| o["type"] == condition["type"] && o["status"] == condition["status"];
            let before = items(&old["status"]["conditions"]).iter().find(same);
            let known = before.map(|o| o["lastTransitionTime"].clone()).filter(|t| !t.is_null());
            condition["lastTransitionTime"] = known.unwrap_or_else(|| json!(now()));
        }
    }
}

#[cfg(test)]
mod tests;
