//! What a pod must look like: `ValidatePodSpec` of `pkg/apis/core/validation`.
//!
//! Paths and order of the errors are upstream's, also where a path names less than it could.

mod affinity;
mod annotations;
mod container;
mod environment;
mod mounts;
mod network;
mod ports;
mod probe;
mod projected;
mod resources;
mod restart;
mod scheduling;
mod security;
mod spec;
mod volume;
mod volume_sources;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use annotations::{
    APP_ARMOR, MIRROR, SECCOMP_CONTAINER, SECCOMP_POD, changes as annotation_changes,
    specific as specific_annotations,
};
pub use network::ip;
pub use resources::container_name as resource_name;
pub use security::app_armor;

use crate::api::{FieldError, Path, names};
use crate::server::registry::strategies::check::{Errors, entries, indexed, is_empty, text};

/// The lists of a spec that hold containers, in upstream's order of visits.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The containers of all lists with their paths.
pub fn containers<'s>(spec: &'s Value, path: &Path) -> impl Iterator<Item = (&'s Value, Path)> + use<'s> {
    let lists = CONTAINER_LISTS.map(|list| indexed(&spec[list], &path.child(list)));
    lists.into_iter().flatten()
}

/// What the parts of one spec must know of the whole.
pub struct Scope<'a> {
    /// The spec.
    pub spec: &'a Value,
    /// The name of the pod whose spec it is; nothing for that of a template.
    pub pod: Option<&'a str>,
    /// Well-formed volumes by name.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    /// Names of the pod's resource claims.
    pub claims: BTreeSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn new(spec: &'a Value, pod: Option<&'a str>) -> Self {
        let claims = crate::server::registry::strategies::check::items(&spec["resourceClaims"]);
        let claims = claims.iter().map(|c| text(&c["name"])).filter(|name| !name.is_empty()).collect();
        Self { spec, pod, volumes: BTreeMap::new(), claims }
    }

    /// Seconds the pod is given to end.
    fn grace(&self) -> Option<i64> {
        self.spec["terminationGracePeriodSeconds"].as_i64()
    }

    fn flag(&self, field: &str) -> bool {
        self.spec[field] == true
    }
}

/// All that is wrong with a pod.
pub fn pod(pod: &Value) -> Vec<FieldError> {
    let (metadata, at) = (&pod["metadata"], Path::new("metadata"));
    let path = Path::new("spec");
    let mut errors = Errors::default();
    let spec = &pod["spec"];
    annotations::specific(&metadata["annotations"], spec, &at.child("annotations"), &mut errors);
    spec::validate(spec, Some(text(&metadata["name"])), &path, &mut errors);
    if is_empty(&spec["serviceAccountName"]) {
        token_without_account(spec, &path, &mut errors);
    }
    for list in ["containers", "initContainers"] {
        for (container, path) in indexed(&spec[list], &path.child(list)) {
            container::padded_image(container, &path, &mut errors);
        }
    }
    errors.0
}

/// What is wrong with a new pod, and may be so with an old one: `ValidatePodCreate`.
pub fn new_pod(pod: &Value) -> Vec<FieldError> {
    let (spec, path) = (&pod["spec"], Path::new("spec"));
    let mut errors = Errors(self::pod(pod));
    if !is_empty(&spec["ephemeralContainers"]) {
        errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !is_empty(&spec["nodeName"]) && !is_empty(&spec["schedulingGates"]) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
    annotations::profiles_match(&pod["metadata"]["annotations"], spec, &path, &mut errors);
    errors.0
}

/// All that is wrong with a pod template.
pub fn template(template: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (spec, at) = (&template["spec"], path.child("spec"));
    template_metadata(template, path, &mut errors);
    spec::validate(spec, None, &at, &mut errors);
    annotations::profiles_match(&template["metadata"]["annotations"], spec, &at, &mut errors);
    if !is_empty(&spec["ephemeralContainers"]) {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&at.child("ephemeralContainers"), detail));
    }
    errors.0
}

/// What is wrong with labels and annotations of a pod template, whose paths leave out `metadata`.
pub fn template_metadata(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = &template["metadata"];
    errors.labels(&path.child("labels"), &metadata["labels"]);
    let at = path.child("annotations");
    annotation_keys(&metadata["annotations"], &at, errors);
    annotations::specific(&metadata["annotations"], &template["spec"], &at, errors);
}

/// Keys of annotations are qualified names, in any case.
pub fn annotation_keys(annotations: &Value, path: &Path, errors: &mut Errors) {
    for (key, _) in entries(annotations) {
        errors.invalid_all(path, &key.into(), names::qualified_name(&key.to_lowercase()));
    }
}

fn token_without_account(spec: &Value, path: &Path, errors: &mut Errors) {
    for (volume, path) in indexed(&spec["volumes"], &path.child("volumes")) {
        for (source, path) in
            indexed(&volume["projected"]["sources"], &path.child("projected").child("sources"))
        {
            if !source["serviceAccountToken"].is_null() {
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path.child("serviceAccountToken"), detail));
            }
        }
    }
}

#[cfg(test)]
mod tests;
