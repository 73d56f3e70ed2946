//! Lists objects: selectors, consistency, pages.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>. A page token names
//! the revision of the first page and the last key; later pages show the objects of that revision.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Objects;
use crate::api::object::SelectableField;
use crate::api::{FieldSelector, LabelSelector, Object, Reason, Status};
use crate::server::cache::{Expired, Page, Scope};
use crate::server::registry::Resource;
use crate::store::Revision;

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Exactly the objects of that revision.
    Exact,
    /// The objects of that revision or a newer one.
    NotOlderThan,
}

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
    /// At most so many in a page; 0 is all.
    pub limit: usize,
    /// The page token of the page before.
    pub continues: Option<String>,
    /// The revision asked for; `None` is the newest.
    pub revision: Option<Revision>,
    /// What the revision means.
    pub matching: Option<Match>,
}

/// A list, or one page of it.
#[derive(Debug, Default)]
pub struct Listed {
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// The revision they are of.
    pub revision: Revision,
    /// The token of the next page.
    pub continues: Option<String>,
    /// How many objects follow this page, if that is known.
    pub remaining: Option<usize>,
}

/// A list that is refused.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub status: Status,
    /// A page token with which the client can go on all the same.
    pub continues: Option<String>,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { status, continues: None }
    }
}

impl ListOptions {
    /// Whether an object is selected; `fields` are its kind's.
    pub fn selects(&self, object: &Object, fields: &[SelectableField]) -> bool {
        (self.labels.is_everything() || self.labels.matches(|key| object.label(key)))
            && (self.fields.is_everything() || self.fields.matches(|label| object.field(label, fields)))
    }

    /// Whether every object is selected.
    pub fn selects_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Checks that a field selector names fields of the kind only.
    ///
    /// # Errors
    /// 400.
    pub fn check_fields(&self, resource: &Resource) -> Result<(), Status> {
        for term in self.fields.terms() {
            let known = matches!(&*term.field, "metadata.name" | "metadata.namespace")
                || resource.fields.iter().any(|f| f.label == term.field);
            if !known {
                return Err(Status::bad_request(unknown_field(resource, &term.field)));
            }
        }
        Ok(())
    }

    /// The objects of the request's namespace, or the one the field selector names.
    pub fn scope(&self, namespaced: bool, namespace: Option<&str>) -> Scope {
        let namespace = namespace.or_else(|| self.fields.exact("metadata.namespace")).filter(|_| namespaced);
        match (namespace, self.fields.exact("metadata.name")) {
            (Some(namespace), Some(name)) => Scope::Key(format!("{namespace}/{name}")),
            (Some(namespace), None) => Scope::Namespace(namespace.to_owned()),
            (None, Some(name)) if !namespaced => Scope::Key(name.to_owned()),
            (None, _) => Scope::All,
        }
    }
}

impl Objects {
    /// Lists objects of a kind.
    ///
    /// # Errors
    /// 400 for options that make no sense, 410 for a revision that is forgotten, 504 for one to come.
    pub fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Listed, Refused> {
        let kind = self.kind(resource)?;
        options.check_fields(resource)?;
        let scope = options.scope(resource.namespaced, namespace);
        let page = match &options.continues {
            Some(token) => {
                let (revision, after) = decode_token(token)?;
                if options.revision.is_some_and(|r| r != 0) {
                    return Err(Status::bad_request(
                        "specifying resource version is not allowed when using continue",
                    )
                    .into());
                }
                let revision = revision.unwrap_or_else(|| self.cache.revision());
                kind.at(revision, &scope, Some(after.as_bytes())).map_err(|_| token_expired(&after))?
            }
            None => match (options.revision, options.matching) {
                (Some(revision), Some(Match::Exact)) => {
                    self.check_reached(revision)?;
                    kind.at(revision, &scope, None).map_err(gone)?
                }
                (revision, _) => {
                    self.check_reached(revision.unwrap_or(0))?;
                    kind.newest(&scope)
                }
            },
        };
        Ok(cut(page, options, kind.fields()))
    }

    /// A revision this server has not reached cannot be waited for long: there is one writer.
    ///
    /// # Errors
    /// 504, as upstream after its wait.
    pub fn check_reached(&self, revision: Revision) -> Result<(), Status> {
        let current = self.cache.revision();
        if revision <= current {
            return Ok(());
        }
        let message = format!("Too large resource version: {revision}, current: {current}");
        let status = Status::timeout(message, 1);
        Err(status.cause("ResourceVersionTooLarge", "Too large resource version", ""))
    }
}

