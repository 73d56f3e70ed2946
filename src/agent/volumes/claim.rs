//! persistentVolumeClaim: volumes that are a path on this node.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;

use super::{Source, directory, owner};
use crate::agent::spec::namespace;

/// Where the volume bound to a claim is on this node.
pub(super) async fn source(client: &kube::Client, pod: &Pod, claim_name: &str) -> Result<Source, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace(pod));
    let claim = claims.get_opt(claim_name).await.map_err(|e| e.to_string())?;
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim \"{claim_name}\" not found"))?;
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|n| bound && !n.is_empty());
    let name = name.ok_or_else(|| format!("PVC {}/{claim_name} is not bound", namespace(pod)))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes.get_opt(name).await.map_err(|e| e.to_string())?;
    let volume = volume.ok_or_else(|| format!("persistentvolume \"{name}\" not found"))?;
    let spec = volume.spec.unwrap_or_default();
    let path = if let Some(local) = spec.local {
        directory::check_host_path(&local.path, "Directory")?;
        local.path
    } else if let Some(host) = spec.host_path {
        directory::check_host_path(&host.path, host.type_.as_deref().unwrap_or_default())?;
        host.path
    } else {
        return Err(format!("persistentvolume \"{name}\" is of a kind this node does not support"));
    };
    let path = std::path::PathBuf::from(path);
    if let Some(group) = owner(pod).group {
        directory::apply_group(&path, group).map_err(|e| e.to_string())?;
    }
    Ok(Source { path, readonly: false })
}
