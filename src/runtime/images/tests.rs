use std::fs;
use std::io::Write;

use serde_json::json;

use super::*;

/// A tar archive with these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[&[u8]], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| digest::of(l)).collect();
    let run = json!({"Entrypoint": ["/app"], "Cmd": ["-v"], "Env": ["A=1"], "User": "www:www",
        "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Volumes": {"/data": {}}});
    json!({"architecture": architecture, "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes()
}

fn host() -> String {
    platform::Platform::host().architecture
}

fn hex(bytes: &[u8]) -> String {
    digest::of(bytes).replace("sha256:", "")
}

/// As `docker save` makes it: images are their tags and layers.
fn docker_archive(images: &[(&[&str], &[&[u8]])]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut list = Vec::new();
    for (tags, layers) in images {
        let config = config(layers, &host());
        let name = format!("{}.json", hex(&config));
        let mut paths = Vec::new();
        for layer in *layers {
            let path = format!("{}/layer.tar", hex(layer));
            files.push((path.clone(), layer.to_vec()));
            paths.push(path);
        }
        list.push(json!({"Config": name, "RepoTags": tags, "Layers": paths}));
        files.push((name, config));
    }
    files.push(("manifest.json".to_owned(), json!(list).to_string().into_bytes()));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    tar(&files)
}

fn oci_archive(layer: &[u8], name: Option<&str>, architecture: &str) -> Vec<u8> {
    let config = config(&[layer], architecture);
    let packed = gzip(layer);
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest::of(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)]})
    .to_string();
    let mut top = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    if let Some(name) = name {
        top["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"});
    }
    let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let (config_path, manifest_path, layer_path) = (blob(&config), blob(manifest.as_bytes()), blob(&packed));
    tar(&[
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        ("index.json", index.as_bytes()),
        (&config_path, &config),
        (&manifest_path, manifest.as_bytes()),
        (&layer_path, &packed),
    ])
}

fn open(root: &Path) -> Images {
    Images::open(root, RegistriesConfig::default()).unwrap()
}

async fn import(images: &Images, archive: Vec<u8>) -> Result<Vec<Image>, Error> {
    images.import(std::io::Cursor::new(archive), ImportOptions::default()).await
}

/// Everything that may go.
fn collect(images: &Images, in_use: &HashSet<String>, bytes: u64) -> u64 {
    images.collect(&Collection { in_use: in_use.clone(), bytes, ..Collection::default() }).unwrap()
}

fn none() -> HashSet<String> {
    HashSet::new()
}

fn count(dir: PathBuf) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn docker_archives_bring_all_their_images_and_share_layers() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (base, top) = (tar(&[("etc/os", b"base")]), tar(&[("app", b"program")]));
    let archive = docker_archive(&[(&["base:1", "base:2"], &[&base]), (&["me/app:1"], &[&base, &top])]);
    for archive in [archive.clone(), gzip(&archive)] {
        let found = import(&images, archive).await.unwrap();
        assert_eq!(found[0].tags, ["docker.io/library/base:1", "docker.io/library/base:2"]);
        assert_eq!(found[1].tags, ["docker.io/me/app:1"]);
    }
    assert_eq!((images.list().len(), count(dir.path().join("layers"))), (2, 2));
    let app = images.resolve("me/app:1").unwrap();
    let layers = images.layers(&app.id).unwrap();
    assert_eq!(fs::read(layers[0].join("app")).unwrap(), b"program", "top first");
    assert_eq!(fs::read(layers[1].join("etc/os")).unwrap(), b"base");
    assert_eq!((app.size, app.user.as_str(), images.used_bytes()), (11, "www:www", 11));
    assert_eq!(images.resolve(&app.id), Some(app.clone()));
    assert_eq!(images.resolve(&app.id.replace("sha256:", "")), Some(app.clone()));
    let run = images.config(&app.id).unwrap();
    assert_eq!((run.entrypoint, run.cmd), (vec!["/app".to_owned()], vec!["-v".to_owned()]));
    assert_eq!((run.working_dir.as_str(), run.stop_signal.as_str()), ("/srv", "SIGQUIT"));
    drop(images);
    assert_eq!(open(dir.path()).resolve("me/app:1"), Some(app), "after a restart");
}