/// The words differ: kinds with fields of their own have their own conversion upstream.
fn unknown_field(resource: &Resource, field: &str) -> String {
    match &*resource.kind {
        "Job" => format!("field label {field:?} not supported for Job"),
        _ if resource.fields.is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}

fn gone(_: Expired) -> Status {
    Status::expired("The resourceVersion for the provided list is too old.")
}

/// One page of what is selected.
fn cut(page: Page, options: &ListOptions, fields: &[SelectableField]) -> Listed {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut listed = Listed { revision: page.revision, ..Listed::default() };
    let mut last = Bytes::new();
    let mut objects = page.objects.into_iter();
    for (key, object) in objects.by_ref() {
        if !options.selects(&object, fields) {
            continue;
        }
        if listed.objects.len() == limit {
            listed.continues = Some(encode_token(page.revision.cast_signed(), &last));
            // Only then is what follows worth counting: a selector would have to look at each.
            listed.remaining = options.selects_all().then(|| objects.len() + 1);
            break;
        }
        last = key;
        listed.objects.push(object);
    }
    listed
}

/// Stands for the newest revision in the token that a 410 offers.
const LATEST: i64 = -1;

/// A page token: it names the first key that may follow, as upstream's does.
fn encode_token(revision: i64, last: &[u8]) -> String {
    let start = format!("{}\0", String::from_utf8_lossy(last));
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// The revision of a page token, `None` for the newest, and the key after which its page begins.
fn decode_token(token: &str) -> Result<(Option<Revision>, String), Status> {
    let bad =
        |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|e| bad(format!(": {e}")))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(format!(": {e}")))?;
    let version = value["v"].as_str().unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(bad(format!(": server does not recognize this encoded version {version}")));
    }
    let revision = match value["rv"].as_i64() {
        Some(LATEST) => None,
        Some(revision) if revision > 0 => Revision::try_from(revision).ok(),
        _ => {
            let why = ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
            return Err(bad(why.to_owned()));
        }
    };
    match value["start"].as_str().unwrap_or_default() {
        "" => Err(bad(": encoded start key empty (version meta.k8s.io/v1)".to_owned())),
        start if start.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            Err(bad(format!(": {start}")))
        }
        start => Ok((revision, start.trim_end_matches('\0').to_owned())),
    }
}

/// 410 with a token that goes on with the newest objects, as upstream offers it.
fn token_expired(after: &str) -> Refused {
    let status = Status::new(
        410,
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    Refused { status, continues: Some(encode_token(LATEST, after.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::object::serialize;

    fn page(names: &[&str]) -> Page {
        let objects = names.iter().map(|name| {
            let bytes = serialize(json!({"metadata": {"name": name}})).at(1);
            (Bytes::from((*name).to_owned()), Arc::new(Object::from_stored(bytes, 1, &[]).unwrap()))
        });
        Page { objects: objects.collect(), revision: 9 }
    }

    #[test]
    fn pages_end_with_a_token_and_the_last_has_none() {
        let options = ListOptions { limit: 2, ..ListOptions::default() };
        let first = cut(page(&["a", "b", "c", "d"]), &options, &[]);
        assert_eq!((first.objects.len(), first.remaining), (2, Some(2)));
        assert_eq!(decode_token(&first.continues.unwrap()).unwrap(), (Some(9), "b".to_owned()));
        let last = cut(page(&["c", "d"]), &options, &[]);
        assert_eq!((last.objects.len(), last.remaining, last.continues), (2, None, None));
    }

    #[test]
    fn damaged_tokens_are_the_clients_fault() {
        let token = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let v = "meta.k8s.io/v1";
        for (token, wrong) in [
            ("x".to_owned(), "continue key is not valid: "),
            (String::new(), "continue key is not valid: "),
            (token(json!({})), "does not recognize this encoded version"),
            (token(json!({"v": v, "start": "a"})), "incorrect encoded start resourceVersion"),
            (token(json!({"v": v, "rv": 0, "start": "a"})), "incorrect encoded start resourceVersion"),
            (token(json!({"v": v, "rv": 7})), "encoded start key empty"),
            (token(json!({"v": v, "rv": 7, "start": "a/../../b"})), "continue key is not valid: a/../../b"),
        ] {
            let status = decode_token(&token).unwrap_err();
            assert!(status.code == 400 && status.message.contains(wrong), "{token}: {status}");
            assert!(status.message.starts_with("invalid continue token: "), "{status}");
        }
    }

    #[test]
    fn an_expired_token_offers_one_for_the_newest() {
        let refused = token_expired("n/b");
        assert_eq!((refused.status.code, refused.status.reason), (410, Reason::Expired));
        assert_eq!(decode_token(&refused.continues.unwrap()).unwrap(), (None, "n/b".to_owned()));
    }

    #[test]
    fn a_name_in_the_selector_narrows_the_scope() {
        let fields = FieldSelector::parse("metadata.name=a").unwrap();
        let options = ListOptions { fields, ..ListOptions::default() };
        assert_eq!(options.scope(true, Some("n")), Scope::Key("n/a".into()));
        assert_eq!(options.scope(true, None), Scope::All);
        assert_eq!(options.scope(false, None), Scope::Key("a".into()));
    }
}
