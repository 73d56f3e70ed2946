//! `registries.yaml`, in the format of k3s: mirrors, credentials and TLS of private registries.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use oci_spec::distribution::Reference;
use regex::Regex;
use serde::Deserialize;

use super::error::{Context, Error};
use crate::runtime::spec::RegistryAuth;

/// Where images of which registry come from, and how to get them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistriesConfig {
    /// By registry; `*` is for those without an entry of their own.
    mirrors: BTreeMap<String, Mirror>,
    /// By host and port of an endpoint or registry; `*` as above.
    configs: BTreeMap<String, HostConfig>,
    /// The old place of credentials, by URL or host.
    auths: BTreeMap<String, AuthConfig>,
    #[serde(skip)]
    patience: Patience,
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
    endpoint: Vec<String>,
    /// Regular expressions for repository names, and what replaces what they match.
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
    identity_token: String,
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

/// One place to ask for an image.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The image's repository as it is called there.
    pub repository: String,
    /// Host and port, as users write them.
    pub host: String,
    /// What comes before the repository in URLs, such as `https://registry-1.docker.io/v2`.
    pub base: String,
    /// The registry this one stands for, if it is a mirror: told in `ns`, as containerd does.
    pub namespace: Option<String>,
    /// Credentials.
    pub credentials: Credentials,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// User name and password.
    Basic(String, String),
    /// A refresh token of OAuth 2.
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic(..) => "Basic(..)",
            Self::Identity(_) => "Identity(..)",
        })
    }
}

impl RegistriesConfig {
    /// Reads the file; one that does not exist is an empty one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] says what is wrong and where, [`Error::Io`] that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io(path, e)),
        }
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

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Where to ask for `image`, in order. `auth` is for the image's own registry only.
    pub(super) fn endpoints(&self, image: &Reference, auth: Option<&RegistryAuth>) -> Vec<Endpoint> {
        let registry = image.registry();
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let own = |host: &str| (host == registry).then_some(auth).flatten();
        let mut endpoints = Vec::new();
        for url in mirror.iter().flat_map(|m| &m.endpoint) {
            // Checked when the configuration was read.
            let Ok(Url { base, host }) = Url::parse(url) else { continue };
            let repository = mirror.map_or(image.repository().to_owned(), |m| m.rewrite(image.repository()));
            let credentials = own(&host).map_or_else(|| self.credentials(&host), given);
            let namespace = (host != registry).then(|| registry.to_owned());
            endpoints.push(Endpoint { repository, host, base, namespace, credentials });
        }
        if !endpoints.iter().any(|e| e.host == registry) {
            let credentials = auth.map_or_else(|| self.credentials(registry), given);
            let plain = is_local(registry) && self.tls(registry).is_none();
            let scheme = if plain { "http" } else { "https" };
            let real = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
            let base = format!("{scheme}://{real}/v2");
            let (repository, host) = (image.repository().to_owned(), registry.to_owned());
            endpoints.push(Endpoint { repository, host, base, namespace: None, credentials });
        }
        endpoints
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

    fn tls(&self, host: &str) -> Option<&TlsConfig> {
        names(host).iter().find_map(|name| self.configs.get(*name)?.tls.as_ref())
    }

    fn credentials(&self, host: &str) -> Credentials {
        let configured = names(host).iter().find_map(|name| self.configs.get(*name)?.auth.as_ref());
        let Some(auth) = configured.or_else(|| self.old_auth(host)) else { return Credentials::Anonymous };
        if !auth.identity_token.is_empty() {
            return Credentials::Identity(auth.identity_token.clone());
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).unwrap_or_default();
        let decoded = String::from_utf8(decoded).unwrap_or_default();
        match decoded.trim_end_matches('\0').split_once(':') {
            Some((username, password)) => Credentials::Basic(username.to_owned(), password.to_owned()),
            None if auth.username.is_empty() => Credentials::Anonymous,
            None => Credentials::Basic(auth.username.clone(), auth.password.clone()),
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

impl Mirror {
    /// The first pattern that matches decides.
    fn rewrite(&self, repository: &str) -> String {
        let patterns = self.rewrite.iter().filter_map(|(p, to)| Some((Regex::new(p).ok()?, to)));
        let matching = patterns.into_iter().find(|(pattern, _)| pattern.is_match(repository));
        match matching {
            Some((pattern, to)) => {
                // `$1suffix` is the group 1 and a suffix, as in Go; here that would be a name.
                let to = braced(to);
                pattern.replace_all(repository, to.as_str()).into_owned()
            }
            None => repository.to_owned(),
        }
    }
}

/// `$1` as `${1}`.
fn braced(replacement: &str) -> String {
    let mut out = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let (head, tail) = rest.split_at(at + 1 + digits);
        match digits {
            0 => out.push_str(head),
            _ => out.push_str(&format!("{}${{{}}}", &head[..at], &head[at + 1..])),
        }
        rest = tail;
    }
    out + rest
}

fn given(auth: &RegistryAuth) -> Credentials {
    Credentials::Basic(auth.username.clone(), auth.password.clone())
}

/// Docker talks to registries on the machine itself without TLS.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a mirror is.
struct Url {
    base: String,
    host: String,
}

impl Url {
    /// A URL, or a host with a port. Without a path, `/v2` is meant; another path takes its place, as
    /// k3s's `override_path` does.
    fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some((scheme, _)) => return Err(format!("endpoint {url:?}: unknown scheme {scheme:?}")),
            None if is_local(url) => ("http", url),
            None => ("https", url),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains(['@', ' ']) || path.contains(['?', '#']) {
            return Err(format!("endpoint {url:?}: it should be like https://mirror.example.com:5000"));
        }
        let path = match path.trim_end_matches('/') {
            "" => "v2",
            path => path,
        };
        Ok(Self { base: format!("{scheme}://{host}/{path}"), host: host.to_owned() })
    }
}

#[cfg(test)]
mod tests;
