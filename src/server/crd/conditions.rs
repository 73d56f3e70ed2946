//! The status of definitions: accepted names and conditions.
//!
//! Follows upstream's naming, establishing and API approval controllers.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::definition::{Definition, Names};
use crate::api::field::quote;
use crate::api::meta::now;

/// A condition to set: type, status, reason, message.
pub(super) type Condition<'a> = (&'a str, &'a str, &'a str, String);

/// Sets a condition of a definition; the time changes with the status only.
pub(super) fn set(definition: &mut Value, (kind, status, reason, message): Condition<'_>) {
    let place = &mut definition["status"]["conditions"];
    if !place.is_array() {
        *place = json!([]);
    }
    let Value::Array(list) = place else { return };
    let new = json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now()});
    match list.iter_mut().find(|c| c["type"] == kind) {
        None => list.push(new),
        Some(old) => {
            let since = old["lastTransitionTime"].take();
            let same = old["status"] == status && since.is_string();
            *old = new;
            if same {
                old["lastTransitionTime"] = since;
            }
        }
    }
}

/// The names that definitions have had accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted(HashMap<String, (String, Names)>);

impl Accepted {
    /// Notes what a stored definition has.
    pub(super) fn note(&mut self, name: &str, definition: &Definition) {
        let names = definition.status.accepted_names.clone();
        self.0.insert(name.to_owned(), (definition.spec.group.clone(), names));
    }

    /// Forgets a definition; gives its group.
    pub(super) fn forget(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|(group, _)| group)
    }

    fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Names> {
        self.0.values().filter(move |(g, _)| *g == group).map(|(_, names)| names)
    }

    fn resources<'a>(&'a self, group: &'a str) -> HashSet<&'a str> {
        self.of_group(group)
            .flat_map(|n| [&n.plural, &n.singular].into_iter().chain(&n.short_names))
            .map(String::as_str)
            .collect()
    }

    fn kinds<'a>(&'a self, group: &'a str) -> HashSet<&'a str> {
        self.of_group(group).flat_map(|n| [n.kind.as_str(), n.list_kind.as_str()]).collect()
    }
}

/// What becomes of the names a definition asks for: the accepted ones, and why not all are, by the reason of the
/// condition.
fn decide(definition: &Definition, accepted: &Accepted) -> (Names, Option<(&'static str, String)>) {
    let (wanted, had) = (&definition.spec.names, &definition.status.accepted_names);
    let (resources, kinds) =
        (accepted.resources(&definition.spec.group), accepted.kinds(&definition.spec.group));
    let mut names = had.clone();
    let mut conflict = None;
    let in_use = |name: &str| format!("{} is already in use", quote(name));
    let mut take = |wanted: &String, had: &String, used: &HashSet<&str>, place: &mut String, reason| {
        if wanted != had && used.contains(wanted.as_str()) {
            conflict = Some((reason, in_use(wanted)));
        } else {
            place.clone_from(wanted);
        }
    };
    take(&wanted.plural, &had.plural, &resources, &mut names.plural, "PluralConflict");
    take(&wanted.singular, &had.singular, &resources, &mut names.singular, "SingularConflict");
    let new = wanted.short_names.iter().filter(|name| !had.short_names.contains(name));
    let taken: Vec<String> =
        new.filter(|name| resources.contains(name.as_str())).map(|n| in_use(n)).collect();
    let short = match taken.as_slice() {
        [] => None,
        [one] => Some(("ShortNamesConflict", one.clone())),
        many => Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    };
    if short.is_none() {
        names.short_names.clone_from(&wanted.short_names);
    }
    take(&wanted.kind, &had.kind, &kinds, &mut names.kind, "KindConflict");
    take(&wanted.list_kind, &had.list_kind, &kinds, &mut names.list_kind, "ListKindConflict");
    names.categories.clone_from(&wanted.categories);
    // Of several conflicts the last one found is told; short names are looked at before kinds.
    let later = conflict.filter(|(reason, _)| short.is_none() || reason.starts_with(['K', 'L']));
    (names, later.or(short))
}

/// Whether [`update`] would change nothing; known without decoding the definition's schemas.
pub(super) fn is_up_to_date(definition: &Definition) -> bool {
    let approved = approval(definition).is_none_or(|wanted| is_as_wanted(definition, &wanted));
    definition.spec.names == definition.status.accepted_names
        && definition.condition("NamesAccepted").is_some()
        && definition.is_true("Established")
        && approved
}

/// Brings the status of a definition up to date: names, NamesAccepted, Established, and for groups of the
/// Kubernetes community whether their approval is noted.
pub(super) fn update(object: &mut Value, definition: &Definition, accepted: &Accepted) {
    let mut named = definition.is_true("NamesAccepted");
    if definition.spec.names != definition.status.accepted_names
        || definition.condition("NamesAccepted").is_none()
    {
        let (names, conflict) = decide(definition, accepted);
        set_names(object, &names);
        named = conflict.is_none();
        let (status, (reason, message)) = match conflict {
            Some(conflict) => ("False", conflict),
            None => ("True", ("NoConflicts", "no conflicts found".to_owned())),
        };
        set_if_other(object, definition, ("NamesAccepted", status, reason, message));
    }
    let established = definition.is_true("Established");
    if named && !established {
        let message = "the initial names have been accepted".to_owned();
        set_if_other(object, definition, ("Established", "True", "InitialNamesAccepted", message));
    } else if !established {
        let message = "not all names are accepted".to_owned();
        set_if_other(object, definition, ("Established", "False", "NotAccepted", message));
    }
    if let Some(condition) = approval(definition) {
        set_if_other(object, definition, condition);
    }
}

fn is_as_wanted(definition: &Definition, (kind, status, reason, message): &Condition<'_>) -> bool {
    let found = definition.condition(kind);
    found.is_some_and(|c| c.status == *status && c.reason == *reason && c.message == *message)
}

fn set_if_other(object: &mut Value, definition: &Definition, condition: Condition<'_>) {
    if !is_as_wanted(definition, &condition) {
        set(object, condition);
    }
}

fn set_names(object: &mut Value, names: &Names) {
    let mut value = json!({"plural": names.plural, "kind": names.kind});
    let texts = [("singular", &names.singular), ("listKind", &names.list_kind)];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        value[field] = json!(text);
    }
    let lists = [("shortNames", &names.short_names), ("categories", &names.categories)];
    for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        value[field] = json!(list);
    }
    object["status"]["acceptedNames"] = value;
}

