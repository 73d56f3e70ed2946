//! Which files configMap, secret, downwardAPI and projected volumes consist of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};

use super::atomic::{File, Files};
use super::{Volumes, owner};
use crate::agent::fields::Fields;
use crate::agent::objects::Watched;
use crate::agent::spec::namespace;

const DEFAULT_MODE: i32 = 0o644;

fn file(data: Vec<u8>, mode: Option<i32>, default: i32) -> File {
    let mode = u32::try_from(mode.unwrap_or(default)).unwrap_or(0o644) & 0o777;
    File { data, mode, user: None }
}

/// The keys of an object as files: all of them, or those that `items` name.
fn select(
    data: impl Fn(&str) -> Option<Vec<u8>>,
    keys: Vec<String>,
    items: Option<&Vec<KeyToPath>>,
    default: i32,
    optional: bool,
    missing: &str,
) -> Result<Files, String> {
    let mut files = Files::new();
    match items.filter(|i| !i.is_empty()) {
        None => {
            for key in keys {
                let content = data(&key).unwrap_or_default();
                files.insert(key.into(), file(content, None, default));
            }
        }
        Some(items) => {
            for item in items {
                match data(&item.key) {
                    Some(content) => {
                        files.insert(PathBuf::from(&item.path), file(content, item.mode, default));
                    }
                    None if optional => {}
                    None => return Err(format!("{missing}: {}", item.key)),
                }
            }
        }
    }
    Ok(files)
}

fn config_map_files(
    object: Option<&ConfigMap>,
    items: Option<&Vec<KeyToPath>>,
    default: i32,
    optional: bool,
) -> Result<Files, String> {
    let Some(object) = object else { return Ok(Files::new()) };
    let get = |key: &str| {
        let text = object.data.as_ref().and_then(|d| d.get(key)).map(|v| v.clone().into_bytes());
        text.or_else(|| object.binary_data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.clone()))
    };
    let keys =
        object.data.iter().flat_map(|d| d.keys()).chain(object.binary_data.iter().flat_map(|d| d.keys()));
    select(
        get,
        keys.cloned().collect(),
        items,
        default,
        optional,
        "configmap references non-existent config key",
    )
}

fn secret_files(
    object: Option<&Secret>,
    items: Option<&Vec<KeyToPath>>,
    default: i32,
    optional: bool,
) -> Result<Files, String> {
    let Some(object) = object else { return Ok(Files::new()) };
    let get = |key: &str| object.data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.clone());
    let keys = object.data.iter().flat_map(|d| d.keys()).cloned().collect();
    select(get, keys, items, default, optional, "references non-existent secret key")
}

/// The plugin of a volume that consists of files, and whether these are kept in memory.
pub(super) fn plugin(volume: &Volume) -> Option<(&'static str, bool)> {
    let kinds = [
        (volume.config_map.is_some(), "configmap", false),
        (volume.secret.is_some(), "secret", true),
        (volume.downward_api.is_some(), "downward-api", true),
        (volume.projected.is_some(), "projected", true),
    ];
    kinds.iter().find(|(is, ..)| *is).map(|(_, name, in_memory)| (*name, *in_memory))
}

impl Volumes {
    /// The files of a volume that consists of files; none if it is another kind.
    pub(super) async fn files(
        &mut self,
        pod: &Pod,
        volume: &Volume,
        addresses: &[IpAddr],
    ) -> Result<Files, String> {
        let ns = namespace(pod);
        if let Some(source) = &volume.config_map {
            let (optional, mode) =
                (source.optional.unwrap_or(false), source.default_mode.unwrap_or(DEFAULT_MODE));
            let object = self.config_map(ns, &source.name, optional).await?;
            return config_map_files(object.as_deref(), source.items.as_ref(), mode, optional);
        }
        if let Some(source) = &volume.secret {
            let (optional, mode) =
                (source.optional.unwrap_or(false), source.default_mode.unwrap_or(DEFAULT_MODE));
            let name = source.secret_name.as_deref().unwrap_or_default();
            let object = self.secret(ns, name, optional).await?;
            return secret_files(object.as_deref(), source.items.as_ref(), mode, optional);
        }
        if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self.downward(pod, addresses, source.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let (mut files, mut problems) = (Files::new(), Vec::new());
            for projection in source.sources.iter().flatten() {
                match self.projection(pod, projection, addresses, mode).await {
                    Ok(more) => files.extend(more),
                    Err(problem) if problems.contains(&problem) => {}
                    Err(problem) => problems.push(problem),
                }
            }
            return match &problems[..] {
                [] => Ok(files),
                [one] => Err(one.clone()),
                several => Err(format!("[{}]", several.join(", "))),
            };
        }
        Ok(Files::new())
    }

