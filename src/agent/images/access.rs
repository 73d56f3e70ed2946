//! Who may use an image that is on this node: kubelet's `KubeletEnsureSecretPulledImages` (KEP-2535).
//!
//! A pod without the credentials that an image was pulled with has to pull it itself, whatever its pull policy;
//! the policy `Never` then finds nothing. What was imported, or pulled by `kedge images`, is everybody's
//! by default. What is known lies in a file of the agent; a pull is noted there before it begins, so that one
//! that was cut short is not taken for an import.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{ImageVerification, Kubelet};
use crate::runtime::spec::RegistryAuth;

/// No more secrets than these are added for an image that is known to be open to others already.
const MAX_SECRETS: usize = 100;

/// Which secret it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SecretKey {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// A user name and password of a pull secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    pub auth: RegistryAuth,
    pub secret: SecretKey,
}

impl Credential {
    fn used(&self) -> Used {
        let RegistryAuth { username, password } = &self.auth;
        let mut hasher = Sha256::new_with_prefix((username.len() as u64).to_be_bytes());
        hasher.update(username);
        hasher.update(password);
        Used { secret: self.secret.clone(), hash: hex::encode(hasher.finalize()) }
    }
}

/// Credentials that have opened an image: a secret, and a digest of what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    #[serde(flatten)]
    secret: SecretKey,
    hash: String,
}

/// Whom an image is open to, under one of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// Every pod: it was pulled without a secret.
    everybody: bool,
    secrets: Vec<Used>,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Records {
    /// By image id, and the repository it was pulled from.
    pulled: BTreeMap<String, BTreeMap<String, Open>>,
    /// Names that are being pulled, and how often; after a restart, of which it is not known how that ended.
    pulling: BTreeMap<String, u32>,
    /// The file was damaged: no image can be told from an import any more.
    #[serde(default)]
    lost: bool,
}

/// See the module.
pub(crate) struct Access {
    file: PathBuf,
    policy: ImageVerification,
    records: Mutex<Records>,
    /// What the file has; held while it is written.
    written: tokio::sync::Mutex<Records>,
}

/// A pull that has begun.
pub(crate) struct Intent<'a> {
    access: &'a Access,
    name: String,
}

impl Intent<'_> {
    /// It has ended, well or not.
    pub(crate) async fn end(self) {
        let access = self.access;
        drop(self);
        access.save().await;
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        let mut records = self.access.records.lock();
        match records.pulling.get_mut(&self.name) {
            Some(pulls) if *pulls > 1 => *pulls -= 1,
            _ => drop(records.pulling.remove(&self.name)),
        }
    }
}

impl Access {
    /// What `file` says.
    pub(crate) fn open(file: PathBuf, settings: &Kubelet) -> Self {
        let mut records = read(&file).unwrap_or_else(|error| {
            tracing::error!(%error, "{}: damaged; pods have to show their pull secrets again", file.display());
            Records { lost: true, ..Records::default() }
        });
        records.pulling.values_mut().for_each(|pulls| *pulls = 0);
        let written = tokio::sync::Mutex::new(records.clone());
        Self { file, policy: settings.image_verification.clone(), records: Mutex::new(records), written }
    }

