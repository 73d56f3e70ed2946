//! A container's environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, Secret};

use super::services::variables;
use super::{ConfigError, Request, env_file};
use crate::agent::expand::expand;
use crate::agent::fields::Fields;
use crate::agent::mirrors::is_static;
use crate::agent::spec::{full_name, namespace};

/// All variables in order; later ones win.
pub(super) async fn environment(request: &Request<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let spec = request.pod.spec.as_ref();
    let links = spec.and_then(|s| s.enable_service_links).unwrap_or(true);
    // Without the API server's address a pod could not do its work; a static pod may be meant to run without it.
    if !is_static(request.pod)
        && let Err(error) = request.context.services.wait_until_ready().await
    {
        tracing::debug!(%error, "Services");
        let text = "services have not yet been read at least once, cannot construct envvars";
        return Err(ConfigError(text.into()));
    }
    let services = request.context.services.state();
    let services = variables(services.iter().map(Arc::as_ref), namespace(request.pod), links);
    let services: BTreeMap<String, String> = services.into_iter().collect();
    let mut own: Vec<(String, String)> = Vec::new();
    for source in request.container.env_from.iter().flatten() {
        own.extend(from_source(request, source).await?);
    }
    for variable in request.container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match from_reference(request, variable, source).await? {
                Some(value) => value,
                None => continue,
            },
            None => expand(variable.value.as_deref().unwrap_or_default(), &|name| {
                let own = own.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
                own.or_else(|| services.get(name).cloned())
            }),
        };
        own.push((variable.name.clone(), value));
    }
    let mut all = vec![("HOSTNAME".to_owned(), request.hostname.to_owned())];
    all.extend(services.into_iter().filter(|(k, _)| !own.iter().any(|(o, _)| o == k)));
    all.extend(own);
    Ok(all)
}

/// The object, `None` if it is not there and need not be.
async fn config_map(
    request: &Request<'_>,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<ConfigMap>>, ConfigError> {
    let watched = request.context.objects.config_map(namespace(request.pod), name);
    watched.get().await.required("configmap", name, optional).map_err(ConfigError)
}

async fn secret(
    request: &Request<'_>,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<Secret>>, ConfigError> {
    let watched = request.context.objects.secret(namespace(request.pod), name);
    watched.get().await.required("secret", name, optional).map_err(ConfigError)
}

async fn from_source(
    request: &Request<'_>,
    source: &EnvFromSource,
) -> Result<Vec<(String, String)>, ConfigError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        let object = config_map(request, &reference.name, reference.optional.unwrap_or(false)).await?;
        let data = object.iter().flat_map(|o| o.data.iter().flatten());
        all.extend(data.map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
    }
    if let Some(reference) = &source.secret_ref {
        let object = secret(request, &reference.name, reference.optional.unwrap_or(false)).await?;
        let data = object.iter().flat_map(|o| o.data.iter().flatten());
        all.extend(data.map(|(k, v)| (format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned())));
    }
    Ok(all)
}

async fn from_reference(
    request: &Request<'_>,
    variable: &EnvVar,
    source: &EnvVarSource,
) -> Result<Option<String>, ConfigError> {
    let ns = namespace(request.pod);
    let fields = Fields {
        pod: request.pod,
        addresses: request.addresses,
        node_addresses: &request.context.node_addresses(),
        allocatable: request.context.allocatable,
    };
    if let Some(selector) = &source.field_ref {
        return fields.field(selector).map(Some).map_err(|e| ConfigError(e.to_string()));
    }
    if let Some(selector) = &source.resource_field_ref {
        let value = fields.resource(selector, &request.container.name);
        return value.map(Some).map_err(|e| ConfigError(e.to_string()));
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let Some(object) = config_map(request, &selector.name, optional).await? else { return Ok(None) };
        let value = object.data.as_ref().and_then(|d| d.get(&selector.key)).cloned();
        return key(value, optional, &selector.key, "ConfigMap", ns, &selector.name);
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let Some(object) = secret(request, &selector.name, optional).await? else { return Ok(None) };
        let value = object.data.as_ref().and_then(|d| d.get(&selector.key));
        let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return key(value, optional, &selector.key, "Secret", ns, &selector.name);
    }
    if let Some(selector) = &source.file_key_ref {
        return from_file(request, selector);
    }
    Err(ConfigError(format!("environment variable {} has a source this node does not know", variable.name)))
}

/// A variable of a file that is there or that need not be.
fn from_file(request: &Request<'_>, selector: &FileKeySelector) -> Result<Option<String>, ConfigError> {
    let FileKeySelector { key, optional, path, volume_name } = selector;
    let optional = optional.unwrap_or(false);
    let volume = request.volumes.get(volume_name).ok_or_else(|| {
        ConfigError(format!("cannot find the volume \"{volume_name}\" referenced by FileKeyRef"))
    })?;
    let text = match env_file::read(&volume.path, path) {
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| e.to_string()),
    };
    let value = text.and_then(|text| env_file::value(&text, key)).map_err(|error| {
        tracing::warn!(pod = %full_name(request.pod), volume = volume_name, path, error, "an env file is of no use");
        ConfigError("couldn't parse env file".into())
    })?;
    if value.is_none() && !optional {
        let file = volume.path.join(path);
        let text = format!("environment variable key \"{key}\" not found in file \"{}\"", file.display());
        return Err(ConfigError(text));
    }
    Ok(value)
}

fn key(
    value: Option<String>,
    optional: bool,
    key: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    match value {
        None if !optional => {
            Err(ConfigError(format!("couldn't find key {key} in {kind} {namespace}/{name}")))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_named_as_upstream_names_them() {
        let error = key(None, false, "k", "Secret", "ns", "s").expect_err("missing key");
        assert_eq!(error.to_string(), "couldn't find key k in Secret ns/s");
        assert_eq!(key(None, true, "k", "Secret", "ns", "s").expect("optional"), None);
    }
}
