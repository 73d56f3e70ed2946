//! Query parameters: the options of `meta/v1`.

use std::collections::HashMap;

use http::{HeaderMap, Uri, header};

use crate::api::{FieldError, FieldSelector, FieldValidation, GroupKind, LabelSelector, Path, Status};
use crate::server::objects::{DeleteOptions, ListOptions, Match, Propagation, WriteOptions};
use crate::server::request_info::{is_true, query_pairs};
use crate::store::Revision;

/// Names of field managers may have this many bytes.
const MANAGER_MAX: usize = 128;

/// The decoded query of a request; of a parameter that is given twice the first counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(HashMap<String, Vec<String>>);

impl Params {
    pub(super) fn parse(uri: &Uri) -> Self {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in query_pairs(uri.query().unwrap_or_default()) {
            map.entry(key.into_owned()).or_default().push(value.into_owned());
        }
        Self(map)
    }

    /// The value, if it is there and not empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.first().map(String::as_str).filter(|v| !v.is_empty())
    }

    /// All values.
    pub(super) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag is set.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(|v| v.first()).is_some_and(|v| is_true(v))
    }

    /// Whether the parameter is there at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A number.
    ///
    /// # Errors
    /// 400.
    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let bad = |_| {
            Status::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax (parameter {key})"
            ))
        };
        text.parse().map(Some).map_err(bad)
    }

    /// Options of a create, update or patch.
    ///
    /// # Errors
    /// 400 or 422.
    pub(super) fn write_options(&self, kind: &str, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        let invalid = |error| Status::invalid(&GroupKind::new("meta.k8s.io", kind.to_owned()), "", &[error]);
        let path = Path::new;
        let validation = match self.get("fieldValidation") {
            None => FieldValidation::Warn,
            Some(text) => FieldValidation::parse(text).ok_or_else(|| {
                let supported = ["Ignore", "Strict", "Warn"];
                invalid(FieldError::not_supported(&path("fieldValidation"), text, &supported))
            })?,
        };
        let field_manager = match self.get("fieldManager") {
            Some(name) if name.len() > MANAGER_MAX => {
                return Err(invalid(FieldError::too_long(&path("fieldManager"), MANAGER_MAX)));
            }
            Some(name) => name.to_owned(),
            None => default_manager(headers),
        };
        let dry_run = self.dry_run(kind)?;
        Ok(WriteOptions {
            dry_run,
            field_manager,
            field_validation: validation,
            force: self.flag("force"),
            patch: kind == "PatchOptions",
            named: self.get("fieldManager").is_some(),
        })
    }

    /// `dryRun`.
    ///
    /// # Errors
    /// 422 for another value than `All`.
    pub(super) fn dry_run(&self, kind: &str) -> Result<bool, Status> {
        let values = self.all("dryRun");
        match values.iter().find(|v| !v.is_empty() && *v != "All") {
            None => Ok(values.iter().any(|v| v == "All")),
            Some(other) => {
                let error = FieldError::not_supported(&Path::new("dryRun"), other.as_str(), &["All"]);
                Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind.to_owned()), "", &[error]))
            }
        }
    }

    /// Options of a list or watch.
    ///
    /// # Errors
    /// 400 or 422.
    pub(super) fn list_options(&self) -> Result<ListOptions, Status> {
        let labels = self.get("labelSelector").map(LabelSelector::parse).transpose();
        let fields = self.get("fieldSelector").map(FieldSelector::parse).transpose();
        let options = ListOptions {
            labels: labels.map_err(|e| Status::bad_request(e.to_string()))?.unwrap_or_default(),
            fields: fields.map_err(|e| Status::bad_request(e.to_string()))?.unwrap_or_default(),
            limit: self.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            continues: self.get("continue").map(str::to_owned),
            revision: self.revision()?,
            matching: self.matching()?,
        };
        self.check_list(&options)?;
        Ok(options)
    }

    /// `resourceVersion`.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub(super) fn revision(&self) -> Result<Option<Revision>, Status> {
        let Some(text) = self.get("resourceVersion") else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let error =
                FieldError::invalid(&Path::new("resourceVersion"), text, "strconv.ParseUint: invalid syntax");
            Status::bad_request(error.to_string())
        })
    }

    fn matching(&self) -> Result<Option<Match>, Status> {
        match self.get("resourceVersionMatch") {
            None => Ok(None),
            Some("Exact") => Ok(Some(Match::Exact)),
            Some("NotOlderThan") => Ok(Some(Match::NotOlderThan)),
            Some(other) => {
                let path = Path::new("resourceVersionMatch");
                Err(invalid_list(FieldError::not_supported(&path, other, &["Exact", "NotOlderThan", ""])))
            }
        }
    }

    /// Combinations that make no sense, as upstream's `ValidateListOptions`.
    fn check_list(&self, options: &ListOptions) -> Result<(), Status> {
        let path = Path::new("resourceVersionMatch");
        let forbidden = |detail: &str| Err(invalid_list(FieldError::forbidden(&path, detail)));
        if self.has("sendInitialEvents") {
            return match (self.flag("watch"), options.matching) {
                (false, _) => Err(invalid_list(FieldError::forbidden(
                    &Path::new("sendInitialEvents"),
                    "sendInitialEvents is forbidden for list",
                ))),
                (_, Some(Match::NotOlderThan)) => Ok(()),
                _ => forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
            };
        }
        let Some(matching) = options.matching else { return Ok(()) };
        if self.flag("watch") {
            return forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if options.revision.is_none() {
            return forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if options.continues.is_some() {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        if matching == Match::Exact && options.revision == Some(0) {
            return forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        Ok(())
    }

    /// Options of a delete, which the body may add to.
    ///
    /// # Errors
    /// 400 or 422.
    pub(super) fn delete_options(
        &self,
        body: Option<&serde_json::Value>,
    ) -> Result<(DeleteOptions, bool), Status> {
        let null = serde_json::Value::Null;
        let body = body.unwrap_or(&null);
        let mut propagation = self.get("propagationPolicy").or_else(|| body["propagationPolicy"].as_str());
        let orphan = self.has("orphanDependents").then(|| self.flag("orphanDependents"));
        if let Some(orphan) = orphan.or_else(|| body["orphanDependents"].as_bool()) {
            propagation = propagation.or(Some(if orphan { "Orphan" } else { "Background" }));
        }
        let grace = self.number("gracePeriodSeconds")?.or_else(|| body["gracePeriodSeconds"].as_i64());
        let text = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        let options = DeleteOptions {
            grace_period_seconds: grace,
            propagation: propagation.map(Propagation::parse).transpose()?,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        };
        let dry_run = self.dry_run("DeleteOptions")?
            || body["dryRun"].as_array().is_some_and(|list| list.iter().any(|v| v == "All"));
        Ok((options, dry_run))
    }
}

fn invalid_list(error: FieldError) -> Status {
    Status::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", &[error])
}

/// The first word of the user agent, as upstream names managers that do not name themselves.
fn default_manager(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
    let name = agent.split('/').next().unwrap_or(agent);
    name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(query: &str) -> Params {
        Params::parse(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn list_options_are_checked_as_upstream() {
        for (query, wrong) in [
            ("resourceVersionMatch=Exact", "is forbidden unless resourceVersion is provided"),
            ("resourceVersionMatch=Exact&resourceVersion=0", "forbidden for resourceVersion \"0\""),
            ("resourceVersionMatch=x", "Unsupported value: \"x\""),
            ("resourceVersion=1&resourceVersionMatch=Exact&continue=a", "when continue is provided"),
            ("sendInitialEvents=true&watch=true", "requires setting resourceVersionMatch"),
            ("sendInitialEvents=true", "forbidden for list"),
            ("resourceVersion=x", "invalid syntax"),
            ("limit=x", "invalid syntax"),
        ] {
            let message = params(query).list_options().unwrap_err().message;
            assert!(message.contains(wrong), "{query}: {message}");
        }
        let options =
            params("limit=5&resourceVersion=7&resourceVersionMatch=NotOlderThan").list_options().unwrap();
        assert_eq!(
            (options.limit, options.revision, options.matching),
            (5, Some(7), Some(Match::NotOlderThan))
        );
    }

    #[test]
    fn write_options_have_defaults() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "kubectl/v1.32 (linux)".parse().unwrap());
        let options = params("dryRun=All&force=true").write_options("CreateOptions", &headers).unwrap();
        assert!(options.dry_run && options.force);
        assert_eq!((&*options.field_manager, options.field_validation), ("kubectl", FieldValidation::Warn));
        assert_eq!(params("dryRun=x").write_options("CreateOptions", &headers).unwrap_err().code, 422);
        assert_eq!(
            params("fieldValidation=x").write_options("CreateOptions", &headers).unwrap_err().code,
            422
        );
    }

    #[test]
    fn delete_options_come_from_query_and_body() {
        let body = json!({"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "gracePeriodSeconds": 5});
        let (options, dry_run) = params("gracePeriodSeconds=0").delete_options(Some(&body)).unwrap();
        assert_eq!(
            (options.grace_period_seconds, options.propagation),
            (Some(0), Some(Propagation::Foreground))
        );
        assert_eq!((options.uid.as_deref(), dry_run), (Some("u"), false));
        let (options, _) = params("orphanDependents=true").delete_options(None).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Orphan));
    }
}