#[tokio::test]
async fn an_image_whose_files_are_lost_is_absent_until_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let archive = docker_archive(&[(&["app:1"], &[&tar(&[("app", b"program")])])]);
    import(&images, archive.clone()).await.unwrap();
    let app = images.resolve("app:1").unwrap();
    let layer = images.layers(&app.id).unwrap().remove(0);
    let config = dir.path().join("blobs/sha256").join(app.id.trim_start_matches("sha256:"));
    let lose: [&dyn Fn(); 4] = [
        &|| fs::remove_dir_all(layer.parent().unwrap()).unwrap(),
        &|| fs::remove_dir_all(&layer).unwrap(),
        &|| fs::remove_file(layer.with_file_name("size")).unwrap(),
        &|| fs::write(&config, b"{}").unwrap(),
    ];
    for lose in lose {
        lose();
        assert_eq!(images.resolve("app:1"), None);
        import(&images, archive.clone()).await.unwrap();
        assert_eq!(images.resolve("app:1"), Some(app.clone()));
        assert_eq!(fs::read(layer.join("app")).unwrap(), b"program");
    }
    assert_eq!(count(dir.path().join("ingest")), 0);
}

#[tokio::test]
async fn oci_archives_keep_names_and_digests() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let layer = tar(&[("x", b"1")]);
    let found = import(&images, oci_archive(&layer, Some("ghcr.io/a/b:1"), &host())).await.unwrap();
    assert_eq!(found[0].tags, ["ghcr.io/a/b:1"]);
    assert_eq!(images.resolve(&found[0].digests[0]).unwrap().id, found[0].id);
    let unnamed = import(&images, oci_archive(&tar(&[("y", b"2")]), None, &host())).await.unwrap();
    assert!(unnamed[0].tags.is_empty() && images.resolve(&unnamed[0].id).is_some());
}

#[tokio::test]
async fn archives_that_cannot_be_used_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let layer = tar(&[("x", b"1")]);
    let whole = docker_archive(&[(&["a:1"], &[&layer])]);
    let mut rotten = whole.clone();
    let at = rotten.windows(1).position(|b| b == b"1").unwrap();
    rotten[at + 600] ^= 1;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "it has no files"),
        (tar(&[("readme", b"hello")]), "neither index.json"),
        (tar(&[("manifest.json", b"[]")]), "no image"),
        (tar(&[("manifest.json", b"{")]), "manifest.json"),
        (whole[..2500].to_vec(), "cannot be imported"),
        (tar(&[("manifest.json", br#"[{"Config":"c","Layers":[]}]"#)]), "lacks c"),
        (oci_archive(&layer, Some("a:1"), "s390x"), "no match for platform linux/"),
    ];
    for (archive, says) in cases {
        let error = import(&images, archive).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says:?}: {error}");
    }
    assert!(images.list().is_empty());
    assert_eq!(count(dir.path().join("ingest")), 0, "nothing is left behind");
    assert_eq!(count(dir.path().join("layers")), 0);
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_image_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (layer, other) = (tar(&[("x", b"1")]), tar(&[("x", b"2")]));
    let config = config(&[&layer], &host());
    let list = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]).to_string();
    let archive = tar(&[("c.json", &config), ("l.tar", &other), ("manifest.json", list.as_bytes())]);
    let error = import(&images, archive).await.unwrap_err();
    assert!(matches!(&error, Error::DigestMismatch { found, .. } if *found == digest::of(&other)), "{error}");
    assert_eq!((images.list().len(), count(dir.path().join("layers"))), (0, 0));
}

