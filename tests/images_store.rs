//! The image store when it is killed or has no room: it is whole, or what is missing is not there. Needs root.

#[allow(dead_code, reason = "each test uses a part of it")]
mod images_support;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use images_support::{Registry, arch, digest, layer, open};
use kedge::runtime::images::{Collection, Error, Images, ImportOptions, RegistriesConfig};
use serde_json::json;

/// A `docker save` archive of one image, as a file.
fn archive(path: &Path, name: &str, layers: &[Vec<u8>]) {
    let diff_ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
    let config = json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": diff_ids}}).to_string();
    let files: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let list = json!([{"Config": "c.json", "RepoTags": [name], "Layers": files}]).to_string();
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for (file, layer) in files.iter().zip(layers) {
        add(file, layer);
    }
    add("c.json", config.as_bytes());
    add("manifest.json", list.as_bytes());
    tar.finish().unwrap();
}

fn store(data: &Path) -> PathBuf {
    data.join("agent/image-store")
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Opens the store as a start does, and looks at everything in it.
fn check(data: &Path, expected: &[(String, Vec<u8>)]) -> bool {
    let images = Images::open(&store(data), RegistriesConfig::default()).unwrap();
    let mut ingest = names(&store(data).join("ingest"));
    // Blobs that a pull goes on with.
    ingest.retain(|name| !name.starts_with("partial-"));
    assert!(ingest.is_empty(), "{ingest:?}");
    // What is there has all its layers, and these all their bytes, whether an image has them or not.
    for entry in fs::read_dir(store(data).join("layers")).unwrap() {
        let files = entry.unwrap().path().join("fs");
        let names: HashSet<_> = fs::read_dir(&files).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let known = expected.iter().find(|(name, _)| names.contains(std::ffi::OsStr::new(name)));
        let (name, content) = known.expect("a file of the archive");
        assert!(fs::read(files.join(name)).unwrap() == *content, "{name} is not whole");
    }
    let list = images.list();
    for image in &list {
        assert_eq!(images.layers(&image.id).unwrap().len(), expected.len());
        assert!(images.layers(&image.id).unwrap().iter().all(|l| l.is_dir()));
        images.config(&image.id).unwrap();
    }
    !list.is_empty()
}

fn kedge(data: &Path, verb: &str, what: impl AsRef<OsStr>) -> Command {
    let kedge = std::env::var_os("KEDGE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kedge").into());
    let mut command = Command::new(kedge);
    command.args(["images", verb, "--data-dir"]).arg(data).arg(what);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn command(data: &Path, path: &Path) -> Command {
    kedge(data, "import", path)
}

/// Kills a process after so long; whether that was in the middle.
fn killed_after(mut command: Command, pause: Duration) -> bool {
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + pause;
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    !child.wait().unwrap().success()
}

#[test]
fn killed_at_any_moment_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> = (0..4).map(|n| layer(&format!("f{n}"), 3_000_000, n + 1)).collect();
    let contents =
        layers.iter().enumerate().map(|(n, l)| (format!("f{n}"), l[512..512 + 3_000_000].to_vec()));
    let contents: Vec<(String, Vec<u8>)> = contents.collect();
    let path = dir.path().join("app.tar");
    archive(&path, "app:1", &layers);
    // To the end, to know how long that takes; the first one also reads the executable from the disk.
    let whole = ["cold", "warm"].map(|name| {
        let data = dir.path().join(name);
        let began = Instant::now();
        assert!(command(&data, &path).status().unwrap().success());
        let took = began.elapsed();
        assert!(check(&data, &contents));
        took
    });
    let whole = whole[0].min(whole[1]);
    let (data, mut killed) = (dir.path().join("killed"), 0);
    for n in 1..=24u32 {
        killed += u32::from(killed_after(command(&data, &path), whole.mul_f64(f64::from(n) / 22.0)));
        if !store(&data).exists() {
            continue;
        }
        if check(&data, &contents) {
            // Begin anew, with what layers a later import would find.
            fs::remove_dir_all(&data).unwrap();
        }
    }
    assert!(killed >= 8, "only {killed} of 24 imports were killed in the middle");
    assert!(command(&data, &path).status().unwrap().success());
    assert!(check(&data, &contents));
}

