//! Pulls: each once, for all who wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, WeakShared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::access::{Access, Credential};
use super::{ImageService, PullError};
use crate::config::Kubelet;
use crate::runtime::spec::Image;

/// A pull that ended: the image, and how long the pull itself took.
pub(crate) type Pulled = Result<(Image, Duration), PullError>;

/// Ends when nobody waits for it any more.
type Running = WeakShared<BoxFuture<'static, Pulled>>;

/// All pulls of the node: as many at a time as its settings allow, and one for all who want the same
/// image with the same credentials.
pub(crate) struct Puller {
    images: Arc<dyn ImageService>,
    access: Access,
    /// `None`: as many as there are.
    places: Option<Arc<Semaphore>>,
    running: Mutex<HashMap<(String, Vec<Credential>), Running>>,
}

impl Puller {
    /// Nothing is pulled yet.
    pub(crate) fn new(images: Arc<dyn ImageService>, access: Access, settings: &Kubelet) -> Self {
        let most = match settings.serialize_image_pulls {
            true => Some(1),
            false => settings.max_parallel_image_pulls.map(|n| n.max(1)),
        };
        let places = most.map(|n| Arc::new(Semaphore::new(n as usize)));
        Self { images, access, places, running: Mutex::default() }
    }

    /// Who may use what was pulled.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Pulls an image with the first of these credentials that works, without any if there is none; the
    /// pull goes on as long as somebody waits for it.
    pub(crate) async fn pull(self: &Arc<Self>, name: String, credentials: Vec<Credential>) -> Pulled {
        let key = (name, credentials);
        let pull = {
            let mut running = self.running.lock();
            running.retain(|_, pull| pull.upgrade().is_some());
            let known = running.get(&key).and_then(WeakShared::upgrade).filter(|p| p.peek().is_none());
            known.unwrap_or_else(|| {
                let pull = Arc::clone(self).start(key.clone()).boxed().shared();
                running.extend(pull.downgrade().map(|weak| (key, weak)));
                pull
            })
        };
        pull.await
    }

