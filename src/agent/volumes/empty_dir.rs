//! emptyDir: on the disk, in memory, of huge pages.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};

use super::mounting::{self, Tmpfs};
use super::ownership::Group;
use crate::agent::error::Error;
use crate::agent::qos;
use crate::agent::quantity::units;
use crate::agent::spec::all_containers;

/// Where an emptyDir keeps its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// On the node's disk.
    Disk,
    /// In memory, at most so many bytes.
    Memory(u64),
    /// In huge pages of the first size, at most so many bytes.
    HugePages(u64, Option<u64>),
}

fn positive(bytes: Option<i64>) -> Option<u64> {
    u64::try_from(bytes?).ok().filter(|b| *b > 0)
}

impl Medium {
    /// The medium of a volume in a pod of a node with `allocatable` bytes of memory. What is in memory
    /// is limited by its `sizeLimit`, by what the pod may use, and by what the node has.
    pub(super) fn of(
        source: &EmptyDirVolumeSource,
        spec: &PodSpec,
        allocatable: u64,
    ) -> Result<Self, String> {
        let own = positive(source.size_limit.as_ref().and_then(|q| units(&q.0)));
        match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Self::Disk),
            "Memory" => {
                let pod = positive(qos::pod_resources(spec, None).memory_limit);
                let least = [pod, own].into_iter().flatten().fold(allocatable, u64::min);
                Ok(Self::Memory(least))
            }
            "HugePages" => Ok(Self::HugePages(only_page_size(spec)?, own)),
            other => {
                let size = other.strip_prefix("HugePages-").and_then(|s| positive(units(s)));
                let unknown = || format!("unknown storage medium {other:?}");
                size.map(|page| Self::HugePages(page, own)).ok_or_else(unknown)
            }
        }
    }
}

/// The one size of huge pages that the pod's containers ask for.
fn only_page_size(spec: &PodSpec) -> Result<u64, String> {
    let mut sizes = BTreeSet::new();
    for container in all_containers(spec) {
        let resources = container.resources.unwrap_or_default();
        for name in [&resources.requests, &resources.limits].into_iter().flatten().flat_map(|l| l.keys()) {
            sizes.extend(name.strip_prefix("hugepages-").and_then(|s| positive(units(s))));
        }
    }
    match sizes.iter().copied().collect::<Vec<_>>()[..] {
        [one] => Ok(one),
        [] => Err("medium HugePages needs a container that requests huge pages".into()),
        _ => {
            Err("medium HugePages: the containers request pages of several sizes; name one, such as HugePages-2Mi"
                .into())
        }
    }
}

/// Makes an emptyDir that anyone may write, or leaves alone the one that is there.
pub(super) fn set_up(path: &Path, medium: Medium, group: Option<u32>) -> Result<(), Error> {
    if !path.exists() {
        make(path, group)?;
    }
    match medium {
        Medium::Disk => Ok(()),
        Medium::Memory(size) => mounting::tmpfs(path, Tmpfs { size: Some(size), group }),
        Medium::HugePages(page, size) => mounting::huge_pages(path, page, Tmpfs { size, group }),
    }
}

/// It appears with its final mode: what a container changes later is not changed back.
fn make(path: &Path, group: Option<u32>) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
    let mut name = std::ffi::OsString::from(".new-");
    name.push(path.file_name().unwrap_or_default());
    let fresh = parent.join(name);
    fs::create_dir_all(&fresh).map_err(Error::io("make", &fresh))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777)).map_err(Error::io("change", &fresh))?;
    if let Some(id) = group {
        Group { id, on_root_mismatch: false, read_only: false }.own(&fresh)?;
    }
    fs::rename(&fresh, path).map_err(Error::io("make", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::MetadataExt;

    fn medium(source: serde_json::Value, container: serde_json::Value) -> Result<Medium, String> {
        let source = serde_json::from_value(source).expect("a source");
        let spec = json!({"containers": [{"name": "c", "resources": container}]});
        Medium::of(&source, &serde_json::from_value(spec).expect("a spec"), 1 << 30)
    }

    #[test]
    fn memory_is_limited_by_the_least_of_three() {
        let (mib, memory) = (1 << 20, json!({"medium": "Memory"}));
        let limited = |limit: &str| json!({"medium": "Memory", "sizeLimit": limit});
        let pod = json!({"limits": {"memory": "64Mi"}});
        for (source, container, expected) in [
            (json!({"sizeLimit": "1Mi"}), json!({}), Medium::Disk),
            (memory.clone(), json!({}), Medium::Memory(1 << 30)),
            (memory.clone(), pod.clone(), Medium::Memory(64 * mib)),
            (limited("16Mi"), pod.clone(), Medium::Memory(16 * mib)),
            (limited("128Mi"), pod, Medium::Memory(64 * mib)),
            (limited("0"), json!({}), Medium::Memory(1 << 30)),
            (limited("2Gi"), json!({}), Medium::Memory(1 << 30)),
            (json!({"medium": "HugePages-2Mi"}), json!({}), Medium::HugePages(2 * mib, None)),
            (
                json!({"medium": "HugePages"}),
                json!({"limits": {"hugepages-2Mi": "4Mi"}}),
                Medium::HugePages(2 * mib, None),
            ),
        ] {
            assert_eq!(medium(source.clone(), container), Ok(expected), "{source}");
        }
        assert!(medium(json!({"medium": "HugePages"}), json!({})).is_err());
        assert!(medium(json!({"medium": "Floppy"}), json!({})).is_err());
    }

    #[test]
    fn it_is_writable_by_all_and_keeps_its_content_and_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plugin/v");
        set_up(&path, Medium::Disk, None).expect("made");
        let mode = || fs::metadata(&path).expect("there").mode() & 0o7777;
        assert_eq!(mode(), 0o777);
        fs::write(path.join("f"), "x").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("changed");
        set_up(&path, Medium::Disk, None).expect("made");
        assert!(path.join("f").exists());
        assert_eq!(mode(), 0o700, "what the container chose");
    }
}