/// The annotation with which an API of the Kubernetes community says who approved it.
pub(super) const APPROVED: &str = "api-approved.kubernetes.io";

/// Whether a group is the Kubernetes community's.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// What the approval annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

impl Approval {
    pub(super) fn of(annotation: &str) -> (Self, String) {
        const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
        let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && scheme.chars().all(|c| c.is_ascii_alphanumeric())
                && !rest.starts_with('/')
                && !rest.is_empty()
        });
        let must = format!("protected groups must have approval annotation {}", quote(APPROVED));
        match annotation {
            "" => (Self::Missing, format!("{must}, {SEE}")),
            text if text.starts_with("unapproved") => {
                (Self::Bypassed, format!("not approved: {}", quote(text)))
            }
            text if is_url => (Self::Approved, format!("approved in {text}")),
            _ => (
                Self::Invalid,
                format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}"),
            ),
        }
    }
}

fn approval(definition: &Definition) -> Option<Condition<'static>> {
    if !is_protected(&definition.spec.group) {
        return None;
    }
    let annotation = definition.metadata.annotations.get(APPROVED).map_or("", String::as_str);
    let (approval, message) = Approval::of(annotation);
    let (status, reason) = match approval {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
    };
    Some(("KubernetesAPIApprovalPolicyConformant", status, reason, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com", "names": {
            "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    fn updated(mut object: Value, accepted: &Accepted) -> (Value, Definition) {
        let definition: Definition = serde_json::from_value(object.clone()).unwrap();
        update(&mut object, &definition, accepted);
        let definition = serde_json::from_value(object.clone()).unwrap();
        (object, definition)
    }

    #[test]
    fn free_names_are_accepted_at_once() {
        let (object, definition) = updated(crd("tabs", "Tab", &["t"]), &Accepted::default());
        assert!(definition.is_true("NamesAccepted") && definition.is_true("Established"));
        assert_eq!(definition.condition("NamesAccepted").unwrap().reason, "NoConflicts");
        assert_eq!(definition.condition("Established").unwrap().reason, "InitialNamesAccepted");
        assert_eq!(definition.status.accepted_names, definition.spec.names);
        assert!(is_up_to_date(&definition));
        assert_eq!(updated(object.clone(), &Accepted::default()).0, object, "nothing more is to be done");
    }

    #[test]
    fn names_in_use_are_told_and_given_later() {
        let (_, first) = updated(crd("tabs", "Tab", &["t"]), &Accepted::default());
        let mut accepted = Accepted::default();
        accepted.note("tabs.example.com", &first);
        for (object, reason, message) in [
            (crd("tables", "Tab", &[]), "ListKindConflict", "\"TabList\" is already in use"),
            (crd("tables", "Table", &["t"]), "ShortNamesConflict", "\"t\" is already in use"),
            (
                crd("t", "Table", &["tabs", "tab"]),
                "ShortNamesConflict",
                "[\"tabs\" is already in use, \"tab\" is already in use]",
            ),
        ] {
            let (object, definition) = updated(object, &accepted);
            let condition = definition.condition("NamesAccepted").unwrap();
            assert_eq!(
                (&*condition.status, &*condition.reason, &*condition.message),
                ("False", reason, message)
            );
            assert_eq!(definition.condition("Established").unwrap().reason, "NotAccepted");
            let (_, definition) = updated(object, &Accepted::default());
            assert!(definition.is_true("Established"), "the name is free again");
        }
        assert_eq!(accepted.forget("tabs.example.com").unwrap(), "example.com");
    }

    #[test]
    fn times_change_with_the_status_alone() {
        let mut object = json!({"status": {"conditions": [
            {"type": "A", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
        set(&mut object, ("A", "True", "R", "m".into()));
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(object["status"]["conditions"][0]["reason"], "R");
        set(&mut object, ("A", "False", "R", "m".into()));
        assert_ne!(object["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
    }

    #[test]
    fn approval_is_a_url_or_a_reason() {
        assert!(is_protected("k8s.io") && is_protected("x.kubernetes.io") && !is_protected("myk8s.io"));
        assert_eq!(Approval::of("").0, Approval::Missing);
        assert_eq!(Approval::of("https://github.com/kubernetes/x").0, Approval::Approved);
        assert_eq!(Approval::of("unapproved, test").0, Approval::Bypassed);
        assert_eq!(Approval::of("yes").0, Approval::Invalid);
    }
}
