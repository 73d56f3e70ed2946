//! Query parameters: the options of `meta/v1`.

use std::collections::HashMap;

use http::{HeaderMap, Uri, header};
use serde_json::Value;

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
        let bad = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(bad)
    }

    /// Options of a create or update.
    ///
    /// # Errors
    /// 422.
    pub(super) fn write_options(&self, kind: &str, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        self.options(kind, headers, Vec::new())
    }

    /// Options of a patch.
    ///
    /// # Errors
    /// 422.
    pub(super) fn patch_options(&self, applies: bool, headers: &HeaderMap) -> Result<WriteOptions, Status> {
        let mut errors = Vec::new();
        if applies && self.get("fieldManager").is_none() {
            errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        if !applies && self.has("force") {
            errors
                .push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        self.options("PatchOptions", headers, errors)
    }

    fn options(
        &self,
        kind: &str,
        headers: &HeaderMap,
        mut errors: Vec<FieldError>,
    ) -> Result<WriteOptions, Status> {
        let manager = self.get("fieldManager");
        errors.extend(manager.map(manager_errors).unwrap_or_default());
        errors.extend(dry_run_error(self.all("dryRun")));
        let validation =
            self.get("fieldValidation").map_or(Some(FieldValidation::Warn), FieldValidation::parse);
        if validation.is_none() {
            let text = self.get("fieldValidation").unwrap_or_default();
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(&Path::new("fieldValidation"), text, &supported));
        }
        match validation {
            Some(field_validation) if errors.is_empty() => Ok(WriteOptions {
                dry_run: self.all("dryRun").iter().any(|v| v == "All"),
                field_manager: manager.map_or_else(|| default_manager(headers), str::to_owned),
                field_validation,
                force: self.flag("force"),
                patch: kind == "PatchOptions",
                named: manager.is_some(),
            }),
            _ => Err(invalid(kind, &errors)),
        }
    }

    /// Options of a list or watch.
    ///
    /// # Errors
    /// 400 or 422.
    pub(super) fn list_options(&self) -> Result<ListOptions, Status> {
        let labels = self.get("labelSelector").map(LabelSelector::parse).transpose();
        let fields = self.get("fieldSelector").map(FieldSelector::parse).transpose();
        self.check_list()?;
        Ok(ListOptions {
            labels: labels.map_err(|e| Status::bad_request(e.to_string()))?.unwrap_or_default(),
            fields: fields.map_err(|e| Status::bad_request(e.to_string()))?.unwrap_or_default(),
            limit: self.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            continues: self.get("continue").map(str::to_owned),
            revision: self.revision()?,
            matching: self.matching(),
        })
    }

    /// `resourceVersion`.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub(super) fn revision(&self) -> Result<Option<Revision>, Status> {
        let Some(text) = self.get("resourceVersion") else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            let error = FieldError::invalid(&Path::new("resourceVersion"), text, why);
            Status::bad_request(format!("invalid resource version: {error}"))
        })
    }

    fn matching(&self) -> Option<Match> {
        match self.get("resourceVersionMatch")? {
            "Exact" => Some(Match::Exact),
            "NotOlderThan" => Some(Match::NotOlderThan),
            _ => None,
        }
    }

    /// Combinations that make no sense, as upstream's `ValidateListOptions`.
    fn check_list(&self) -> Result<(), Status> {
        let path = Path::new("resourceVersionMatch");
        let initial = self.has("sendInitialEvents");
        let watch = self.flag("watch");
        let mut errors = Vec::new();
        let mut forbidden = |path: &Path, why: &str| errors.push(FieldError::forbidden(path, why));
        let given = self.get("resourceVersionMatch");
        if watch && initial && given != Some("NotOlderThan") {
            forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if let Some(matching) = given {
            if watch && !initial {
                forbidden(
                    &path,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !watch && self.get("resourceVersion").is_none() {
                forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !watch && self.get("continue").is_some() {
                forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
            }
            let supported: &[&str] = if watch { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
            if !supported.contains(&matching) {
                errors.push(FieldError::not_supported(&path, matching, supported));
            }
            let mut forbidden = |why: &str| errors.push(FieldError::forbidden(&path, why));
            if !watch && matching == "Exact" && self.get("resourceVersion") == Some("0") {
                forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            if watch && self.get("continue").is_some() {
                forbidden("resourceVersionMatch is forbidden when continue is provided");
            }
        }
        if initial && !watch {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(FieldError::forbidden(&Path::new("sendInitialEvents"), why));
        }
        if errors.is_empty() { Ok(()) } else { Err(invalid("ListOptions", &errors)) }
    }

    /// Options of a delete: those of the body, or without one those of the query.
    ///
    /// # Errors
    /// 400 or 422.
    pub(super) fn delete_options(&self, body: Option<&Value>) -> Result<(DeleteOptions, bool), Status> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (given, dry_run) = match body {
            Some(body) => (
                Given {
                    grace: body["gracePeriodSeconds"].as_i64(),
                    propagation: text(&body["propagationPolicy"]),
                    orphan: body["orphanDependents"].as_bool(),
                },
                body["dryRun"].as_array().into_iter().flatten().filter_map(text).collect(),
            ),
            None => (
                Given {
                    grace: self.number("gracePeriodSeconds")?,
                    propagation: self.get("propagationPolicy").map(str::to_owned),
                    orphan: self.has("orphanDependents").then(|| self.flag("orphanDependents")),
                },
                self.all("dryRun").to_vec(),
            ),
        };
        let preconditions = &body.unwrap_or(&Value::Null)["preconditions"];
        let options = DeleteOptions {
            // A negative time is the shortest there is.
            grace_period_seconds: given.grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            orphan_dependents: given.orphan,
            propagation: given.propagation(&dry_run)?,
            uid: text(&preconditions["uid"]),
            resource_version: text(&preconditions["resourceVersion"]),
        };
        Ok((options, dry_run.iter().any(|v| v == "All")))
    }
}

/// What a client says of a deletion.
struct Given {
    grace: Option<i64>,
    propagation: Option<String>,
    orphan: Option<bool>,
}

impl Given {
    /// The propagation policy, if all that is given can be.
    fn propagation(&self, dry_run: &[String]) -> Result<Option<Propagation>, Status> {
        let path = Path::new("propagationPolicy");
        let mut errors = Vec::new();
        let text = self.propagation.as_deref();
        if let (Some(text), Some(_)) = (text, self.orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, text, why));
        }
        let known = text.map(|text| (text, Propagation::parse(text)));
        if let Some((text, None)) = known {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&path, text, &supported));
        }
        errors.extend(dry_run_error(dry_run));
        if !errors.is_empty() {
            return Err(invalid("DeleteOptions", &errors));
        }
        let by_orphan = self.orphan.map(|o| if o { Propagation::Orphan } else { Propagation::Background });
        Ok(known.and_then(|(_, propagation)| propagation).or(by_orphan))
    }
}