#[tokio::test]
async fn removing_names_and_images_keeps_what_others_need() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (base, top) = (tar(&[("b", b"base")]), tar(&[("t", b"top")]));
    let archive = docker_archive(&[(&["base:1", "base:2"], &[&base]), (&["app:1"], &[&base, &top])]);
    import(&images, archive).await.unwrap();
    let app = images.resolve("app:1").unwrap().id;
    images.remove("base:1", &none()).unwrap();
    assert!(images.resolve("base:1").is_none() && images.resolve("base:2").is_some());
    images.remove("base:2", &none()).unwrap();
    assert_eq!((images.list().len(), count(dir.path().join("layers"))), (1, 2), "app needs it");
    let in_use = HashSet::from([app.clone()]);
    assert!(matches!(images.remove(&app, &in_use), Err(Error::InUse(_))));
    assert!(matches!(images.remove("app:1", &in_use), Err(Error::InUse(_))), "its last name");
    assert_eq!(images.layers(&app).unwrap().len(), 2, "its containers go on");
    assert_eq!(collect(&images, &in_use, u64::MAX), 0);
    assert_eq!(collect(&images, &none(), u64::MAX), 7);
    assert_eq!((images.list().len(), images.used_bytes()), (0, 0));
    for left in ["layers", "blobs/sha256", "ingest"] {
        assert_eq!(count(dir.path().join(left)), 0, "{left}");
    }
    assert!(matches!(images.remove("app:1", &none()), Err(Error::Unknown(_))));
}

#[tokio::test]
async fn a_tag_moves_and_its_old_image_is_collected_first() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    for (tag, data) in [("other:1", b"1"), ("app:1", b"2"), ("app:1", b"3")] {
        let layer = tar(&[("x", data)]);
        import(&images, docker_archive(&[(&[tag], &[&layer])])).await.unwrap();
    }
    assert_eq!((images.list().len(), images.used_bytes()), (3, 3));
    assert_eq!(collect(&images, &none(), 1), 1);
    assert!(images.resolve("app:1").is_some() && images.resolve("other:1").is_some());
    assert_eq!(collect(&images, &none(), 1), 1);
    assert!(images.resolve("app:1").is_some() && images.resolve("other:1").is_none(), "the oldest first");
}

#[tokio::test]
async fn opening_removes_what_a_crash_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let layer = tar(&[("x", b"1")]);
    import(&images, docker_archive(&[(&["a:1"], &[&layer])])).await.unwrap();
    drop(images);
    let half = dir.path().join("layers").join("0".repeat(64));
    for left in [half.join("fs"), dir.path().join("ingest/999999999-2/fs")] {
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("x"), "half").unwrap();
    }
    fs::write(dir.path().join("blobs/sha256/0"), "x").unwrap();
    let images = open(dir.path());
    assert!(!half.exists());
    assert_eq!((count(dir.path().join("ingest")), count(dir.path().join("blobs/sha256"))), (0, 1));
    assert_eq!(images.list().len(), 1);
}

#[tokio::test]
async fn the_executable_makes_an_image_of_itself_once() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(&dir.path().join("images"));
    let exe = dir.path().join("kedge");
    fs::write(&exe, "program").unwrap();
    let first = own::make(&images.0, &exe).unwrap();
    assert_eq!((first.tags.as_slice(), first.size), (&[SELF_IMAGE.to_owned()][..], 7));
    let run = images.config(&first.id).unwrap();
    assert_eq!(run.entrypoint, ["/kedge", "demo"]);
    let root = &images.layers(&first.id).unwrap()[0];
    assert_eq!(fs::read(root.join("kedge")).unwrap(), b"program");
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("root:x:0:0:"));
    assert!(!root.join("bin").exists());
    assert_eq!(own::make(&images.0, &exe).unwrap(), first);
    // Not hashed again: the remembered digest is believed.
    let memo = fs::read_to_string(dir.path().join("images/self.json")).unwrap();
    assert!(memo.contains(&digest::of(b"program")));
    // An upgrade replaces the file by a rename.
    fs::write(dir.path().join("new"), "program 2").unwrap();
    fs::rename(dir.path().join("new"), &exe).unwrap();
    let second = own::make(&images.0, &exe).unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(images.resolve(SELF_IMAGE).unwrap().id, second.id);
    assert_eq!(fs::read(root.join("kedge")).unwrap(), b"program", "the old one stays for its containers");
    collect(&images, &none(), u64::MAX);
    assert_eq!(images.list().len(), 1, "only the one without a name is collected");
    let real = images.self_image().await.unwrap();
    assert_eq!(real.size, fs::metadata(std::env::current_exe().unwrap()).unwrap().len());
}

