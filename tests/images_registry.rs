//! Pulls from a real registry: Debian's `docker-registry`, with and without TLS and passwords.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kedge::runtime::images::{Error, Images, LayerState, Progress, RegistriesConfig};
use kedge::runtime::spec::{Image, RegistryAuth};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `user` with the password `secret`, by bcrypt.
const HTPASSWD: &str = "user:$2b$04$/vhHk5xvq1ycM6gcTwWPze0d4bbzsBr1PT.bzky10dp7CA0kXGfRW\n";

/// A running registry; ended when dropped.
struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Registry {
    /// Starts one that keeps its blobs in `dir`; `http` and `auth` are parts of its configuration.
    fn start(dir: &Path, http: &str, auth: &str) -> Self {
        let port = free_port();
        let config = dir.join(format!("config-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'{http}}}\n{auth}\n",
            dir.join("storage").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is installed");
        let registry = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        registry
    }

    fn name(&self, image: &str) -> String {
        format!("localhost:{}/{image}", self.port)
    }

    /// One request; answers status, headers and body.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    fn push_blob(&self, image: &str, bytes: &[u8]) -> Value {
        let (status, head, _) = self.request("POST", &format!("/v2/{image}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202, "{head}");
        let location = head.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap();
        let path = &location[location.find("/v2/").unwrap()..];
        let path = format!("{path}&digest={}", digest(bytes));
        let (status, head, _) = self.request("PUT", &path, "application/octet-stream", bytes);
        assert_eq!(status, 201, "{head}");
        json!({"digest": digest(bytes), "size": bytes.len()})
    }

    fn push_manifest(&self, image: &str, tag: &str, manifest: &Value) -> Vec<u8> {
        let bytes = manifest.to_string().into_bytes();
        let kind = manifest["mediaType"].as_str().unwrap();
        let (status, head, body) = self.request("PUT", &format!("/v2/{image}/manifests/{tag}"), kind, &bytes);
        assert_eq!(status, 201, "{head} {}", String::from_utf8_lossy(&body));
        bytes
    }

    /// Pushes an image with these layers, packed or not, for this machine.
    fn push(&self, image: &str, tag: &str, flavour: &Flavour, layers: &[Layer]) -> Vec<u8> {
        let diff_ids: Vec<_> = layers.iter().map(|l| digest(&l.tar)).collect();
        let config = json!({"architecture": arch(), "os": "linux", "config": {"Cmd": ["/app"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let mut config = self.push_blob(image, config.to_string().as_bytes());
        config["mediaType"] = flavour.config.into();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let mut descriptor = self.push_blob(image, &layer.packed);
                descriptor["mediaType"] = flavour.layer.into();
                descriptor
            })
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": flavour.manifest, "config": config, "layers": layers});
        self.push_manifest(image, tag, &manifest)
    }
}

/// Media types.
struct Flavour {
    manifest: &'static str,
    index: &'static str,
    config: &'static str,
    layer: &'static str,
}

const DOCKER: Flavour = Flavour {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};
const OCI: Flavour = Flavour {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    index: "application/vnd.oci.image.index.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+zstd",
};

struct Layer {
    tar: Vec<u8>,
    packed: Vec<u8>,
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Bytes that no compression makes smaller.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

fn layer(path: &str, data: &[u8]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, data).unwrap();
    let tar = builder.into_inner().unwrap();
    Layer { packed: tar.clone(), tar }
}

fn gzip(mut layer: Layer) -> Layer {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&layer.tar).unwrap();
    layer.packed = encoder.finish().unwrap();
    layer
}

fn zstd(mut layer: Layer) -> Layer {
    layer.packed =
        ruzstd::encoding::compress_to_vec(&layer.tar[..], ruzstd::encoding::CompressionLevel::Fastest);
    layer
}

fn open(dir: &Path, registries: &str) -> Images {
    Images::open(&dir.join("images"), RegistriesConfig::parse(registries).unwrap()).unwrap()
}

async fn pull(images: &Images, name: &str) -> Result<Image, Error> {
    images.pull(name, None, |_| ()).await
}

fn read(images: &Images, image: &Image, number: usize, path: &str) -> Vec<u8> {
    fs::read(images.layers(&image.id).unwrap()[number].join(path)).unwrap()
}

/// What an overlay of these layers shows, in a mount namespace of its own.
fn mounted(layers: &[PathBuf]) -> Vec<String> {
    let lower: Vec<_> = layers.iter().map(|l| l.display().to_string()).collect();
    let target = tempfile::tempdir().unwrap();
    let script = "mount -t overlay overlay -o lowerdir=\"$1\" \"$2\" && ls \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &lower.join(":")])
        .arg(target.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_formats_and_all_compressions_are_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let images = open(dir.path(), "");
    let layers = [
        layer("plain", b"1"),
        gzip(layer("gzip", &noise(300_000, 1))),
        zstd(layer("zstd", &noise(300_000, 2))),
        gzip(layer(".wh.plain", b"")),
    ];
    for (flavour, name) in [(&DOCKER, "team/docker"), (&OCI, "team/oci")] {
        let manifest = registry.push(name, "1.0", flavour, &layers);
        let steps = Mutex::new(Vec::<Progress>::new());
        let full = registry.name(&format!("{name}:1.0"));
        let image = images.pull(&full, None, |p| steps.lock().push(p)).await.unwrap();
        assert!(image.tags.contains(&full));
        let by_digest = registry.name(&format!("{name}@{}", digest(&manifest)));
        assert!(image.digests.contains(&by_digest));
        assert_eq!(read(&images, &image, 1, "zstd"), noise(300_000, 2));
        assert_eq!(read(&images, &image, 2, "gzip"), noise(300_000, 1));
        let last = steps.lock().last().cloned().unwrap();
        assert_eq!(last.layers.len(), 4);
        for (found, pushed) in last.layers.iter().zip(&layers) {
            let size = pushed.packed.len() as u64;
            assert_eq!((found.state, found.current, found.total), (LayerState::Done, size, size));
        }
        assert_eq!(pull(&images, &by_digest).await.unwrap().id, image.id);
        assert_eq!(mounted(&images.layers(&image.id).unwrap()), ["gzip", "zstd"], "plain was deleted");
    }
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 4, "layers are shared");
    assert_eq!(fs::read_dir(dir.path().join("images/ingest")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_is_chosen_from_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let images = open(dir.path(), "");
    for flavour in [DOCKER, OCI] {
        let right = registry.push("multi", "right", &flavour, &[layer("x", b"right")]);
        let wrong = registry.push("multi", "wrong", &flavour, &[layer("x", b"wrong")]);
        let entry = |bytes: &[u8], architecture: &str| {
            json!({"mediaType": flavour.manifest, "digest": digest(bytes), "size": bytes.len(),
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let index = |entries: Vec<Value>| json!({"schemaVersion": 2, "mediaType": flavour.index, "manifests": entries});
        let both = registry.push_manifest(
            "multi",
            "both",
            &index(vec![entry(&wrong, "s390x"), entry(&right, arch())]),
        );
        registry.push_manifest("multi", "other", &index(vec![entry(&wrong, "s390x")]));
        let image = pull(&images, &registry.name("multi:both")).await.unwrap();
        assert_eq!(read(&images, &image, 0, "x"), b"right");
        assert!(image.digests.iter().any(|d| d.ends_with(&digest(&both))), "the index's digest");
        let error = pull(&images, &registry.name("multi:other")).await.unwrap_err();
        assert!(matches!(&error, Error::NoPlatform { found, .. } if found == "linux/s390x"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_those_users_know() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let images = open(dir.path(), "");
    registry.push("app", "1", &OCI, &[layer("x", b"1")]);
    for missing in ["app:2", "nothing:1"] {
        let error = pull(&images, &registry.name(missing)).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(error.to_string().contains("manifest unknown"), "{error}");
    }
    let error = pull(&images, &format!("localhost:{}/x", free_port())).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("connection refused"), "{error}");
    let error = pull(&images, "no.such.host.invalid/x").await.unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{error}");
    let error = pull(&images, "Not A Name").await.unwrap_err();
    assert!(error.to_string().contains("invalid reference format"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_named_in_known_words() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let host = format!("localhost:{}", registry.port);
    let images = open(dir.path(), &format!("mirrors: {{'{host}': {{endpoint: ['https://{host}']}}}}"));
    let error = pull(&images, &registry.name("app:1")).await.unwrap_err().to_string();
    assert!(error.contains("http: server gave HTTP response to HTTPS client"), "{error}");
}

/// A certificate authority and a certificate of `localhost` by it, as files.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    (write("ca.pem", ca.pem()), write("cert.pem", certificate.pem()), write("key.pem", key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_private_authorities_work() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Registry::start(dir.path(), "", "");
    plain.push("team/app", "1", &DOCKER, &[gzip(layer("x", b"1"))]);
    let (ca, certificate, key) = certificates(dir.path());
    fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
    let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
    let auth =
        format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", dir.path().join("htpasswd").display());
    let registry = Registry::start(dir.path(), &tls, &auth);
    let name = registry.name("team/app:1");
    let host = format!("localhost:{}", registry.port);
    let with_ca = format!("configs: {{'{host}': {{tls: {{ca_file: {}}}}}}}", ca.display());

    let images = open(dir.path(), &with_ca);
    let error = pull(&images, &name).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let wrong = RegistryAuth { username: "user".into(), password: "wrong".into() };
    let error = images.pull(&name, Some(wrong), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("unauthorized"), "{error}");
    let right = RegistryAuth { username: "user".into(), password: "secret".into() };
    assert_eq!(images.pull(&name, Some(right), |_| ()).await.unwrap().tags, std::slice::from_ref(&name));

    // Without the authority, whatever the password.
    let skeptic = open(
        &dir.path().join("skeptic"),
        &format!("mirrors: {{'{host}': {{endpoint: ['https://{host}']}}}}"),
    );
    let error = pull(&skeptic, &name).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");

    // All of it from registries.yaml, as a mirror of the Hub under another name.
    let file = format!(
        "mirrors: {{docker.io: {{endpoint: ['https://{host}'], rewrite: {{'^library/(.*)': 'team/$1'}}}}}}\n\
         configs: {{'{host}': {{auth: {{username: user, password: secret}}, tls: {{ca_file: {}}}}}}}",
        ca.display()
    );
    let mirrored = open(&dir.path().join("mirrored"), &file);
    assert_eq!(pull(&mirrored, "app:1").await.unwrap().tags, ["docker.io/library/app:1"]);
    let insecure = file.replace(&format!("ca_file: {}", ca.display()), "insecure_skip_verify: true");
    pull(&open(&dir.path().join("insecure"), &insecure), "app:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Registry::start(dir.path(), "", "");
    plain.push("team/app", "1", &DOCKER, &[gzip(layer("x", b"1"))]);
    let (ca, certificate, key) = certificates(dir.path());
    let [ca, certificate, key] = [ca, certificate, key].map(|p| p.display().to_string());
    let tls = format!(", tls: {{certificate: {certificate}, key: {key}, clientcas: ['{ca}']}}");
    let registry = Registry::start(dir.path(), &tls, "");
    let (name, host) = (registry.name("team/app:1"), format!("localhost:{}", registry.port));
    let with = |files: &str| format!("configs: {{'{host}': {{tls: {{ca_file: {ca}{files}}}}}}}");
    let nobody = open(&dir.path().join("nobody"), &with(""));
    let error = pull(&nobody, &name).await.unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{error}");
    let known =
        open(&dir.path().join("known"), &with(&format!(", cert_file: {certificate}, key_file: {key}")));
    assert_eq!(pull(&known, &name).await.unwrap().tags, [name.as_str()]);
    let wrong =
        open(&dir.path().join("wrong"), &with(&format!(", cert_file: {certificate}, key_file: {ca}")));
    let error = pull(&wrong, &name).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("registries.yaml: configs.{host}.tls")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fails_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    registry.push("app", "1", &OCI, &[layer("x", b"1")]);
    let host = format!("localhost:{}", registry.port);
    let file = format!("mirrors: {{'{host}': {{endpoint: ['http://127.0.0.1:{}']}}}}", free_port());
    let image = pull(&open(dir.path(), &file), &registry.name("app:1")).await.unwrap();
    assert_eq!(image.tags, [registry.name("app:1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_blob_is_refused_and_pulled_again_when_whole() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let (good, bad) = (gzip(layer("good", &noise(50_000, 3))), gzip(layer("bad", &noise(50_000, 4))));
    let packed = bad.packed.clone();
    let hex = digest(&packed).replace("sha256:", "");
    registry.push("app", "1", &OCI, &[good, bad]);
    let path =
        dir.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data");
    let mut rotten = packed.clone();
    rotten[25_000] ^= 1;
    fs::write(&path, &rotten).unwrap();
    let images = open(dir.path(), "");
    let error = pull(&images, &registry.name("app:1")).await.unwrap_err();
    assert!(matches!(&error, Error::DigestMismatch { found, .. } if *found == digest(&rotten)), "{error}");
    assert!(images.list().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 1, "only the good one");
    fs::write(&path, &packed).unwrap();
    let image = pull(&images, &registry.name("app:1")).await.unwrap();
    assert_eq!(read(&images, &image, 0, "bad"), noise(50_000, 4));
}

/// Passes connections on, counts what comes back, and cuts the first connection that brought `cut`
/// bytes.
struct Proxy {
    port: u16,
    bytes: Arc<AtomicU64>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(target: u16, cut: u64, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (bytes, left) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(cuts)));
        let proxy = Self { port, bytes: Arc::clone(&bytes), cuts: Arc::clone(&left) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", target))) else {
                    return;
                };
                let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || _ = std::io::copy(&mut up, &mut to));
                let (bytes, left) = (Arc::clone(&bytes), Arc::clone(&left));
                std::thread::spawn(move || back(server, client, cut, &bytes, &left));
            }
        });
        proxy
    }
}

fn back(mut server: TcpStream, mut client: TcpStream, cut: u64, bytes: &AtomicU64, left: &AtomicUsize) {
    let (mut passed, mut buffer) = (0, [0; 16 << 10]);
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        passed += n as u64;
        bytes.fetch_add(n as u64, Ordering::SeqCst);
        let is_cut = passed > cut
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |l| l.checked_sub(1)).is_ok();
        if is_cut || client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_download_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let content = noise(4_000_000, 5);
    registry.push("app", "1", &OCI, &[layer("x", &content)]);
    let proxy = Proxy::start(registry.port, 1_500_000, 2);
    let images = open(dir.path(), "");
    let image = pull(&images, &format!("127.0.0.1:{}/app:1", proxy.port)).await.unwrap();
    assert_eq!(read(&images, &image, 0, "x"), content);
    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0, "it was interrupted");
    let bytes = proxy.bytes.load(Ordering::SeqCst);
    assert!(bytes < 4_600_000, "{bytes} bytes came: it began anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_leaves_nothing_half() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let contents: Vec<_> = (0..4).map(|n| noise(2_000_000, 10 + n)).collect();
    let layers: Vec<_> = contents.iter().enumerate().map(|(n, c)| layer(&format!("f{n}"), c)).collect();
    registry.push("app", "1", &OCI, &layers);
    let name = registry.name("app:1");
    for states in [LayerState::Downloading, LayerState::Unpacking, LayerState::Done] {
        let images = open(dir.path(), "");
        let (reached, mut wait) = tokio::sync::watch::channel(());
        let watching = |p: Progress| {
            if p.layers.iter().any(|l| l.state == states) {
                reached.send_replace(());
            }
        };
        tokio::select! {
            biased;
            _ = wait.changed() => {}
            result = images.pull(&name, None, watching) => drop(result.unwrap()),
        }
        drop(images);
        let images = open(dir.path(), "");
        // Blobs that came in part are gone on with; of the rest at most one thing is in work.
        let names = fs::read_dir(dir.path().join("images/ingest")).unwrap().map(|e| e.unwrap().file_name());
        let names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        assert!(names.iter().filter(|n| !n.starts_with("partial-")).count() <= 1, "{names:?}");
        for entry in fs::read_dir(dir.path().join("images/layers")).unwrap() {
            let layer = entry.unwrap().path().join("fs");
            let file = fs::read_dir(&layer).unwrap().next().unwrap().unwrap().path();
            assert!(contents.contains(&fs::read(file).unwrap()), "a layer is whole or not there");
        }
        drop(images);
    }
    let images = open(dir.path(), "");
    let image = pull(&images, &name).await.unwrap();
    for (n, content) in contents.iter().enumerate() {
        assert!(read(&images, &image, 3 - n, &format!("f{n}")) == *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pulls_at_once_download_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let layers: Vec<_> = (0..5).map(|n| layer(&format!("f{n}"), &noise(600_000, 20 + n))).collect();
    registry.push("app", "1", &OCI, &layers);
    let proxy = Proxy::start(registry.port, u64::MAX, 0);
    let images = open(dir.path(), "");
    let name = format!("127.0.0.1:{}/app:1", proxy.port);
    let pulls = futures::future::join_all((0..8).map(|_| pull(&images, &name))).await;
    for image in pulls {
        assert_eq!(images.layers(&image.unwrap().id).unwrap().len(), 5);
    }
    let bytes = proxy.bytes.load(Ordering::SeqCst);
    assert!(bytes < 3_400_000, "{bytes} bytes came");
    let before = bytes;
    pull(&images, &name).await.unwrap();
    assert!(proxy.bytes.load(Ordering::SeqCst) - before < 20_000, "what is there is not fetched again");
}

/// A registry that gives tokens to `user` with the password `secret`, and serves what it has.
fn token_registry(content: HashMap<String, (String, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |head: &str| -> (u16, String, Vec<u8>) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorization =
            head.lines().find_map(|l| l.to_lowercase().starts_with("authorization:").then(|| &l[14..]));
        let authorization = authorization.unwrap_or_default().trim();
        if path.starts_with("/token?") {
            // user:secret
            return match (authorization, path.contains("repository%3Aapp%3Apull")) {
                ("Basic dXNlcjpzZWNyZXQ=", true) => (200, String::new(), br#"{"token":"valid"}"#.to_vec()),
                _ => (401, String::new(), br#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#.to_vec()),
            };
        }
        if authorization != "Bearer valid" {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test\"\r\n"
            );
            return (401, challenge, br#"{"errors":[{"code":"UNAUTHORIZED","message":"token"}]}"#.to_vec());
        }
        match content.get(&path) {
            Some((kind, body)) => (200, format!("Content-Type: {kind}\r\n"), body.clone()),
            None if path == "/v2/" => (200, String::new(), b"{}".to_vec()),
            None => {
                (404, String::new(), br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone"}]}"#.to_vec())
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let (status, headers, body) = answer(&String::from_utf8_lossy(&head));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&body);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_used() {
    let layer = gzip(layer("x", b"1"));
    let config = json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": [digest(&layer.tar)]}})
        .to_string();
    let manifest =
        json!({"schemaVersion": 2, "config": {"digest": digest(config.as_bytes()), "size": config.len()},
        "layers": [{"digest": digest(&layer.packed), "size": layer.packed.len()}]})
        .to_string();
    let blob = |bytes: &[u8]| (format!("/v2/app/blobs/{}", digest(bytes)), (String::new(), bytes.to_vec()));
    let manifest = ("/v2/app/manifests/1".to_owned(), (OCI.manifest.to_owned(), manifest.into_bytes()));
    let port = token_registry([manifest, blob(config.as_bytes()), blob(&layer.packed)].into());
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path(), "");
    let name = format!("127.0.0.1:{port}/app:1");
    let error = pull(&images, &name).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let auth = RegistryAuth { username: "user".into(), password: "secret".into() };
    let image = images.pull(&name, Some(auth), |_| ()).await.unwrap();
    assert_eq!(read(&images, &image, 0, "x"), b"1");
}
