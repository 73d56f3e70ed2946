//! Answers `TokenRequest` of `authentication.k8s.io/v1`: `POST …/serviceaccounts/<name>/token`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Claims, Private, Reference, TokenSigner, seconds};
use crate::api::field::quote;
use crate::api::meta::time;
use crate::api::{FieldError, GroupKind, GroupResource, Meta, Path, Status};
use crate::server::reader::Reader;

/// The shortest life that can be asked for, in seconds.
const SHORTEST: i64 = 10 * 60;
/// The longest.
const LONGEST: i64 = 1 << 32;
/// The life if none is asked for.
const USUAL: i64 = 60 * 60;
/// The life that the token of a pod's own volume asks for. Such tokens hold longer than they say, for
/// clients that read them only once, as upstream's `--service-account-extend-token-expiration` has it.
const OF_A_VOLUME: i64 = 60 * 60 + 7;
/// How long those hold.
const EXTENDED: i64 = 365 * 24 * 60 * 60;

impl TokenSigner {
    /// Makes a token for a service account: `request` with its status.
    ///
    /// # Errors
    /// 404 without the service account or what the token is to be bound to; 400, 409 or 422 for a
    /// request that cannot be served.
    pub fn token_request(
        &self,
        reader: &dyn Reader,
        namespace: &str,
        name: &str,
        mut request: Value,
    ) -> Result<Value, Status> {
        let meta = Meta::of(&request);
        for (field, given, own) in [("name", meta.name(), name), ("namespace", meta.namespace(), namespace)] {
            if !given.is_empty() && given != own {
                let detail = format!("must match the service account {field} if specified");
                let error = FieldError::invalid(&Path::new("metadata").child(field), given, detail);
                return Err(Status::invalid(&kind(), name, &[error]));
            }
        }
        let of = GroupResource::new("", "serviceaccounts");
        let account = reader
            .get("serviceaccounts", Some(namespace), name)
            .ok_or_else(|| Status::not_found(&of, name))?;
        let asked = request["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL);
        validate(&request["spec"], asked)?;
        let mut audiences: Vec<String> = request["spec"]["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        if audiences.is_empty() {
            audiences.push(self.issuer.clone());
        }
        let service_account = Reference { name: name.to_owned(), uid: account.uid().to_owned() };
        let mut private = Private { namespace: namespace.to_owned(), service_account, ..Private::default() };
        bind(&mut private, reader, &request["spec"]["boundObjectRef"])?;

        let now = SystemTime::now();
        let mut life = asked;
        if asked == OF_A_VOLUME && private.pod.is_some() && audiences == [self.issuer.as_str()] {
            private.warn_after = Some(seconds(now) + asked.unsigned_abs());
            life = EXTENDED;
        }
        let claims = Claims {
            aud: audiences.clone(),
            exp: seconds(now) + life.unsigned_abs(),
            iat: seconds(now),
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            kubernetes: private,
            nbf: seconds(now),
        };
        let token = self.sign(&claims).map_err(Status::internal)?;
        let ends = jiff::Timestamp::try_from(now + Duration::from_secs(asked.unsigned_abs()))
            .map_err(Status::internal)?;
        request["metadata"] =
            json!({"name": name, "namespace": namespace, "creationTimestamp": crate::api::meta::now()});
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(asked);
        request["status"] = json!({"token": token, "expirationTimestamp": time(ends)});
        Ok(request)
    }
}

fn validate(spec: &Value, asked: i64) -> Result<(), Status> {
    let path = Path::new("spec").child("expirationSeconds");
    let detail = match asked {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        LONGEST.. if asked > LONGEST => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = FieldError::invalid(&path, spec["expirationSeconds"].clone(), detail);
    Err(Status::invalid(&kind(), "", &[error]))
}

fn kind() -> GroupKind {
    GroupKind::new("authentication.k8s.io", "TokenRequest")
}

/// As Go prints the group and version of a GroupVersionKind.
fn gvk_text(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("{group}/{version}"),
        None => format!("/{api_version}"),
    }
}

/// Binds the token to the object the request names, and to the node of its pod.
fn bind(private: &mut Private, reader: &dyn Reader, bound: &Value) -> Result<(), Status> {
    if bound.is_null() {
        return Ok(());
    }
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    let (api_version, kind, name, uid) = (text("apiVersion"), text("kind"), text("name"), text("uid"));
    let (plural, namespace) = match (api_version, kind) {
        ("v1", "Pod") => ("pods", Some(private.namespace.as_str())),
        ("v1", "Secret") => ("secrets", Some(private.namespace.as_str())),
        ("v1", "Node") => ("nodes", None),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {}, Kind={kind}",
                gvk_text(api_version)
            )));
        }
    };
    let resource = GroupResource::new("", plural);
    let object = reader.get(plural, namespace, name).ok_or_else(|| Status::not_found(&resource, name))?;
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind.to_owned()), name, why));
    }
    let reference = Reference { name: name.to_owned(), uid: object.uid().to_owned() };
    match kind {
        "Pod" => {
            let pod = object.value();
            let of = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if of != private.service_account.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                    quote(&private.service_account.name)
                )));
            }
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                let uid = reader.get("nodes", None, node).map(|n| n.uid().to_owned()).unwrap_or_default();
                private.node = Some(Reference { name: node.to_owned(), uid });
            }
            private.pod = Some(reference);
        }
        "Secret" => private.secret = Some(reference),
        _ => private.node = Some(reference),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;

    fn cluster() -> Fake {
        let fake = Fake::default();
        fake.put("serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "a", "uid": "su"}}));
        let spec = json!({"serviceAccountName": "sa", "nodeName": "n"});
        fake.put("pods", json!({"metadata": {"name": "p", "namespace": "a", "uid": "pu"}, "spec": spec}));
        let other = json!({"serviceAccountName": "other"});
        fake.put("pods", json!({"metadata": {"name": "q", "namespace": "a", "uid": "qu"}, "spec": other}));
        fake.put("secrets", json!({"metadata": {"name": "s", "namespace": "a", "uid": "ss"}}));
        fake.put("nodes", json!({"metadata": {"name": "n", "uid": "nu"}}));
        fake
    }

    fn ask(name: &str, spec: Value) -> Result<(Value, Claims), Status> {
        let dir = tempfile::tempdir().unwrap();
        let signer = TokenSigner::ensure(&dir.path().join("key"), "https://issuer").unwrap();
        let fake = cluster();
        let answer = signer.token_request(&fake, "a", name, json!({"kind": "TokenRequest", "spec": spec}))?;
        let audiences: Vec<String> = serde_json::from_value(answer["spec"]["audiences"].clone()).unwrap();
        let claims = signer
            .verify(answer["status"]["token"].as_str().unwrap(), &audiences, SystemTime::now())
            .unwrap();
        super::super::bound::check(&claims, "", &fake, SystemTime::now()).unwrap();
        Ok((answer, claims))
    }

    #[test]
    fn a_token_is_bound_to_its_pod_and_the_pods_node() {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu"});
        let (answer, claims) =
            ask("sa", json!({"expirationSeconds": 3607, "boundObjectRef": bound})).unwrap();
        let private = &claims.kubernetes;
        assert_eq!(private.pod.as_ref().map(|p| p.uid.as_str()), Some("pu"));
        assert_eq!(private.node.as_ref().map(|n| n.uid.as_str()), Some("nu"));
        assert_eq!(claims.aud, ["https://issuer"]);
        assert_eq!(claims.exp - claims.iat, 365 * 24 * 3600);
        assert_eq!(private.warn_after, Some(claims.iat + 3607));
        assert!(answer["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'));
        let (_, plain) = ask("sa", json!({"audiences": ["vault"]})).unwrap();
        assert_eq!((plain.exp - plain.iat, plain.aud.as_slice()), (3600, ["vault".to_owned()].as_slice()));
    }

    #[test]
    fn a_token_of_a_secret_or_a_node_is_bound_to_it() {
        let bound = |kind: &str, name: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}});
        let (_, of_secret) = ask("sa", bound("Secret", "s")).unwrap();
        assert_eq!(of_secret.kubernetes.secret.map(|s| s.uid).as_deref(), Some("ss"));
        let (_, of_node) = ask("sa", bound("Node", "n")).unwrap();
        assert_eq!(of_node.kubernetes.node.map(|n| n.uid).as_deref(), Some("nu"));
        let elsewhere = json!({"metadata": {"namespace": "b"}});
        let dir = tempfile::tempdir().unwrap();
        let signer = TokenSigner::ensure(&dir.path().join("key"), "https://issuer").unwrap();
        assert_eq!(
            signer.token_request(&cluster(), "a", "sa", elsewhere).unwrap_err().message,
            "TokenRequest.authentication.k8s.io \"sa\" is invalid: metadata.namespace: Invalid value: \"b\": \
             must match the service account namespace if specified"
        );
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
        for (name, spec, code, text) in [
            ("gone", json!({}), 404, "serviceaccounts \"gone\" not found"),
            (
                "sa",
                json!({"expirationSeconds": 599}),
                422,
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
            ),
            ("sa", bound("Pod", "gone", ""), 404, "pods \"gone\" not found"),
            ("sa", bound("Pod", "p", "other"), 409, "does not match the UID in record"),
            ("sa", bound("Lease", "p", ""), 400, "cannot bind token to object of type /v1, Kind=Lease"),
            ("sa", bound("Pod", "q", ""), 400, "to pod running with different serviceaccount name."),
        ] {
            let status = ask(name, spec).unwrap_err();
            assert_eq!(status.code, code);
            assert!(status.message.contains(text), "{}", status.message);
        }
    }
}
