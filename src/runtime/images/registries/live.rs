//! The configuration as its file is now: who changes it need not start anything again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::RegistriesConfig;

/// A file as it was when it was read.
pub(super) type Stamp = Option<(u64, u64, i64, i64)>;

pub(super) fn stamp(path: &std::path::Path) -> Stamp {
    let stamp = |m: Metadata| (m.ino(), m.len(), m.mtime(), m.mtime_nsec());
    std::fs::metadata(path).ok().map(stamp)
}

/// Where a configuration was read from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub stamp: Stamp,
}

/// A configuration that follows its file.
#[derive(Debug)]
pub(in crate::runtime::images) struct Registries(Mutex<Arc<RegistriesConfig>>);

impl Registries {
    pub(in crate::runtime::images) fn new(config: RegistriesConfig) -> Self {
        Self(Mutex::new(Arc::new(config)))
    }

    /// The configuration now. What its file says is taken if it can be, else what it said before.
    pub(in crate::runtime::images) fn now(&self) -> Arc<RegistriesConfig> {
        let mut config = self.0.lock();
        let Some(source) = &config.source else { return Arc::clone(&config) };
        let stamp = stamp(&source.path);
        if stamp != source.stamp {
            let path = source.path.clone();
            let read = RegistriesConfig::load(&path).unwrap_or_else(|error| {
                tracing::warn!(%error, "{}: what it said before stays", path.display());
                (**config).clone()
            });
            *config = Arc::new(RegistriesConfig {
                default_endpoint: config.default_endpoint,
                patience: config.patience,
                source: Some(Source { path, stamp }),
                ..read
            });
        }
        Arc::clone(&config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::images::registries::endpoint::Credentials;

    #[test]
    fn changes_of_the_file_count_at_once_and_mistakes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.yaml");
        let config = RegistriesConfig::load(&path).unwrap().with_default_endpoint(false);
        let registries = Registries::new(config);
        let found = || registries.now().endpoints(&"r.example/x".parse().unwrap(), None).remove(0);
        assert_eq!(found().credentials, Credentials::Anonymous);
        let user = |name: &str| format!("configs: {{r.example: {{auth: {{username: {name}}}}}}}");
        let basic = |name: &str| Credentials::Basic(name.to_owned(), String::new());
        std::fs::write(&path, user("first")).unwrap();
        assert_eq!(found().credentials, basic("first"));
        std::fs::write(&path, "configs: [").unwrap();
        assert_eq!(found().credentials, basic("first"));
        std::fs::write(&path, format!("mirrors: {{'*': {{endpoint: [m.example]}}}}\n{}", user("2"))).unwrap();
        assert_eq!((found().host.as_str(), registries.now().default_endpoint), ("m.example", false));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found().credentials, Credentials::Anonymous);
    }
}
