//! Pulls from registries that behave badly, or in their own way.

#[allow(dead_code, reason = "each test uses a part of it")]
mod images_support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use images_support::{CONFIG, INDEX, LAYER, MANIFEST, Registry, Reply, arch, digest, layer, open, open_with};
use kedge::runtime::images::{Error, Images, Patience, RegistriesConfig};
use kedge::runtime::spec::{Image, RegistryAuth};
use serde_json::json;

async fn pull(images: &Images, name: &str) -> Result<Image, Error> {
    images.pull(name, None, |_| ()).await
}

fn size(images: &Images, image: &Image, path: &str) -> u64 {
    fs::metadata(images.layers(&image.id).unwrap()[0].join(path)).unwrap().len()
}

fn left(dir: &tempfile::TempDir, what: &str) -> usize {
    fs::read_dir(dir.path().join("images").join(what)).unwrap().count()
}

/// Answers the first so many requests for which `when` holds with `reply`.
fn first(
    times: usize,
    when: impl Fn(&images_support::Asked) -> bool + Send + Sync + 'static,
    reply: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> Registry {
    let left = AtomicUsize::new(times);
    Registry::with(move |asked, content| {
        let good = content.answer(asked);
        let is_it = when(asked)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if is_it { reply(good) } else { good }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_one_image_gets_it_whatever_it_says_of_its_platform() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::new());
    let images = open(dir.path(), "");
    let bytes = layer("x", 10, 1);
    let rootfs = json!({"diff_ids": [digest(&bytes)]});
    for (tag, mut config) in [("none", json!({})), ("other", json!({"architecture": "s390x", "os": "linux"}))]
    {
        config["rootfs"] = rootfs.clone();
        let config = registry.content.blob(config.to_string().as_bytes(), CONFIG);
        let layers = [registry.content.blob(&bytes, LAYER)];
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        registry.content.document(tag, &manifest);
        assert_eq!(pull(&images, &registry.name(&format!("app:{tag}"))).await.unwrap().tags.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_mirror_is_waited_for_when_there_is_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = first(2, |_| true, |_| Reply::status(503));
    mirror.content.image("1", &[layer("x", 10, 1)]);
    let text = format!("mirrors: {{none.invalid: {{endpoint: ['http://{}']}}}}", mirror.host());
    let config = RegistriesConfig::parse(&text).unwrap();
    let patience =
        Patience { silence: Duration::from_millis(700), attempts: 5, pause: Duration::from_millis(1) };
    let config = config.with_default_endpoint(false).with_patience(patience);
    let images = Images::open(&dir.path().join("images"), config).unwrap();
    assert_eq!(pull(&images, "none.invalid/app:1").await.unwrap().tags, ["none.invalid/app:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_go_better_later_is_tried_again_in_good_time() {
    for status in [408, 429, 500, 502, 503, 504] {
        let dir = tempfile::tempdir().unwrap();
        let registry = first(3, |_| true, move |_| Reply::status(status));
        registry.content.image("1", &[layer("x", 10, 1)]);
        pull(&open(dir.path(), ""), &registry.name("app:1"))
            .await
            .unwrap_or_else(|e| panic!("{status}: {e}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = first(1, |_| true, |_| Reply::status(429).with("Retry-After", 1));
    registry.content.image("1", &[layer("x", 10, 1)]);
    let began = Instant::now();
    pull(&open(dir.path(), ""), &registry.name("app:1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "it was asked to wait");

    let says = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
    let busy = Registry::with(move |_, _| {
        Reply { status: 429, ..Reply::body(says.as_bytes()) }.with("Retry-After", 3600)
    });
    let error = pull(&open(dir.path(), ""), &busy.name("app:1")).await.unwrap_err();
    assert!(error.to_string().contains("429 Too Many Requests: toomanyrequests pull rate limit"), "{error}");
    assert_eq!(busy.asked().len(), 1, "an hour is not waited for");
    let down = Registry::with(|_, _| Reply::status(503));
    let error = pull(&open(dir.path(), ""), &down.name("app:1")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(down.asked().len(), 5);
    let never = Registry::with(|_, _| Reply::status(404));
    assert!(matches!(pull(&open(dir.path(), ""), &never.name("app:1")).await, Err(Error::NotFound { .. })));
    assert_eq!(never.asked().len(), 1, "what is not there will not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_or_cuts_is_gone_on_with() {
    let is_blob = |asked: &images_support::Asked| asked.path.contains("/blobs/");
    for (what, hang) in [("hangs", true), ("cuts", false)] {
        let dir = tempfile::tempdir().unwrap();
        let registry = first(
            3,
            move |a| is_blob(a) && a.from() < 400_000,
            move |good| Reply { only: Some(good.body.len().min(100_000)), hang, ..good },
        );
        registry.content.image("1", &[layer("x", 500_000, 1)]);
        let images = open(dir.path(), "");
        let image = pull(&images, &registry.name("app:1")).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(size(&images, &image, "x"), 500_000);
        let froms: Vec<_> = registry.blobs_asked().iter().map(images_support::Asked::from).collect();
        assert!(froms.iter().any(|f| *f >= 100_000), "{what}: {froms:?}");
        assert_eq!(left(&dir, "ingest"), 0);
    }
    let silent = Registry::with(|_, _| Reply { hang: true, only: Some(0), ..Reply::body(b"never") });
    let dir = tempfile::tempdir().unwrap();
    let patience = Patience { silence: Duration::from_millis(200), attempts: 2, pause: Duration::ZERO };
    let error = pull(&open_with(dir.path(), "", patience), &silent.name("app:1")).await.unwrap_err();
    assert!(error.to_string().contains("nothing came for"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // The first connections bring 300 000 bytes each, and then the registry is away.
    let served = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&served);
    let registry = Registry::with(move |asked, content| {
        let good = content.answer(asked);
        if good.body.len() < 10_000 {
            return good;
        }
        match counting.fetch_add(1, Ordering::SeqCst) {
            0 => Reply { only: Some(300_000), ..good },
            1..5 => Reply { only: Some(0), ..good },
            _ => good,
        }
    });
    registry.content.image("1", &[layer("x", 1_000_000, 1)]);
    let patience = Patience { silence: Duration::from_secs(5), attempts: 4, pause: Duration::ZERO };
    let name = registry.name("app:1");
    let error = pull(&open_with(dir.path(), "", patience), &name).await.unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{error}");
    assert_eq!(left(&dir, "ingest"), 1, "what came is kept");
    let images = open_with(dir.path(), "", patience);
    served.store(9, Ordering::SeqCst);
    let image = pull(&images, &name).await.unwrap();
    assert_eq!(size(&images, &image, "x"), 1_000_000);
    let last = registry.blobs_asked().last().cloned().unwrap();
    assert!(last.from() > 200_000, "{last:?}");
    assert_eq!(left(&dir, "ingest"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_may_be_rotten_and_ranges_unknown() {
    let layer = layer("x", 200_000, 1);
    for (what, kept) in
        [("rotten", vec![7; 100_000]), ("too long", vec![7; 300_000]), ("good", layer[..100_000].to_vec())]
    {
        for ranges in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let registry = Registry::with(move |asked, content| {
                let mut asked = asked.clone();
                if !ranges {
                    asked.headers.remove("range");
                }
                content.answer(&asked)
            });
            registry.content.image("1", std::slice::from_ref(&layer));
            let images = open(dir.path(), "");
            let partial = format!("partial-{}", digest(&layer).trim_start_matches("sha256:"));
            fs::write(dir.path().join("images/ingest").join(partial), &kept).unwrap();
            let image = pull(&images, &registry.name("app:1")).await;
            let image = image.unwrap_or_else(|e| panic!("{what}, ranges {ranges}: {e}"));
            assert_eq!(size(&images, &image, "x"), 200_000);
            assert_eq!(left(&dir, "ingest"), 0, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_the_wrong_size_or_content_are_refused() {
    for (what, says) in
        [("short", "connection closed after"), ("long", "at least"), ("other", "digest mismatch")]
    {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::with(move |asked, content| {
            let mut good = content.answer(asked);
            if good.body.len() > 100_000 {
                match what {
                    "short" if asked.from() > 0 => good.body.clear(),
                    "short" => good.body.truncate(50_000),
                    "long" => good.body.extend([0; 5000]),
                    _ => good.body[50_000] ^= 1,
                }
            }
            good
        });
        registry.content.image("1", &[layer("x", 200_000, 1)]);
        let patience = Patience { silence: Duration::from_secs(5), attempts: 2, pause: Duration::ZERO };
        let images = open_with(dir.path(), "", patience);
        let error = pull(&images, &registry.name("app:1")).await.unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert!(images.list().is_empty());
        assert_eq!(left(&dir, "layers"), 0);
        // Only what may be gone on with is kept.
        assert_eq!(left(&dir, "ingest"), usize::from(what == "short"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_may_lie_elsewhere_where_credentials_do_not_belong() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(first(1, |_| true, |good| Reply { only: Some(100_000), ..good }));
    let (target, other) = (store.host(), Arc::clone(&store));
    let basic = "Basic dXNlcjpwYXNz";
    let registry = Registry::with(move |asked, content| match asked.header("authorization") == basic {
        false => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
        true if asked.is_blob() => {
            Reply::status(307).with("Location", format!("http://{target}{}", asked.path))
        }
        true => content.answer(asked),
    });
    let bytes = layer("x", 200_000, 1);
    registry.content.image("1", std::slice::from_ref(&bytes));
    // The config is there, too.
    other.content.image("1", std::slice::from_ref(&bytes));
    let images = open(dir.path(), "");
    let auth = RegistryAuth { username: "user".into(), password: "pass".into() };
    let image = images.pull(&registry.name("team/app:1"), Some(auth.clone()), |_| ()).await.unwrap();
    assert_eq!(size(&images, &image, "x"), 200_000);
    let asked = store.asked();
    assert!(asked.len() >= 2 && asked.iter().all(|a| a.header("authorization").is_empty()), "{asked:?}");
    assert_eq!(registry.asked()[0].header("authorization"), "", "not before it was asked for");
    let wrong = RegistryAuth { password: "wrong".into(), ..auth };
    let error = images.pull(&registry.name("team/app:1"), Some(wrong), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

/// A registry whose tokens are good for three requests each.
fn token_registry() -> Registry {
    let tokens = AtomicUsize::new(0);
    let used = parking_lot::Mutex::new(std::collections::HashMap::<String, usize>::new());
    Registry::with(move |asked, content| {
        if asked.path.starts_with("/token") {
            let n = tokens.fetch_add(1, Ordering::SeqCst);
            return Reply::body(
                json!({"access_token": format!("t{n}"), "expires_in": 1}).to_string().as_bytes(),
            );
        }
        let token = asked.header("authorization").trim_start_matches("Bearer ").to_owned();
        let uses = used.lock().entry(token.clone()).and_modify(|n| *n += 1).or_insert(1).to_owned();
        match token.starts_with('t') && uses <= 3 {
            true => content.answer(asked),
            false => {
                let realm = format!("http://{}/token", asked.header("host"));
                let challenge =
                    format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:team/app:pull\"");
                Reply::status(401).with("WWW-Authenticate", challenge)
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_expire_while_a_pull_goes_on() {
    let layers: Vec<_> = (0..6).map(|n| layer(&format!("f{n}"), 1000, n + 1)).collect();
    for (who, registries) in [
        ("anonymous", ""),
        ("basic", "auth: {username: user, password: pass}"),
        ("identity", "auth: {identity_token: refresh}"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let registry = token_registry();
        registry.content.image("1", &layers);
        let registries = match registries {
            "" => String::new(),
            auth => format!("configs: {{'{}': {{{auth}}}}}", registry.host()),
        };
        pull(&open(dir.path(), &registries), &registry.name("team/app:1"))
            .await
            .unwrap_or_else(|e| panic!("{who}: {e}"));
        let asked = registry.asked();
        let tokens: Vec<_> = asked.iter().filter(|a| a.path.starts_with("/token")).collect();
        assert!(tokens.len() >= 3, "{} requests need as many tokens", asked.len());
        for token in tokens {
            match who {
                "identity" => {
                    assert_eq!(token.method, "POST");
                    let form = "service=reg&scope=repository%3Ateam%2Fapp%3Apull&grant_type=refresh_token&refresh_token=refresh&client_id=kedge";
                    assert_eq!(token.body, form);
                }
                _ => {
                    assert_eq!(token.path, "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull");
                    let basic = if who == "basic" { "Basic dXNlcjpwYXNz" } else { "" };
                    assert_eq!(token.header("authorization"), basic);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_their_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, mirror) = (Registry::with(|_, _| Reply::status(503)), Registry::new());
    mirror.content.image("1", &[layer("x", 10, 1)]);
    let file = format!(
        "mirrors:\n  docker.io:\n    endpoint: ['http://{}', 'http://{}/proxy/hub']\n    rewrite: {{'^library/(.*)': 'copies/$1'}}\n  '*':\n    endpoint: ['{}']\n",
        empty.host(),
        mirror.host(),
        mirror.host()
    );
    let images = open(dir.path(), &file);
    let image = pull(&images, "app:1").await.unwrap();
    assert_eq!(image.tags, ["docker.io/library/app:1"]);
    assert_eq!(empty.asked().len(), 1, "a mirror is not waited for");
    let paths: Vec<_> = mirror.asked().into_iter().map(|a| a.path).collect();
    assert_eq!(paths[0], "/proxy/hub/copies/app/manifests/1?ns=docker.io");
    pull(&images, "quay.io/team/app:1").await.unwrap();
    let last = mirror.asked().last().cloned().unwrap().path;
    assert!(last.starts_with("/v2/team/app/") && last.ends_with("?ns=quay.io"), "{last}");
    let by_digest = images.resolve("app:1").unwrap().digests[0].clone();
    pull(&images, &by_digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_lead_through_what_is_no_image_to_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let content = &registry.content;
    let mut right = content.image("right", &[layer("x", 10, 1)]);
    let platform = |os: &str, architecture: &str| json!({"os": os, "architecture": architecture});
    let index = |tag: &str, manifests: &[serde_json::Value]| {
        content.document(tag, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
    };
    let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.sbom",
        "config": content.blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": []});
    let mut attestation = content.document("sbom", &artifact);
    let sbom = attestation.clone();
    attestation["platform"] = platform("unknown", "unknown");
    // Without a platform of its own: its configuration tells.
    let inner = index("inner", &[attestation.clone(), right.clone()]);
    let nested = index("nested", &[attestation.clone(), sbom, inner]);
    let images = open(dir.path(), "");
    let image = pull(&images, &registry.name("app:nested")).await.unwrap();
    assert_eq!(image.digests, [format!("{}@{}", registry.name("app"), nested["digest"].as_str().unwrap())]);
    right["platform"] = platform("linux", "s390x");
    index("foreign", &[attestation, right]);
    let wasm = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": content.blob(json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": []}}).to_string().as_bytes(), CONFIG),
        "layers": [content.blob(b"\0asm", "application/wasm")]});
    content.document("wasm", &wasm);
    content.document("one", &json!({"schemaVersion": 1, "name": "app", "fsLayers": []}));
    for (tag, says) in [
        ("foreign", "it has linux/s390x"),
        ("sbom", "an artifact of type application/vnd.example.sbom, not a container image"),
        ("wasm", "no tar archive, but of type application/wasm"),
        ("one", "Docker schema 1"),
    ] {
        let error = pull(&images, &registry.name(&format!("app:{tag}"))).await.unwrap_err().to_string();
        assert!(error.contains(says), "{tag}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_must_not_be_distributed_come_from_their_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, vendor) = (Registry::new(), Registry::new());
    let bytes = layer("x", 1000, 1);
    let mut foreign =
        registry.content.blob(&bytes, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    vendor.content.blob(&bytes, LAYER);
    registry.content.forget(&digest(&bytes));
    let url = |digest: &str| format!("http://{}/files/blobs/{digest}", vendor.host());
    foreign["urls"] = json!([url("sha256:none"), url(&digest(&bytes))]);
    let config = json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": [digest(&bytes)]}});
    let config = registry.content.blob(config.to_string().as_bytes(), CONFIG);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [foreign]});
    registry.content.document("1", &manifest);
    let images = open(dir.path(), "");
    let image = pull(&images, &registry.name("app:1")).await.unwrap();
    assert_eq!(size(&images, &image, "x"), 1000);
    let other = json!({"architecture": arch(), "os": "linux", "rootfs": {"diff_ids": [digest(b"nowhere")]}});
    let other = registry.content.blob(other.to_string().as_bytes(), CONFIG);
    let without = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": other,
        "layers": [{"digest": digest(b"nowhere"), "size": 7}]});
    registry.content.document("2", &without);
    let error = pull(&images, &registry.name("app:2")).await.unwrap_err().to_string();
    assert!(error.contains("unknown"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_layers_come_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, peak) = (Arc::clone(&now), Arc::clone(&most));
    let registry = Registry::with(move |asked, content| {
        let good = content.answer(asked);
        if good.body.len() > 10_000 {
            peak.fetch_max(counting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for others to come, if they may.
            std::thread::sleep(Duration::from_millis(100));
            counting.fetch_sub(1, Ordering::SeqCst);
        }
        good
    });
    registry.content.image("1", &(0..7).map(|n| layer(&format!("f{n}"), 20_000, n + 1)).collect::<Vec<_>>());
    pull(&open(dir.path(), ""), &registry.name("app:1")).await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
