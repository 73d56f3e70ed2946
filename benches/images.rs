//! Figures of the image store, one line each, beside `tar` doing the same: `cargo bench --bench images`.
//! Needs root; KEDGE_BENCH_MB is the size of the image (500).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use kedge::runtime::images::{Images, ImportOptions, RegistriesConfig};
use serde_json::json;
use sha2::{Digest, Sha256};

fn hash(path: &Path) -> String {
    let (mut file, mut hasher, mut buffer) = (File::open(path).unwrap(), Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return format!("sha256:{}", hex::encode(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// A layer made of this machine's own files, until it has so many bytes.
fn layer(path: &Path, bytes: u64) -> (u64, u64) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    let (mut todo, mut taken, mut files) = (vec![PathBuf::from("/usr")], 0, 0);
    while let Some(dir) = todo.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let name = path.strip_prefix("/").unwrap();
            if metadata.is_dir() {
                tar.append_dir(name, &path).unwrap();
                todo.push(path);
            } else if metadata.is_file() && metadata.len() < 100 << 20 {
                tar.append_path_with_name(&path, name).unwrap();
                (taken, files) = (taken + metadata.len(), files + 1);
            }
            if taken > bytes {
                tar.finish().unwrap();
                return (taken, files);
            }
        }
    }
    tar.finish().unwrap();
    (taken, files)
}

/// A `docker save` archive whose layer is compressed, as those of registries are.
fn archive(dir: &Path, plain: &Path, packed: &Path) -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config =
        json!({"architecture": arch, "os": "linux", "rootfs": {"diff_ids": [hash(plain)]}}).to_string();
    let list = json!([{"Config": "c.json", "RepoTags": ["bench:1"], "Layers": ["layer"]}]).to_string();
    let path = dir.join("image.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    tar.append_path_with_name(packed, "layer").unwrap();
    for (name, bytes) in [("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.finish().unwrap();
    path
}

/// Most memory this process has had, in KiB.
fn peak() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn sync() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// The best of three: others use the machine, too.
fn best(mut work: impl FnMut(u32) -> Duration) -> Duration {
    (0..3)
        .map(|n| {
            sync();
            work(n)
        })
        .min()
        .unwrap()
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let megabytes: u64 = std::env::var("KEDGE_BENCH_MB").ok().and_then(|v| v.parse().ok()).unwrap_or(500);
    let dir = tempfile::Builder::new().prefix("kedge-bench-").tempdir().unwrap();
    let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
    let (bytes, files) = layer(&plain, megabytes << 20);
    let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::default());
    io::copy(&mut File::open(&plain).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap().flush().unwrap();
    let image = archive(dir.path(), &plain, &packed);
    let mib = bytes >> 20;
    println!(
        "image: {mib} MiB in {files} files, {} MiB compressed",
        fs::metadata(&packed).unwrap().len() >> 20
    );
    fs::remove_file(&plain).unwrap();

    let tar = |n: u32, durable: bool| {
        let target = dir.path().join(format!("tar-{n}"));
        fs::create_dir(&target).unwrap();
        let began = Instant::now();
        let mut command = Command::new("tar");
        command.args(["--xattrs", "-xzf"]).arg(&packed).arg("-C").arg(&target).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
        if durable {
            assert!(Command::new("sync").arg("-f").arg(&target).status().unwrap().success());
        }
        let took = began.elapsed();
        fs::remove_dir_all(&target).unwrap();
        took
    };
    println!("tar xzf, not durable     {:?}", best(|n| tar(n, false)));
    println!("tar xzf and sync -f      {:?}", best(|n| tar(n, true)));
    let before = peak();
    let handle = tokio::runtime::Handle::current();
    let ours = tokio::task::block_in_place(|| {
        best(|n| {
            let root = dir.path().join(format!("store-{n}"));
            let images = Images::open(&root, RegistriesConfig::default()).unwrap();
            let file = File::open(&image).unwrap();
            let began = Instant::now();
            handle.block_on(images.import_file(file, ImportOptions::default())).unwrap();
            let took = began.elapsed();
            fs::remove_dir_all(&root).unwrap();
            took
        })
    });
    println!("import, verified, durable {ours:?}; memory grew by {} KiB", peak() - before);
}