#[test]
fn killed_while_it_pulls_or_removes_it_works_and_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let layers: Vec<Vec<u8>> = (0..4).map(|n| layer(&format!("f{n}"), 1_000_000, n + 1)).collect();
    let contents: Vec<(String, Vec<u8>)> =
        (0..4).map(|n| (format!("f{n}"), layers[n][512..512 + 1_000_000].to_vec())).collect();
    registry.content.image("1", &layers);
    let (name, data) = (registry.name("app:1"), dir.path().join("data"));
    let timed = |verb| {
        let began = Instant::now();
        assert!(kedge(&data, verb, &name).status().unwrap().success(), "{verb}");
        began.elapsed()
    };
    let (pull, _, remove) = (timed("pull"), timed("pull"), timed("rm"));
    let mut killed = 0;
    for n in 1..=8u32 {
        let part = f64::from(n) / 8.0;
        killed += u32::from(killed_after(kedge(&data, "pull", &name), pull.mul_f64(part)));
        check(&data, &contents);
        assert!(kedge(&data, "pull", &name).status().unwrap().success());
        assert!(check(&data, &contents));
        killed += u32::from(killed_after(kedge(&data, "rm", &name), remove.mul_f64(part)));
        check(&data, &contents);
        // Whether it was removed or not, it is now.
        let _ = kedge(&data, "rm", &name).status().unwrap();
        assert!(!check(&data, &contents));
        Images::open(&store(&data), RegistriesConfig::default())
            .unwrap()
            .collect(&Collection::default())
            .unwrap();
        for left in ["layers", "blobs/sha256"] {
            assert_eq!(names(&store(&data).join(left)), [""; 0], "{left}");
        }
    }
    assert!(killed >= 4, "only {killed} of 16 were killed in the middle");
}

/// Most memory the process has had until it ended, in KiB.
fn peak(mut command: Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok());
        most = most.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    most
}

#[test]
fn a_large_image_takes_no_more_memory_than_a_small_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let large = |name: &str, seed| {
        let block = layer("x", 1 << 20, seed)[512..512 + (1 << 20)].to_vec();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(16 << 20);
        tar.append_data(&mut header, name, &block.repeat(16)[..]).unwrap();
        tar.into_inner().unwrap()
    };
    registry.content.image("small", &[layer("x", 1000, 1), layer("y", 1000, 2), layer("z", 1000, 3)]);
    registry.content.image("large", &[large("x", 4), large("y", 5), large("z", 6)]);
    let data = dir.path().join("data");
    let [small, large] =
        ["small", "large"].map(|tag| peak(kedge(&data, "pull", registry.name(&format!("app:{tag}")))));
    assert!(small > 0 && large < small + (16 << 10), "{small} and {large} KiB for 48 MiB in three layers");
}

/// A file system of a few megabytes.
struct Small(PathBuf);

impl Small {
    fn new(dir: &Path) -> Self {
        let path = dir.join("small");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&path);
        assert!(mount.status().unwrap().success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let small = Small::new(dir.path());
    let images = open(&small.0, "");
    let count = |what: &str| fs::read_dir(small.0.join("images").join(what)).unwrap().count();
    let registry = Registry::new();
    // Too large to be downloaded; small to download, but not to unpack with what is there; two halves.
    let zeros = |name: &str, size: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        tar.append_data(&mut header, name, &vec![1; size][..]).unwrap();
        tar.into_inner().unwrap()
    };
    registry.content.image("huge", &[layer("x", 10_000_000, 1)]);
    registry.content.image("twice", &[zeros("x", 5_000_000)]);
    registry.content.image("halves", &[layer("a", 3_000_000, 2), layer("b", 3_000_000, 3)]);
    registry.content.image("small", &[layer("x", 500_000, 4)]);
    for tag in ["huge", "twice", "halves"] {
        let error = images.pull(&registry.name(&format!("app:{tag}")), None, |_| ()).await.unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{tag}: {error}");
        assert!(error.to_string().contains("no space left on the disk for"), "{error}");
        assert_eq!(count("ingest"), 0, "{tag}");
        assert!(images.list().is_empty());
        images.collect(&Collection::default()).unwrap();
        assert_eq!(count("layers"), 0, "{tag}");
    }
    let path = dir.path().join("huge.tar");
    archive(&path, "huge:1", &[layer("x", 10_000_000, 5)]);
    let file = || fs::File::open(&path).unwrap();
    for error in [
        images.import_file(file(), ImportOptions::default()).await.unwrap_err(),
        images.import(file(), ImportOptions::default()).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert_eq!((count("ingest"), count("layers")), (0, 0));
    }
    let image = images.pull(&registry.name("app:small"), None, |_| ()).await.unwrap();
    assert_eq!(images.layers(&image.id).unwrap().len(), 1);
}