    /// Notes that a pull begins. `present` is the image that has the name now: one that the node has pulled
    /// needs no writing, which each start of a container that always pulls would cost.
    pub(crate) async fn begin(&self, name: &str, present: Option<&str>) -> Intent<'_> {
        let is_known = {
            let mut records = self.records.lock();
            *records.pulling.entry(name.to_owned()).or_default() += 1;
            present.is_some_and(|id| records.pulled.contains_key(id))
        };
        let intent = Intent { access: self, name: name.to_owned() };
        if !is_known {
            self.save().await;
        }
        intent
    }

    /// Notes that this opened the image, or that nothing had to. Written when the intent ends.
    pub(crate) fn pulled(&self, name: &str, id: &str, by: Option<&Credential>) {
        let mut records = self.records.lock();
        let open = records.pulled.entry(id.to_owned()).or_default().entry(repository(name)).or_default();
        match by {
            None => open.everybody = true,
            Some(credential) => open.add(credential.used()),
        }
    }

    /// Whether every pod may use the image that is on this node.
    pub(crate) fn is_open(&self, name: &str, id: &str) -> bool {
        let records = self.records.lock();
        let record = records.pulled.get(id);
        let is_ours = records.lost || record.is_some() || records.pulling.contains_key(name);
        !self.policy.is_required(&repository(name), is_ours)
            || record.and_then(|r| r.get(&repository(name))).is_some_and(|open| open.everybody)
    }

    /// Whether one of these credentials opens it.
    pub(crate) async fn opens(&self, name: &str, id: &str, credentials: &[Credential]) -> bool {
        let (is_open, is_new) = {
            let mut records = self.records.lock();
            let open = records.pulled.get_mut(id).and_then(|record| record.get_mut(&repository(name)));
            let Some(open) = open else { return false };
            let fits =
                |new: &&Used| open.secrets.iter().any(|u| u.hash == new.hash || u.secret == new.secret);
            let used: Vec<Used> = credentials.iter().map(Credential::used).collect();
            let Some(new) = used.iter().find(fits) else { return false };
            // A copy of the secret, or what it says now, opens it from now on, too.
            let is_new = !open.secrets.contains(new) && open.secrets.len() < MAX_SECRETS;
            if is_new {
                open.add(new.clone());
            }
            (true, is_new)
        };
        if is_new {
            self.save().await;
        }
        is_open
    }

    /// Forgets images that are not on this node any more; `present` are the ids of those that are.
    pub(crate) async fn keep(&self, present: &[String]) {
        let is_less = {
            let mut records = self.records.lock();
            let before = records.pulled.len();
            // What is being pulled now may be there already, and not be listed yet.
            if records.pulling.values().all(|pulls| *pulls == 0) {
                records.pulled.retain(|id, _| present.contains(id));
            }
            records.pulled.len() < before
        };
        if is_less {
            self.save().await;
        }
    }

    async fn save(&self) {
        let mut written = self.written.lock().await;
        let (file, records) = (self.file.clone(), self.records.lock().clone());
        if records == *written {
            return;
        }
        let new = records.clone();
        match tokio::task::spawn_blocking(move || write(&file, &new)).await {
            Ok(Err(error)) => {
                tracing::error!(%error, "{}: who may use which image is not written down", self.file.display());
            }
            _ => *written = records,
        }
    }
}

impl Open {
    /// A secret opens with what it said last.
    fn add(&mut self, used: Used) {
        self.secrets.retain(|known| known.secret != used.secret);
        self.secrets.push(used);
    }
}

/// An image's full name without tag and digest; what cannot be one as it is.
fn repository(name: &str) -> String {
    let reference = name.parse::<oci_spec::distribution::Reference>();
    reference.map_or_else(|_| name.to_owned(), |r| format!("{}/{}", r.registry(), r.repository()))
}

fn read(file: &Path) -> io::Result<Records> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Records::default()),
        bytes => Ok(serde_json::from_slice(&bytes?)?),
    }
}

