//! persistentVolumeClaim and ephemeral: claims bound to a volume that is a path on this node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod};
use kube::Api;
use tokio::sync::Notify;

use super::error::{Failed, unsupported};
use super::{Source, host_path, owner};
use crate::agent::claims::{Hold, Used};
use crate::agent::context::Context;
use crate::agent::spec::{all_containers, name, namespace, uid};
use crate::api::scheduling::node_selectors;

/// An API that does not answer must not hold up a pod that runs.
const ANSWER: Duration = Duration::from_secs(10);

/// Which claim a volume of a pod is for.
pub(super) struct Wanted<'a> {
    /// The volume's name in the pod.
    pub volume: &'a str,
    /// The claim's name.
    pub claim: &'a str,
    /// The pod only reads it.
    pub read_only: bool,
    /// The claim must have been made for this pod.
    pub ephemeral: bool,
}

/// Where the volume bound to a claim is on this node, noted as used by the pod as long as the second is held.
pub(super) async fn source(
    context: &Context,
    pod: &Pod,
    wanted: &Wanted<'_>,
    wake: &Arc<Notify>,
) -> Result<(Source, Hold), Failed> {
    let refused = |problem: String| {
        Failed::Claim(format!("error processing PVC {}/{}: {problem}", namespace(pod), wanted.claim))
    };
    let claim = get_claim(context, pod, wanted).await.map_err(refused)?;
    let spec = claim.spec.clone().unwrap_or_default();
    let volume_name = spec.volume_name.as_deref().unwrap_or_default();
    let volume = get_volume(context, volume_name, &claim).await.map_err(refused)?;
    let volume = volume.spec.unwrap_or_default();
    let block = spec.volume_mode.as_deref() == Some("Block");
    used_as(pod, wanted.volume, block).map_err(refused)?;
    let failed =
        |step: &'static str, problem: String| Failed::Step { step, volume: volume_name.to_owned(), problem };
    if !selects_this_node(context, &volume).await.map_err(&refused)? {
        return Err(failed("MountVolume.NodeAffinity check", "no matching NodeSelectorTerms".into()));
    }
    let Some(path) = path_of(&volume) else {
        return Err(failed("MountVolume.SetUp", unsupported(&volume)));
    };
    let used = Used {
        pod: uid(pod).to_owned(),
        volume: wanted.volume.to_owned(),
        persistent: volume_name.to_owned(),
        path: path.clone(),
    };
    let alone = volume.access_modes.as_deref().is_some_and(|modes| *modes == ["ReadWriteOncePod"]);
    // What runs goes on, also with a restarted agent.
    let hold = context.claims.take(used, alone && !has_run(pod), wake).ok_or_else(|| {
        let problem = "volume uses the ReadWriteOncePod access mode and is already in use by another pod";
        failed(if block { "MapVolume.SetUpDevice" } else { "MountVolume.SetUp" }, problem.into())
    })?;
    let readonly = wanted.read_only;
    if volume.local.is_some() {
        let group = owner(pod).group_of_volume().filter(|_| !readonly && !block && !has_run(pod));
        let prepared = super::blocking(move || {
            check_local(&path, block)?;
            group.map_or(Ok(()), |g| g.own(&path)).map_err(|e| e.to_string())?;
            Ok(path)
        });
        let step = if block { "MapVolume.SetUpDevice" } else { "MountVolume.NewMounter initialization" };
        let path = prepared.await.map_err(|problem| failed(step, problem))?;
        return Ok((Source { path, readonly, block }, hold));
    }
    let type_ = volume.host_path.and_then(|h| h.type_).unwrap_or_default();
    let prepared = super::blocking(move || {
        host_path::check(&path, &type_)?;
        Ok(path)
    });
    let path = prepared.await.map_err(|problem| failed("MountVolume.SetUp", problem))?;
    Ok((Source { path, readonly, block }, hold))
}

/// The path on this node that a volume is.
fn path_of(volume: &PersistentVolumeSpec) -> Option<PathBuf> {
    let local = volume.local.as_ref().map(|l| &l.path);
    local.or(volume.host_path.as_ref().map(|h| &h.path)).map(PathBuf::from)
}

/// A claim of the pod's that is bound, or what keeps it from being used.
async fn get_claim(
    context: &Context,
    pod: &Pod,
    wanted: &Wanted<'_>,
) -> Result<PersistentVolumeClaim, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace(pod));
    let claim = answer(claims.get(wanted.claim)).await;
    let claim = claim.map_err(|e| format!("failed to fetch PVC from API server: {e}"))?;
    if wanted.ephemeral && !made_for(&claim, pod) {
        return Err(format!(
            "PVC {}/{} was not created for pod {0}/{} (pod is not owner)",
            namespace(pod),
            wanted.claim,
            name(pod)
        ));
    }
    // The claim's protection waits for the pods that run.
    if claim.metadata.deletion_timestamp.is_some() && !has_run(pod) {
        return Err("PVC is being deleted".into());
    }
    if claim.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".into());
    }
    if claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default().is_empty() {
        return Err("PVC has empty pvc.Spec.VolumeName".into());
    }
    Ok(claim)
}