    async fn start(self: Arc<Self>, (name, credentials): (String, Vec<Credential>)) -> Pulled {
        let _place = match &self.places {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        let began = Instant::now();
        let present = self.images.resolve(&name).await.ok().flatten();
        let intent = self.access.begin(&name, present.as_ref().map(|image| image.id.as_str())).await;
        let result = self.with_any(&name, &credentials).await;
        let took = began.elapsed();
        if let Ok((image, credential)) = &result {
            self.access.pulled(&name, &image.id, *credential);
        }
        intent.end().await;
        result.map(|(image, _)| (image, took))
    }

    /// The image, and what opened the registry.
    async fn with_any<'a>(
        &self,
        name: &str,
        credentials: &'a [Credential],
    ) -> Result<(Image, Option<&'a Credential>), PullError> {
        if credentials.is_empty() {
            return Ok((self.images.pull(name, None).await?, None));
        }
        let mut errors = Vec::new();
        for credential in credentials {
            match self.images.pull(name, Some(&credential.auth)).await {
                Ok(image) => return Ok((image, Some(credential))),
                Err(error) => errors.push(error),
            }
        }
        Err(match errors.len() {
            1 => errors.remove(0),
            _ => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                PullError::Failed(format!("[{}]", texts.join(", ")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::RootFs;
    use super::super::access::SecretKey;
    use super::*;
    use crate::runtime::images::{Collection, Disk};
    use crate::runtime::spec::RegistryAuth;
    use tokio::sync::watch;

    /// A store whose pulls take until they are let go.
    #[derive(Default)]
    struct Slow {
        go: tokio::sync::Notify,
        now: AtomicUsize,
        most: AtomicUsize,
        pulls: AtomicUsize,
    }

    impl ImageService for Slow {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Image>, PullError>> {
            Box::pin(async { Ok(None) })
        }

        fn pull<'a>(
            &'a self,
            name: &'a str,
            auth: Option<&'a RegistryAuth>,
        ) -> BoxFuture<'a, Result<Image, PullError>> {
            Box::pin(async move {
                if auth.is_some_and(|auth| auth.password == "wrong") {
                    return Err(PullError::Failed("unauthorized".to_owned()));
                }
                self.pulls.fetch_add(1, Ordering::SeqCst);
                self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                self.go.notified().await;
                self.now.fetch_sub(1, Ordering::SeqCst);
                let id = name.to_owned();
                Ok(Image { id, tags: vec![], digests: vec![], size: 1, user: String::new() })
            })
        }

        fn rootfs<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<RootFs, PullError>> {
            Box::pin(async move { Err(PullError::Failed(id.to_owned())) })
        }

        fn list(&self) -> BoxFuture<'_, Vec<Image>> {
            Box::pin(async { Vec::new() })
        }

        fn changes(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }

        fn mark_used(&self, _: &[String]) {}

        fn save(&self) -> BoxFuture<'_, Result<(), PullError>> {
            Box::pin(async { Ok(()) })
        }

        fn disk(&self) -> BoxFuture<'_, Result<Disk, PullError>> {
            Box::pin(async { Ok(Disk { capacity: 1, available: 1 }) })
        }

        fn collect(&self, _: Collection) -> BoxFuture<'_, Result<u64, PullError>> {
            Box::pin(async { Ok(0) })
        }
    }

    fn settings(serialize: bool, most: Option<u32>) -> Kubelet {
        let settings = Kubelet::new(PathBuf::from("/none"), 1 << 30);
        Kubelet { serialize_image_pulls: serialize, max_parallel_image_pulls: most, ..settings }
    }

    fn puller(slow: &Arc<Slow>, settings: &Kubelet) -> (Arc<Puller>, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let access = Access::open(directory.path().join("access.json"), settings);
        (Arc::new(Puller::new(Arc::clone(slow) as Arc<dyn ImageService>, access, settings)), directory)
    }

    /// Pulls these names at once and lets a pull go when `expected` run, or all that are left of `distinct`
    /// ones; the most pulls at a time, and all there were.
    async fn pull(
        settings: &Kubelet,
        names: &[&str],
        (expected, distinct): (usize, usize),
    ) -> (usize, usize) {
        let slow = Arc::new(Slow::default());
        let (puller, _directory) = puller(&slow, settings);
        let pulls = names.iter().map(|name| puller.pull((*name).to_owned(), Vec::new()));
        let mut all = std::pin::pin!(futures::future::join_all(pulls));
        loop {
            tokio::select! {
                biased;
                results = &mut all => {
                    assert!(results.iter().zip(names).all(|(r, name)| r.as_ref().is_ok_and(|(i, _)| i.id == *name)));
                    return (slow.most.load(Ordering::SeqCst), slow.pulls.load(Ordering::SeqCst));
                }
                () = tokio::task::yield_now() => {
                    let running = slow.now.load(Ordering::SeqCst);
                    let ended = slow.pulls.load(Ordering::SeqCst) - running;
                    if running > 0 && running >= expected.min(distinct - ended) {
                        slow.go.notify_one();
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn one_pull_serves_all_and_settings_say_how_many_run() {
        let names = ["a", "a", "b", "c", "a", "d"];
        for (settings, expected) in [
            (settings(true, Some(3)), (1, 4)),
            (settings(false, Some(2)), (2, 4)),
            (settings(false, None), (4, 4)),
        ] {
            assert_eq!(pull(&settings, &names, expected).await, expected);
        }
    }

    #[tokio::test]
    async fn a_pull_that_nobody_waits_for_gives_its_place_up() {
        let slow = Arc::new(Slow::default());
        let (puller, _directory) = puller(&slow, &settings(true, None));
        let given_up = puller.pull("a".to_owned(), Vec::new());
        assert!(tokio::time::timeout(Duration::from_millis(20), given_up).await.is_err());
        slow.go.notify_one();
        let next = tokio::time::timeout(Duration::from_secs(10), puller.pull("b".to_owned(), Vec::new()));
        assert_eq!(next.await.expect("the place is free").expect("pulled").0.id, "b");
    }

    #[tokio::test]
    async fn the_credentials_that_work_open_the_image_and_no_others() {
        let slow = Arc::new(Slow::default());
        let (puller, _directory) = puller(&slow, &settings(false, None));
        let credential = |password: &str| Credential {
            auth: RegistryAuth { username: "u".into(), password: password.into() },
            secret: SecretKey { uid: password.into(), namespace: "ns".into(), name: password.into() },
        };
        let wrong = puller.pull("r/a:1".into(), vec![credential("wrong"), credential("wrong")]).await;
        assert_eq!(wrong.expect_err("refused").to_string(), "[unauthorized, unauthorized]");
        assert!(puller.access().is_open("r/a:1", "sha256:1"), "imported: nobody has pulled it");
        slow.go.notify_one();
        let keys = vec![credential("wrong"), credential("right")];
        let (image, _) = puller.pull("r/a:1".into(), keys).await.expect("pulled");
        let access = puller.access();
        assert!(!access.is_open("r/a:1", &image.id));
        assert!(access.opens("r/a:1", &image.id, &[credential("right")]).await);
        assert!(!access.opens("r/a:1", &image.id, &[credential("wrong")]).await);
    }
}
