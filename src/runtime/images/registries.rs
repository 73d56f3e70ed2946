//! `registries.yaml`, in the format of k3s: mirrors, credentials and TLS of private registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_client::Reference;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth as ClientAuth;
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
    /// The image as it is called there.
    pub reference: Reference,
    /// Host and port.
    pub host: String,
    /// Encrypted or not.
    pub protocol: ClientProtocol,
    /// Credentials.
    pub auth: ClientAuth,
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
                parse_endpoint(endpoint).map_err(|e| at(&e))?;
            }
            for pattern in mirror.rewrite.keys() {
                Regex::new(pattern).map_err(|e| at(&e))?;
            }
        }
        for (host, HostConfig { tls, .. }) in &config.configs {
            if tls.as_ref().is_some_and(|t| !t.cert_file.is_empty() || !t.key_file.is_empty()) {
                let what = "client certificates (cert_file, key_file) are not supported: use auth";
                return Err(Error::Config(format!("configs.{host}.tls: {what}")));
            }
        }
        Ok(config)
    }

    /// Where to ask for `image`, in order. `auth` is for the image's own registry only.
    pub(super) fn endpoints(&self, image: &Reference, auth: Option<&RegistryAuth>) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(image.registry()).or_else(|| self.mirrors.get("*"));
        let mut endpoints = Vec::new();
        for url in mirror.iter().flat_map(|m| &m.endpoint) {
            // Checked when the configuration was read.
            let Ok((protocol, host, prefix)) = parse_endpoint(url) else { continue };
            let repository = mirror.map_or(image.repository().to_owned(), |m| m.rewrite(image.repository()));
            let reference = renamed(image, &host, &format!("{prefix}{repository}"));
            let own = (host == image.registry()).then_some(auth).flatten();
            let auth = own.map_or_else(|| self.auth(&host), given);
            endpoints.push(Endpoint { reference, host, protocol, auth });
        }
        let host = image.registry().to_owned();
        if !endpoints.iter().any(|e| e.host == host) {
            let auth = auth.map_or_else(|| self.auth(&host), given);
            let protocol = match is_local(&host) && self.host(&host).and_then(|c| c.tls.as_ref()).is_none() {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            };
            endpoints.push(Endpoint { reference: image.clone(), host, protocol, auth });
        }
        endpoints
    }

    /// How to reach an endpoint.
    pub(super) fn client_config(&self, endpoint: &Endpoint) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig {
            protocol: endpoint.protocol.clone(),
            platform_resolver: None,
            connect_timeout: Some(std::time::Duration::from_secs(15)),
            read_timeout: Some(std::time::Duration::from_secs(60)),
            user_agent: concat!("kedge/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        if let Some(tls) = self.host(&endpoint.host).and_then(|c| c.tls.as_ref()) {
            config.accept_invalid_certificates = tls.insecure_skip_verify;
            if !tls.ca_file.is_empty() {
                let path = PathBuf::from(&tls.ca_file);
                let data = std::fs::read(&path).on(&path)?;
                let encoding = CertificateEncoding::Pem;
                config.extra_root_certificates.push(Certificate { encoding, data });
            }
        }
        Ok(config)
    }

    fn host(&self, host: &str) -> Option<&HostConfig> {
        // The Hub's own names for itself are one.
        let names: &[&str] = match host {
            "docker.io" => &["docker.io", "registry-1.docker.io", "index.docker.io", "*"],
            _ => &[host, "*"],
        };
        names.iter().find_map(|name| self.configs.get(*name))
    }

    fn auth(&self, host: &str) -> ClientAuth {
        let Some(auth) = self.host(host).and_then(|c| c.auth.as_ref()) else {
            return ClientAuth::Anonymous;
        };
        if !auth.identity_token.is_empty() {
            return ClientAuth::Bearer(auth.identity_token.clone());
        }
        use base64::Engine;
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).unwrap_or_default();
        let decoded = String::from_utf8(decoded).unwrap_or_default();
        match decoded.trim_end_matches('\0').split_once(':') {
            Some((username, password)) => ClientAuth::Basic(username.to_owned(), password.to_owned()),
            None if auth.username.is_empty() => ClientAuth::Anonymous,
            None => ClientAuth::Basic(auth.username.clone(), auth.password.clone()),
        }
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

fn given(auth: &RegistryAuth) -> ClientAuth {
    ClientAuth::Basic(auth.username.clone(), auth.password.clone())
}

/// Docker talks to registries on the machine itself without TLS.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Scheme, host and port, and what comes before repository names.
fn parse_endpoint(url: &str) -> Result<(ClientProtocol, String, String), String> {
    let (protocol, rest) = match url.split_once("://") {
        Some(("http", rest)) => (ClientProtocol::Http, rest),
        Some(("https", rest)) => (ClientProtocol::Https, rest),
        Some((scheme, _)) => return Err(format!("endpoint {url:?}: unknown scheme {scheme:?}")),
        None if is_local(url) => (ClientProtocol::Http, url),
        None => (ClientProtocol::Https, url),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') {
        return Err(format!("endpoint {url:?}: it should be like https://mirror.example.com:5000"));
    }
    match path.trim_end_matches('/') {
        "" | "v2" => Ok((protocol, host.to_owned(), String::new())),
        path => match path.strip_prefix("v2/") {
            Some(prefix) => Ok((protocol, host.to_owned(), format!("{prefix}/"))),
            None => Err(format!("endpoint {url:?}: a path must begin with /v2, it is part of the protocol")),
        },
    }
}

fn renamed(image: &Reference, host: &str, repository: &str) -> Reference {
    let (host, repository) = (host.to_owned(), repository.to_owned());
    match (image.digest(), image.tag()) {
        (Some(digest), _) => Reference::with_digest(host, repository, digest.to_owned()),
        (None, tag) => Reference::with_tag(host, repository, tag.unwrap_or("latest").to_owned()),
    }
}

#[cfg(test)]
mod tests;