#[tokio::test]
async fn what_was_used_last_goes_last_and_what_is_pinned_or_young_stays() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let mut ids = Vec::new();
    for name in ["a:1", "b:1", "c:1", "d:1"] {
        let layer = tar(&[("x", name.as_bytes())]);
        ids.push(import(&images, docker_archive(&[(&[name], &[&layer])])).await.unwrap()[0].id.clone());
    }
    let (a, c) = (ids[0].as_str(), ids[2].as_str());
    images.mark_used([a]);
    images.pin(c, true).unwrap();
    drop(images);
    let images = open(dir.path());
    assert!(images.history(a).unwrap().1 > 0, "the use is remembered");
    assert!(images.history(c).unwrap().2);
    let hour = std::time::Duration::from_secs(3600);
    let young = Collection { bytes: u64::MAX, min_age: hour, ..Collection::default() };
    assert_eq!(images.collect(&young).unwrap(), 0);
    assert_eq!(collect(&images, &none(), 1), 3, "one image, the oldest that was never used");
    let names = || images.list().into_iter().flat_map(|i| i.tags).collect::<HashSet<_>>();
    let full =
        |names: &[&str]| names.iter().map(|n| format!("docker.io/library/{n}")).collect::<HashSet<_>>();
    assert_eq!(names(), full(&["a:1", "c:1", "d:1"]));
    let old = Collection { max_age: Some(std::time::Duration::ZERO), ..Collection::default() };
    images.mark_used([a]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(images.collect(&old).unwrap(), 6, "what is too old goes without need");
    assert_eq!(names(), full(&["c:1"]));
    images.remove("c:1", &none()).unwrap();
    assert!(images.list().is_empty(), "by name, also a pinned one");
}