/// What is wrong with the name of a field manager.
fn manager_errors(name: &str) -> Vec<FieldError> {
    let path = Path::new("fieldManager");
    let mut errors = Vec::new();
    if name.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(&path, MANAGER_MAX));
    }
    let unprintable = name.char_indices().filter(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '));
    errors.extend(unprintable.map(|(at, c)| {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        FieldError::invalid(&path, name, why)
    }));
    errors
}

fn dry_run_error(values: &[String]) -> Option<FieldError> {
    let wrong = values.iter().any(|v| !v.is_empty() && v != "All");
    wrong.then(|| FieldError::not_supported(&Path::new("dryRun"), values.to_vec(), &["All"]))
}

fn invalid(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&GroupKind::new("meta.k8s.io", kind.to_owned()), "", errors)
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
            (Some(5), Some(Propagation::Foreground))
        );
        assert_eq!((options.uid.as_deref(), dry_run), (Some("u"), false));
        let (options, _) = params("orphanDependents=true").delete_options(None).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Orphan));
        let status =
            params("orphanDependents=true&propagationPolicy=x&dryRun=y").delete_options(None).unwrap_err();
        assert_eq!(
            status.message,
            "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"x\": \
             orphanDependents and deletionPropagation cannot be both set, propagationPolicy: Unsupported value: \"x\": \
             supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\", \
             dryRun: Unsupported value: [\"y\"]: supported values: \"All\"]"
        );
    }

    #[test]
    fn patch_options_differ_for_applies() {
        let headers = HeaderMap::new();
        let outcome = |query: &str, applies| params(query).patch_options(applies, &headers).map(|o| o.force);
        assert_eq!(outcome("fieldManager=m&force=true", true), Ok(true));
        for (query, applies, wrong) in [
            ("", true, "fieldManager: Required value: is required for apply patch"),
            ("force=false", false, "force: Forbidden: may not be specified for non-apply patch"),
            (
                "fieldManager=a%07b",
                false,
                "fieldManager: Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)",
            ),
        ] {
            let status = outcome(query, applies).unwrap_err();
            assert!(status.code == 422 && status.message.ends_with(wrong), "{query}: {status}");
        }
    }
}