    async fn projection(
        &mut self,
        pod: &Pod,
        projection: &VolumeProjection,
        addresses: &[IpAddr],
        mode: i32,
    ) -> Result<Files, String> {
        let ns = namespace(pod);
        if let Some(source) = &projection.config_map {
            let optional = source.optional.unwrap_or(false);
            let object = self.config_map(ns, &source.name, optional).await?;
            return config_map_files(object.as_deref(), source.items.as_ref(), mode, optional);
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional.unwrap_or(false);
            let object = self.secret(ns, &source.name, optional).await?;
            return secret_files(object.as_deref(), source.items.as_ref(), mode, optional);
        }
        if let Some(source) = &projection.downward_api {
            return self.downward(pod, addresses, source.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(source) = &projection.service_account_token {
            let token = self.tokens.get(&self.context.client, pod, source).await?;
            let owner = owner(pod);
            // Only the pod's own user or group may read it, if it has one.
            let mode = if owner.user.is_some() || owner.group.is_some() { 0o600 } else { mode };
            let file = File { user: owner.user, ..file(token.into_bytes(), Some(mode), mode) };
            return Ok([(PathBuf::from(&source.path), file)].into());
        }
        if let Some(source) = &projection.cluster_trust_bundle {
            let name = source.name.as_deref().or(source.signer_name.as_deref()).unwrap_or_default();
            let missing = format!("clustertrustbundle \"{name}\" not found: this cluster has none");
            // Without the objects, an optional bundle is an empty file.
            let empty = source.optional.unwrap_or(false).then(|| file(Vec::new(), None, mode));
            return empty.map(|f| [(PathBuf::from(&source.path), f)].into()).ok_or(missing);
        }
        if projection.pod_certificate.is_some() {
            return Err("podCertificate sources are not supported by this node".into());
        }
        Err("the projected volume has a source this node does not know".into())
    }

    fn downward(
        &self,
        pod: &Pod,
        addresses: &[IpAddr],
        items: &[DownwardAPIVolumeFile],
        default: i32,
    ) -> Result<Files, String> {
        let fields = Fields {
            pod,
            addresses,
            node_addresses: &self.context.node_addresses(),
            allocatable: self.context.allocatable,
        };
        let mut files = Files::new();
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(selector), _) => fields.field(selector),
                (None, Some(selector)) => fields.resource(selector, ""),
                (None, None) => Ok(String::new()),
            };
            let value = value.map_err(|e| e.to_string())?;
            files.insert(PathBuf::from(&item.path), file(value.into_bytes(), item.mode, default));
        }
        Ok(files)
    }

    async fn config_map(
        &mut self,
        ns: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<ConfigMap>>, String> {
        self.watch_config_map(ns, name).get().await.required("configmap", name, optional)
    }

    async fn secret(&mut self, ns: &str, name: &str, optional: bool) -> Result<Option<Arc<Secret>>, String> {
        self.watch_secret(ns, name).get().await.required("secret", name, optional)
    }

    /// The pod is told of every change of the ConfigMap.
    pub(super) fn watch_config_map(&mut self, ns: &str, name: &str) -> Arc<Watched<ConfigMap>> {
        let objects = &self.context.objects;
        let watched = self.config_maps.entry(name.to_owned()).or_insert_with(|| objects.config_map(ns, name));
        watched.subscribe(&self.wake);
        Arc::clone(watched)
    }

    /// The pod is told of every change of the Secret.
    pub(super) fn watch_secret(&mut self, ns: &str, name: &str) -> Arc<Watched<Secret>> {
        let objects = &self.context.objects;
        let watched = self.secrets.entry(name.to_owned()).or_insert_with(|| objects.secret(ns, name));
        watched.subscribe(&self.wake);
        Arc::clone(watched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}}))
                .expect("a map");
        let all = config_map_files(Some(&map), None, 0o600, false).expect("files");
        assert_eq!(all.keys().map(|k| k.to_string_lossy()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (all[&PathBuf::from("c")].data.clone(), all[&PathBuf::from("a")].mode),
            (vec![0xff], 0o600)
        );
        let item = |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o400) };
        let one = config_map_files(Some(&map), Some(&vec![item("a")]), 0o644, false).expect("files");
        assert_eq!((one.len(), one[&PathBuf::from("x/y")].mode), (1, 0o400));
        let error = config_map_files(Some(&map), Some(&vec![item("z")]), 0o644, false).expect_err("missing");
        assert_eq!(error, "configmap references non-existent config key: z");
        assert!(
            config_map_files(Some(&map), Some(&vec![item("z")]), 0o644, true).expect("optional").is_empty()
        );
    }
}
