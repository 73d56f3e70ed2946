//! Manifests, indexes and configurations, of OCI (image-spec v1.1) and of Docker (schema 2).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::error::Error;

/// What is accepted from a registry.
pub(super) const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A reference to a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// What a name or a digest leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// One manifest for each platform.
    Index(Vec<Descriptor>),
    /// An image.
    Manifest(Manifest),
}

/// An image: a configuration and layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| Error::invalid(name, e))?;
        if raw.schema_version != 2 {
            let reason = format!("its manifest has schema version {}, not 2", raw.schema_version);
            return Err(Error::invalid(name, reason));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), ..) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => Ok(Self::Manifest(Manifest { config, layers })),
            _ => Err(Error::invalid(name, "its manifest has neither manifests nor config and layers")),
        }
    }
}

impl Platform {
    /// This machine.
    pub(super) fn host() -> Self {
        let machine = nix::sys::utsname::uname().ok();
        let machine = machine.and_then(|u| u.machine().to_str().map(str::to_owned)).unwrap_or_default();
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" if machine.starts_with("armv6") => ("arm", "v6"),
            "arm" if machine.starts_with("armv5") => ("arm", "v5"),
            "arm" => ("arm", "v7"),
            "riscv64" => ("riscv64", ""),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `other` runs here: less is better, `None` is not at all.
    fn fit(&self, other: &Self) -> Option<u32> {
        if other.os != self.os || other.architecture != self.architecture {
            return None;
        }
        match self.architecture.as_str() {
            "arm" => {
                // A processor runs what is made for it and for its predecessors.
                let level = |v: &str| v.trim_start_matches('v').parse().unwrap_or(7u32);
                level(&self.variant).checked_sub(level(&other.variant))
            }
            "amd64" if !matches!(other.variant.as_str(), "" | "v1") => None,
            _ => Some(0),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

/// The manifest of an index that fits this platform best; of equal ones the first.
pub(super) fn choose<'a>(
    name: &str,
    manifests: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, Error> {
    let fit = |d: &&Descriptor| match &d.platform {
        Some(platform) => host.fit(platform),
        // An index of a single image needs no platform.
        None => (manifests.len() == 1).then_some(0),
    };
    let best = manifests.iter().filter(|d| fit(d).is_some()).min_by_key(fit);
    best.ok_or_else(|| {
        let found: Vec<_> =
            manifests.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Error::NoPlatform { name: name.to_owned(), wanted: host.to_string(), found }
    })
}

/// What a container of an image runs unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// User name or number, with an optional group after a colon; empty is root.
    pub user: String,
    /// Working directory; empty is `/`.
    pub working_dir: String,
    /// Signal that asks it to stop, such as `SIGQUIT`; empty is `SIGTERM`.
    pub stop_signal: String,
    /// Directories that should be volumes.
    pub volumes: Vec<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

/// A configuration as read.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub run: ImageConfig,
    pub diff_ids: Vec<String>,
    pub platform: Platform,
}

impl Config {
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let raw: RawConfig = serde_json::from_slice(bytes).map_err(|e| Error::invalid(name, e))?;
        let run = raw.config.unwrap_or_default();
        let env = run.env.unwrap_or_default();
        let pair = |e: String| match e.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (e, String::new()),
        };
        Ok(Self {
            run: ImageConfig {
                entrypoint: run.entrypoint.unwrap_or_default(),
                cmd: run.cmd.unwrap_or_default(),
                env: env.into_iter().map(pair).collect(),
                user: run.user.unwrap_or_default(),
                working_dir: run.working_dir.unwrap_or_default(),
                stop_signal: run.stop_signal.unwrap_or_default(),
                volumes: run.volumes.unwrap_or_default().into_keys().collect(),
                labels: run.labels.unwrap_or_default(),
            },
            diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
            platform: Platform { architecture: raw.architecture, os: raw.os, variant: raw.variant },
        })
    }

    /// An error if it is for another machine.
    pub(super) fn check_platform(&self, name: &str) -> Result<(), Error> {
        let host = Platform::host();
        // Images for arm often leave their variant out here; the index has told.
        let found = Platform { variant: String::new(), ..self.platform.clone() };
        match host.architecture == found.architecture && host.os == found.os {
            true => Ok(()),
            false => Err(Error::NoPlatform {
                name: name.to_owned(),
                wanted: host.to_string(),
                found: self.platform.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() }
    }

    fn index(platforms: &[(&str, &str, &str)]) -> Vec<Descriptor> {
        let descriptor = |(n, (os, arch, variant)): (usize, &(&str, &str, &str))| Descriptor {
            digest: n.to_string(),
            platform: Some(platform(os, arch, variant)),
            ..Descriptor::default()
        };
        platforms.iter().enumerate().map(descriptor).collect()
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let all = index(&[
            ("windows", "amd64", ""),
            ("linux", "arm", "v5"),
            ("linux", "arm", "v7"),
            ("linux", "arm", "v6"),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
            ("linux", "arm64", "v8"),
            ("unknown", "unknown", ""),
        ]);
        let chosen = |arch, variant| {
            choose("x", &all, &platform("linux", arch, variant)).map(|d| d.digest.clone()).ok()
        };
        assert_eq!(chosen("amd64", "").as_deref(), Some("5"));
        assert_eq!(chosen("arm64", "v8").as_deref(), Some("6"));
        assert_eq!(chosen("arm", "v7").as_deref(), Some("2"));
        assert_eq!(chosen("arm", "v6").as_deref(), Some("3"));
        assert_eq!(chosen("arm", "v5").as_deref(), Some("1"));
        assert_eq!(chosen("riscv64", ""), None);
        let error = choose("x", &all[..1], &platform("linux", "arm", "v7")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no match for platform linux/arm/v7 in image \"x\": it has windows/amd64"
        );
    }

    #[test]
    fn both_kinds_of_documents_are_read() {
        let text = r#"{"schemaVersion":2,"config":{"digest":"sha256:1","size":3},"layers":[]}"#;
        assert!(matches!(Document::parse("x", text.as_bytes()), Ok(Document::Manifest(_))));
        let text = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(Document::parse("x", text.as_bytes()).ok(), Some(Document::Index(Vec::new())));
        for bad in [r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2}"#, "not json"] {
            assert!(matches!(Document::parse("x", bad.as_bytes()), Err(Error::Invalid { .. })), "{bad}");
        }
    }

    #[test]
    fn configurations_may_leave_everything_out() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b=c","D"],"Cmd":null,
            "Volumes":{"/data":{}},"StopSignal":"SIGQUIT","User":"1:2"},"rootfs":{"diff_ids":["sha256:1"]}}"#;
        let config = Config::parse("x", text.as_bytes()).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(config.run.env, [pair("A", "b=c"), pair("D", "")]);
        assert_eq!((config.run.volumes, config.run.user), (vec!["/data".to_owned()], "1:2".to_owned()));
        assert_eq!(config.diff_ids, ["sha256:1"]);
        let empty = Config::parse("x", br#"{"rootfs":{"diff_ids":null}}"#).unwrap();
        assert_eq!(empty.run, ImageConfig::default());
        assert!(empty.check_platform("x").is_err());
    }
}
