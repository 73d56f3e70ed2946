//! The image that the executable makes of itself, so that a machine without a registry can run something.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::{self, HashingReader};
use super::error::{Context, Error};
use super::ingest;
use super::platform::Platform;
use super::store::{Finished, Inner};
use crate::runtime::spec::Image;

/// The name of the image made of the executable. Its only program is `/kedge demo`; there is no shell.
pub const SELF_IMAGE: &str = "kedge.local/demo:1";

/// Changes when the image is made otherwise from the same executable.
const RECIPE: u32 = 1;

const DIRECTORIES: &[(&str, u32)] =
    &[("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("root", 0o700), ("sys", 0o555), ("tmp", 0o1777)];
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/kedge\nnobody:x:65534:65534:nobody:/:/kedge\n"),
    ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// Which executable had which digest: hashing tens of megabytes at each start would take long.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memo {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    recipe: u32,
    digest: String,
}

pub(super) fn make(inner: &Inner, exe: &Path) -> Result<Image, Error> {
    let memo = memo(inner, exe)?;
    // It stands for the digest of a tar archive, which nobody needs to make.
    let diff_id = digest::of(format!("kedge image of itself {RECIPE} {}", memo.digest).as_bytes());
    let platform = Platform::host();
    let config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {
            "Entrypoint": ["/kedge", "demo"],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": "kedge demo"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "kedge, of itself"}],
    });
    let chains = digest::chain_ids(&[diff_id]);
    let _kept = ingest::keep_layers(&inner.root)?;
    inner.layers.make_with(&chains[0], |target| fill(target, exe))?;
    inner.add(Finished {
        config: config.to_string().into_bytes(),
        layers: chains,
        tags: vec![SELF_IMAGE.to_owned()],
        ..Finished::default()
    })
}

/// The executable's digest, remembered from last time if it is the same file.
fn memo(inner: &Inner, exe: &Path) -> Result<Memo, Error> {
    let path = inner.root.join("self.json");
    let metadata = fs::metadata(exe).on(exe)?;
    let mut memo = Memo {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        recipe: RECIPE,
        digest: String::new(),
    };
    let last = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Memo>(&bytes).ok());
    if let Some(last) = last {
        memo.digest = last.digest.clone();
        if memo == last {
            return Ok(last);
        }
    }
    memo.digest = HashingReader::new(File::open(exe).on(exe)?).finish().on(exe)?;
    let bytes = serde_json::to_vec(&memo).map_err(|e| Error::io(&path, e.into()))?;
    ingest::write_atomically(&inner.root, &path, &bytes)?;
    Ok(memo)
}

fn fill(target: &Path, exe: &Path) -> Result<u64, Error> {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).on(path);
    mode(target, 0o755)?;
    for (name, bits) in DIRECTORIES {
        let path = target.join(name);
        fs::create_dir(&path).on(&path)?;
        mode(&path, *bits)?;
    }
    for (name, text) in FILES {
        let path = target.join(name);
        fs::write(&path, text).on(&path)?;
        mode(&path, 0o644)?;
    }
    let program = target.join("kedge");
    // A link takes no room, where it is possible: same file system, and the file still has a name.
    let source = fs::read_link(exe).unwrap_or_else(|_| exe.to_owned());
    let is_same = |a: &Path| Some((fs::metadata(a).ok()?.ino(), fs::metadata(a).ok()?.dev()));
    let named = is_same(&source).is_some() && is_same(&source) == is_same(exe);
    if !named || fs::hard_link(&source, &program).is_err() {
        fs::copy(exe, &program).on(&program)?;
        mode(&program, 0o755)?;
    }
    Ok(fs::metadata(&program).on(&program)?.len())
}
