//! `registries.yaml`, in the format of k3s: mirrors, credentials and TLS of private registries.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use regex::Regex;
use serde::{Deserialize, Deserializer};

mod endpoint;
mod live;

pub(super) use endpoint::{Credentials, Endpoint};
pub(super) use live::Registries;

use super::error::{Context, Error};
use endpoint::Url;
use live::Source;

/// Where images of which registry come from, and how to get them.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistriesConfig {
    /// By registry; `*` is for those without an entry of their own, which may be empty.
    #[serde(deserialize_with = "values")]
    mirrors: BTreeMap<String, Mirror>,
    /// By host and port of an endpoint or registry; `*` as above.
    #[serde(deserialize_with = "values")]
    configs: BTreeMap<String, HostConfig>,
    /// The old place of credentials, by URL or host.
    #[serde(deserialize_with = "values")]
    auths: BTreeMap<String, AuthConfig>,
    /// Registries with mirrors are asked themselves when those fail.
    #[serde(skip)]
    default_endpoint: bool,
    #[serde(skip)]
    patience: Patience,
    /// Its file.
    #[serde(skip)]
    source: Option<Source>,
}

impl Default for RegistriesConfig {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            configs: BTreeMap::new(),
            auths: BTreeMap::new(),
            default_endpoint: true,
            patience: Patience::default(),
            source: None,
        }
    }
}

/// How long a registry is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A connection that brings nothing for so long is given up.
    pub silence: Duration,
    /// So often something is tried without any progress.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles with each. A registry's `Retry-After` counts more.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(60), attempts: 5, pause: Duration::from_millis(500) }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    /// URLs, tried in order before the registry itself.
    #[serde(deserialize_with = "value")]
    endpoint: Vec<String>,
    /// Regular expressions for repository names, and what replaces what they match.
    #[serde(deserialize_with = "value")]
    rewrite: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostConfig {
    auth: Option<AuthConfig>,
    tls: Option<TlsConfig>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuthConfig {
    username: String,
    password: String,
    /// Base64 of `username:password`.
    auth: String,
    /// A refresh token of OAuth 2.
    identity_token: String,
    /// A token that the registry takes as it is.
    token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsConfig {
    cert_file: String,
    key_file: String,
    ca_file: String,
    insecure_skip_verify: bool,
}

/// What may be there without a value, as YAML writes it: `docker.io:`.
fn value<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// The same of a map and of all that is in it.
fn values<'de, T, D>(from: D) -> Result<BTreeMap<String, T>, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    let map: BTreeMap<String, Option<T>> = value(from)?;
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

impl RegistriesConfig {
    /// Reads the file; one that does not exist is an empty one. An image store follows its changes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] says what is wrong and where, [`Error::Io`] that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let source = Some(Source { path: path.to_owned(), stamp: live::stamp(path) });
        let config = match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(e) => return Err(Error::io(path, e)),
        };
        Ok(Self { source, ..config })
    }

    /// Reads the text of the file and checks all that can be checked without the network.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_yaml::from_str(text).map_err(|e| Error::Config(e.to_string()))?;
        for (registry, mirror) in &config.mirrors {
            let at = |e: &dyn ToString| Error::Config(format!("mirrors.{registry}: {}", e.to_string()));
            for endpoint in &mirror.endpoint {
                Url::parse(endpoint).map_err(|e| at(&e))?;
            }
            for pattern in mirror.rewrite.keys() {
                Regex::new(pattern).map_err(|e| at(&e))?;
            }
        }
        for (host, HostConfig { tls, .. }) in &config.configs {
            if tls.as_ref().is_some_and(|t| t.cert_file.is_empty() != t.key_file.is_empty()) {
                let what = "a client certificate needs both cert_file and key_file";
                return Err(Error::Config(format!("configs.{host}.tls: {what}")));
            }
        }
        Ok(config)
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The same; with `false`, registries that have mirrors are not asked themselves
    /// (k3s' `--disable-default-registry-endpoint`).
    #[must_use]
    pub fn with_default_endpoint(self, default_endpoint: bool) -> Self {
        Self { default_endpoint, ..self }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// A client for an endpoint, which keeps its connections.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Result<reqwest::Client, Error> {
        // Whoever comes first decides for the process; all of kedge wants the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = &endpoint.host;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("kedge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.patience.silence.min(Duration::from_secs(15)))
            .read_timeout(self.patience.silence)
            .referer(false);
        if let Some(tls) = self.tls(host) {
            let refused = |file: &str, e: &dyn std::error::Error| {
                Error::Config(format!("configs.{host}.tls: {file}: {}", super::error::chain(e)))
            };
            builder = builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
            if !tls.ca_file.is_empty() {
                let bundle = reqwest::Certificate::from_pem_bundle(&read(&tls.ca_file)?);
                builder = builder.tls_certs_merge(bundle.map_err(|e| refused(&tls.ca_file, &e))?);
            }
            if !tls.cert_file.is_empty() {
                let pem = [read(&tls.key_file)?, b"\n".to_vec(), read(&tls.cert_file)?].concat();
                let identity = reqwest::Identity::from_pem(&pem);
                builder = builder.identity(identity.map_err(|e| refused(&tls.cert_file, &e))?);
            }
        }
        builder.build().map_err(|e| Error::Config(format!("configs.{host}: {}", super::error::chain(&e))))
    }

    fn mirror(&self, registry: &str) -> Option<&Mirror> {
        self.mirrors.get(registry).or_else(|| self.mirrors.get("*"))
    }

    /// What is configured for a host. An entry of its own says all, also what it leaves out.
    fn host(&self, host: &str) -> Option<&HostConfig> {
        names(host).iter().find_map(|name| self.configs.get(*name))
    }

    fn tls(&self, host: &str) -> Option<&TlsConfig> {
        self.host(host)?.tls.as_ref()
    }

    fn credentials(&self, host: &str) -> Credentials {
        let configured = self.host(host).and_then(|config| config.auth.as_ref());
        let Some(auth) = configured.or_else(|| self.old_auth(host)) else { return Credentials::Anonymous };
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).unwrap_or_default();
        let decoded = String::from_utf8(decoded).unwrap_or_default();
        match decoded.trim_end_matches('\0').split_once(':') {
            _ if !auth.username.is_empty() => {
                Credentials::Basic(auth.username.clone(), auth.password.clone())
            }
            _ if !auth.identity_token.is_empty() => Credentials::Identity(auth.identity_token.clone()),
            _ if !auth.token.is_empty() => Credentials::Bearer(auth.token.clone()),
            Some((username, password)) => Credentials::Basic(username.to_owned(), password.to_owned()),
            None => Credentials::Anonymous,
        }
    }

    fn old_auth(&self, host: &str) -> Option<&AuthConfig> {
        let mut all = self.auths.iter();
        all.find(|(url, _)| Url::parse(url).is_ok_and(|u| u.host == host)).map(|(_, auth)| auth)
    }
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(path).on(Path::new(path))
}

/// Names under which a host may be configured: the Hub has several.
fn names(host: &str) -> Vec<&str> {
    match host {
        "docker.io" => vec!["docker.io", "registry-1.docker.io", "index.docker.io", "*"],
        _ => vec![host, "*"],
    }
}

#[cfg(test)]
mod tests;