fn made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|o| o.controller == Some(true) && o.uid == uid(pod))
}

fn has_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten().any(|s| s.container_id.is_some())
}

async fn get_volume(
    context: &Context,
    name: &str,
    claim: &PersistentVolumeClaim,
) -> Result<PersistentVolume, String> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let volume = answer(volumes.get(name)).await;
    let volume = volume.map_err(|e| format!("failed to get PV {name} from API server: {e}"))?;
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
    let Some(reference) = reference else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    // Without a uid it was written by hand, as the documentation has users reserve a volume for a claim.
    let by_name = (reference.namespace.as_deref(), reference.name.as_deref());
    let own_name = (claim.metadata.namespace.as_deref(), claim.metadata.name.as_deref());
    let (bound, own) = (reference.uid.unwrap_or_default(), claim.metadata.uid.clone().unwrap_or_default());
    if bound != own && (!bound.is_empty() || by_name != own_name) {
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {bound} does not point to claim.UID {own}"
        ));
    }
    Ok(volume)
}

/// Devices are named in `volumeDevices`, file systems in `volumeMounts`.
fn used_as(pod: &Pod, volume: &str, block: bool) -> Result<(), String> {
    let containers = pod.spec.as_ref().map(all_containers).unwrap_or_default();
    let mounted = containers.iter().flat_map(|c| c.volume_mounts.iter().flatten()).any(|m| m.name == volume);
    let device = containers.iter().flat_map(|c| c.volume_devices.iter().flatten()).any(|d| d.name == volume);
    if block && mounted {
        return Err(format!("volume {volume} has volumeMode Block, but is specified in volumeMounts"));
    }
    if !block && device {
        return Err(format!("volume {volume} has volumeMode Filesystem, but is specified in volumeDevices"));
    }
    Ok(())
}

async fn selects_this_node(context: &Context, volume: &PersistentVolumeSpec) -> Result<bool, String> {
    let Some(selector) = volume.node_affinity.as_ref().and_then(|a| a.required.as_ref()) else {
        return Ok(true);
    };
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = answer(nodes.get(&context.settings.node_name)).await;
    let labels =
        node.map_err(|e| format!("failed to get the node: {e}"))?.metadata.labels.unwrap_or_default();
    Ok(node_selectors::selects(selector, &context.settings.node_name, &labels))
}

fn check_local(path: &Path, block: bool) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(meta) = path.metadata() else {
        return Err(format!("path {:?} does not exist", path.display().to_string()));
    };
    let device = meta.file_type().is_block_device();
    match (block, device, meta.is_dir()) {
        (true, true, _) | (false, _, true) => Ok(()),
        (true, ..) => Err(format!("{} is not a block device", path.display())),
        (false, true, _) => Err(format!(
            "{} is a block device: mount its file system on the node and name the directory, or use volumeMode Block",
            path.display()
        )),
        _ => Err("only directory and block device are supported".into()),
    }
}

/// The API's answer, or why there is none.
async fn answer<K>(request: impl Future<Output = kube::Result<K>>) -> Result<K, String> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server did not answer in time".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modes_and_uses_fit_together() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c",
            "volumeMounts": [{"name": "f", "mountPath": "/f"}],
            "volumeDevices": [{"name": "d", "devicePath": "/d"}]}]}}))
        .expect("a pod");
        assert_eq!(used_as(&pod, "f", false), Ok(()));
        assert_eq!(used_as(&pod, "d", true), Ok(()));
        let error = used_as(&pod, "f", true).expect_err("mounted");
        assert_eq!(error, "volume f has volumeMode Block, but is specified in volumeMounts");
        let error = used_as(&pod, "d", false).expect_err("a device");
        assert_eq!(error, "volume d has volumeMode Filesystem, but is specified in volumeDevices");
    }

    #[test]
    fn local_volumes_are_directories_or_devices() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(check_local(directory.path(), false), Ok(()));
        assert!(check_local(directory.path(), true).is_err());
        let none = check_local(Path::new("/nowhere/at all"), false).expect_err("missing");
        assert_eq!(none, "path \"/nowhere/at all\" does not exist");
        let file = check_local(Path::new("/proc/version"), false).expect_err("a file");
        assert_eq!(file, "only directory and block device are supported");
    }

    #[test]
    fn an_ephemeral_claim_is_the_pods_own() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}})).expect("a pod");
        let claim = |uid: &str| -> PersistentVolumeClaim {
            let owner =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true});
            serde_json::from_value(json!({"metadata": {"ownerReferences": [owner]}})).expect("a claim")
        };
        assert!(made_for(&claim("u"), &pod) && !made_for(&claim("v"), &pod));
    }
}