#[tokio::test]
async fn a_file_is_read_where_it_lies_and_may_get_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(&dir.path().join("store"));
    let (one, two) = (tar(&[("x", b"1")]), tar(&[("x", b"2")]));
    let path = dir.path().join("one.tar");
    fs::write(&path, docker_archive(&[(&["a:1"], &[&one])])).unwrap();
    let named = |name: &str| ImportOptions { name: Some(name.into()), pinned: false };
    let take = |options| {
        let file = fs::File::open(&path).unwrap();
        async { images.import_file(file, options).await }
    };
    assert_eq!(take(named("ghcr.io/me/b:2")).await.unwrap()[0].tags, ["ghcr.io/me/b:2"]);
    assert!(images.resolve("a:1").is_none());
    assert!(matches!(take(named("Not a name")).await, Err(Error::InvalidName { .. })));
    fs::write(&path, docker_archive(&[(&["a:1"], &[&one]), (&["b:1"], &[&two])])).unwrap();
    let error = take(named("c:1")).await.unwrap_err().to_string();
    assert!(error.contains("it has 2 images, which cannot all be called c:1"), "{error}");
    assert_eq!(take(ImportOptions::default()).await.unwrap().len(), 2);
    // Cut in the middle: an error, nothing half.
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 4000]).unwrap();
    assert!(take(ImportOptions::default()).await.is_err());
    assert_eq!(count(dir.path().join("store/ingest")), 0);
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (open(&dir.path().join("from")), open(&dir.path().join("to")));
    let (base, top) = (tar(&[("etc/a", b"1"), ("etc/b", b"2")]), tar(&[("etc/.wh.a", b""), ("app", b"3")]));
    import(&from, docker_archive(&[(&["base:1"], &[&base]), (&["app:1", "app:2"], &[&base, &top])]))
        .await
        .unwrap();
    let mut archive = Vec::new();
    from.export(&["app:1".to_owned(), "base:1".to_owned()], &mut archive).unwrap();
    let found = import(&to, archive.clone()).await.unwrap();
    assert_eq!(found.len(), 2);
    let app = to.resolve("app:2").unwrap();
    assert_eq!(app.tags, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    let layers = to.layers(&app.id).unwrap();
    assert_eq!(fs::read(layers[0].join("app")).unwrap(), b"3");
    assert!(tree::is_whiteout(&fs::symlink_metadata(layers[0].join("etc/a")).unwrap()));
    assert_eq!(to.config(&app.id).unwrap(), from.config(&from.resolve("app:1").unwrap().id).unwrap());
    assert_eq!(count(dir.path().join("to/layers")), 2, "the layer they share is there once");
    let mut again = Vec::new();
    to.export(&["app:1".to_owned(), "base:1".to_owned()], &mut again).unwrap();
    assert!(archive == again, "the same image, the same archive");
    // As an OCI layout, too.
    let mut members = tar::Archive::new(&archive[..]);
    let mut oci = tar::Builder::new(Vec::new());
    for entry in members.entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path().unwrap() != Path::new("manifest.json") {
            oci.append(&entry.header().clone(), entry).unwrap();
        }
    }
    let third = open(&dir.path().join("third"));
    let found = import(&third, oci.into_inner().unwrap()).await.unwrap();
    assert_eq!(third.resolve("app:1").unwrap().id, app.id, "{found:?}");
    assert!(matches!(from.export(&["none:1".to_owned()], &mut Vec::new()), Err(Error::Unknown(_))));
}

#[tokio::test]
async fn what_lies_in_the_directory_becomes_images() {
    let dir = tempfile::tempdir().unwrap();
    let (images, drop_in) = (open(&dir.path().join("store")), dir.path().join("drop"));
    fs::create_dir(&drop_in).unwrap();
    let archive = |name: &str| docker_archive(&[(&[name], &[&tar(&[("x", name.as_bytes())])])]);
    fs::write(drop_in.join("first.tar"), archive("first:1")).unwrap();
    fs::write(drop_in.join("readme.md"), "no image").unwrap();
    fs::write(drop_in.join("broken.tar.gz"), "no archive").unwrap();
    let token = tokio_util::sync::CancellationToken::new();
    let mut changes = images.changes();
    let watching = tokio::spawn({
        let (images, drop_in, token) = (images.clone(), drop_in.clone(), token.clone());
        async move { images.watch(&drop_in, token).await }
    });
    let mut until = async |what: &dyn Fn() -> bool| {
        let wait = async {
            while !what() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.unwrap();
    };
    let pinned = |name: &str| images.resolve(name).and_then(|i| images.history(&i.id)).is_some_and(|h| h.2);
    until(&|| pinned("first:1")).await;
    // Put there while it is watched: by a rename, and by writing.
    fs::write(dir.path().join("second"), gzip(&archive("second:1"))).unwrap();
    fs::rename(dir.path().join("second"), drop_in.join("second.tgz")).unwrap();
    until(&|| pinned("second:1")).await;
    fs::write(drop_in.join("first.tar"), archive("first:2")).unwrap();
    until(&|| pinned("first:2")).await;
    let first = images.resolve("first:1").unwrap().id;
    until(&|| !images.history(&first).unwrap().2).await;
    fs::remove_file(drop_in.join("second.tgz")).unwrap();
    until(&|| !pinned("second:1")).await;
    token.cancel();
    watching.await.unwrap().unwrap();
    let memo = fs::read_to_string(dir.path().join("store/imports.json")).unwrap();
    assert!(memo.contains("first.tar") && !memo.contains("second") && !memo.contains("readme"), "{memo}");
}