fn write(file: &Path, records: &Records) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    new.write_all(&serde_json::to_vec(records)?)?;
    new.sync_all()?;
    fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        /// As after a start with that policy.
        fn access(&self, policy: &str) -> Access {
            let mut settings = Kubelet::new(PathBuf::new(), 1 << 30);
            settings.set("image-pull-credentials-verification-policy", policy).expect(policy);
            Access::open(self.0.path().join("access.json"), &settings)
        }
    }

    fn credential(uid: &str, password: &str) -> Credential {
        Credential {
            auth: RegistryAuth { username: "u".into(), password: password.into() },
            secret: SecretKey { uid: uid.into(), namespace: "ns".into(), name: "s".into() },
        }
    }

    const NAME: &str = "r.example/team/app:1";

    #[tokio::test]
    async fn a_secret_opens_by_what_it_says_and_by_who_it_is() {
        let node = Node::new();
        let access = node.access("NeverVerifyPreloadedImages");
        let intent = access.begin(NAME, None).await;
        assert!(!access.is_open(NAME, "sha256:1"), "it is being pulled");
        access.pulled(NAME, "sha256:1", Some(&credential("a", "first")));
        intent.end().await;
        let access = node.access("NeverVerifyPreloadedImages");
        assert!(!access.is_open(NAME, "sha256:1"));
        for (uid, password, expected) in [
            ("b", "other", false),
            // A copy, and the same secret with a new password.
            ("b", "first", true),
            ("a", "second", true),
            // Both opened it once, so they do for ever.
            ("c", "second", true),
            ("b", "third", true),
            ("d", "none", false),
        ] {
            let opens = access.opens(NAME, "sha256:1", &[credential(uid, password)]).await;
            assert_eq!(opens, expected, "{uid} {password}");
        }
        let other = "r.example/team/other:1";
        assert!(!access.opens(other, "sha256:1", &[credential("a", "second")]).await, "another name");
        assert!(!access.opens(NAME, "sha256:1", &[]).await);
        access.keep(&["sha256:2".to_owned()]).await;
        assert!(node.access("NeverVerifyPreloadedImages").is_open(NAME, "sha256:1"), "forgotten");
    }

    #[tokio::test]
    async fn policies_say_what_needs_no_credentials() {
        let node = Node::new();
        let access = node.access("NeverVerifyPreloadedImages");
        for (id, credential) in [("sha256:free", None), ("sha256:shut", Some(credential("a", "p")))] {
            let intent = access.begin(NAME, None).await;
            access.pulled(NAME, id, credential.as_ref());
            intent.end().await;
        }
        for (policy, imported, free, shut) in [
            ("NeverVerify", true, true, true),
            ("NeverVerifyPreloadedImages", true, true, false),
            ("NeverVerifyAllowlistedImages", false, true, false),
            ("AlwaysVerify", false, true, false),
        ] {
            let access = node.access(policy);
            let found = ["sha256:imported", "sha256:free", "sha256:shut"].map(|id| access.is_open(NAME, id));
            assert_eq!(found, [imported, free, shut], "{policy}");
        }
    }

    #[tokio::test]
    async fn a_pull_that_was_cut_short_is_no_import() {
        let node = Node::new();
        let access = node.access("NeverVerifyPreloadedImages");
        std::mem::forget(access.begin(NAME, None).await);
        let access = node.access("NeverVerifyPreloadedImages");
        assert!(!access.is_open(NAME, "sha256:1"));
        access.begin(NAME, None).await.end().await;
        assert!(access.is_open(NAME, "sha256:1"), "it failed, and an import brought the image");
        let (one, two) = (access.begin(NAME, None).await, access.begin(NAME, None).await);
        drop(one);
        assert!(!access.is_open(NAME, "sha256:1"));
        drop(two);
        assert!(access.is_open(NAME, "sha256:1"));
    }

    #[tokio::test]
    async fn pulling_the_same_again_writes_nothing() {
        let node = Node::new();
        let access = node.access("NeverVerifyPreloadedImages");
        let pull = async |present| {
            let intent = access.begin(NAME, present).await;
            access.pulled(NAME, "sha256:1", Some(&credential("a", "p")));
            intent.end().await;
        };
        pull(None).await;
        fs::remove_file(node.0.path().join("access.json")).expect("it was written");
        pull(Some("sha256:1")).await;
        assert!(!node.0.path().join("access.json").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_read_opens_nothing() {
        let node = Node::new();
        fs::write(node.0.path().join("access.json"), "{").expect("writes");
        let access = node.access("NeverVerifyPreloadedImages");
        assert!(!access.is_open(NAME, "sha256:1"));
        access.begin(NAME, None).await.end().await;
        assert!(!node.access("NeverVerifyPreloadedImages").is_open(NAME, "sha256:1"));
    }
}
