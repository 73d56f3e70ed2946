//! Manifests, indexes and configurations, of OCI (image-spec v1.1) and of Docker (schema 2).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::digest;
use super::error::Error;
use super::platform::Platform;

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
    /// Where a layer lies that registries must not distribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
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
    artifact_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// Configurations of images. Some old tools left the type away, or knew none.
const IMAGES: &[&str] = &[
    "",
    "application/octet-stream",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
];

impl Document {
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| Error::invalid(name, e))?;
        if raw.schema_version != 2 {
            let reason = match raw.schema_version {
                1 => "it has the old format Docker schema 1, which no current runtime takes: \
                      push it again with a current tool"
                    .to_owned(),
                other => format!("its manifest has schema version {other}, not 2"),
            };
            return Err(Error::invalid(name, reason));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), ..) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => {
                let manifest = Manifest { config, layers };
                manifest.check(name, &raw.artifact_type)?;
                Ok(Self::Manifest(manifest))
            }
            _ => Err(Error::invalid(name, "its manifest has neither manifests nor config and layers")),
        }
    }
}

impl Manifest {
    /// An error if this is something else than an image of layers in tar format.
    fn check(&self, name: &str, artifact: &str) -> Result<(), Error> {
        let kind = self.config.media_type.as_str();
        if !IMAGES.contains(&kind) {
            let kind = if artifact.is_empty() { kind } else { artifact };
            return Err(Error::invalid(
                name,
                format!("it is an artifact of type {kind}, not a container image"),
            ));
        }
        for layer in &self.layers {
            let kind = layer.media_type.as_str();
            if kind.contains("+encrypted") {
                return Err(Error::invalid(name, format!("its layer {} is encrypted", layer.digest)));
            }
            if !kind.is_empty() && kind != "application/octet-stream" && !kind.contains("tar") {
                let what = format!("its layer {} is no tar archive, but of type {kind}", layer.digest);
                return Err(Error::invalid(name, what));
            }
        }
        Ok(())
    }
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
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Option<RawRun>,
    #[serde(default)]
    rootfs: RawRootfs,
}

#[derive(Default, Deserialize)]
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
            platform: raw.platform,
        })
    }

    /// The names of the stacks of its layers, of which the manifest has so many.
    pub(super) fn chains(&self, name: &str, layers: usize) -> Result<Vec<String>, Error> {
        if layers != self.diff_ids.len() {
            let reason = format!("{layers} layers, but {} diff_ids", self.diff_ids.len());
            return Err(Error::invalid(name, reason));
        }
        for diff_id in &self.diff_ids {
            digest::validate(name, diff_id)?;
        }
        Ok(digest::chain_ids(&self.diff_ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_documents_are_read() {
        let text = r#"{"schemaVersion":2,"config":{"digest":"sha256:1","size":3},"layers":[]}"#;
        assert!(matches!(Document::parse("x", text.as_bytes()), Ok(Document::Manifest(_))));
        let text = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(Document::parse("x", text.as_bytes()).ok(), Some(Document::Index(Vec::new())));
        let helm = "application/vnd.cncf.helm.config.v1+json";
        let manifest = |config: &str, layer: &str| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"d"}},
                    "layers":[{{"mediaType":"{layer}","digest":"l"}}]}}"#
            )
        };
        for (bad, says) in [
            (r#"{"schemaVersion":1}"#.to_owned(), "Docker schema 1"),
            (r#"{"schemaVersion":3}"#.to_owned(), "schema version 3"),
            (r#"{"schemaVersion":2}"#.to_owned(), "neither manifests nor config"),
            ("not json".to_owned(), "expected"),
            (
                manifest(helm, ""),
                "an artifact of type application/vnd.cncf.helm.config.v1+json, not a container image",
            ),
            (manifest("", "application/wasm"), "its layer l is no tar archive, but of type application/wasm"),
            (
                manifest("", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
                "its layer l is encrypted",
            ),
        ] {
            let error = Document::parse("x", bad.as_bytes()).unwrap_err();
            assert!(
                matches!(error, Error::Invalid { .. }) && error.to_string().contains(says),
                "{bad}: {error}"
            );
        }
        for layer in [
            "",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ] {
            assert!(Document::parse("x", manifest("", layer).as_bytes()).is_ok(), "{layer}");
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
        for text in [r#"{"rootfs":{"diff_ids":null}}"#, "{}", r#"{"config":{}}"#] {
            let empty = Config::parse("x", text.as_bytes()).unwrap();
            assert_eq!((empty.run, empty.platform), (ImageConfig::default(), Platform::default()));
        }
    }
}
