//! Where images come from: mirrors with their own names for repositories, and the registry itself.

use oci_spec::distribution::Reference;
use regex::Regex;

use super::{Mirror, RegistriesConfig};
use crate::runtime::spec::RegistryAuth;

/// The Hub's name in references, and the host that serves it.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// One place to ask for an image.
#[derive(Debug)]
pub(in crate::runtime::images) struct Endpoint {
    /// The image's repository as it is called there.
    pub repository: String,
    /// Host and port, as users write them.
    pub host: String,
    /// What comes before the repository in URLs, such as `https://registry-1.docker.io/v2`.
    pub base: String,
    /// The registry this one stands for, if it is a mirror: told in `ns`, as containerd does.
    pub namespace: Option<String>,
    /// Nobody else is asked when this one fails.
    pub is_last: bool,
    /// Credentials.
    pub credentials: Credentials,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::runtime::images) enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// User name and password.
    Basic(String, String),
    /// A refresh token of OAuth 2.
    Identity(String),
    /// A token the registry takes as it is.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic(..) => "Basic(..)",
            Self::Identity(_) => "Identity(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

impl RegistriesConfig {
    /// Where to ask for `image`, in order. `auth` is for the image's own registry only.
    pub(in crate::runtime::images) fn endpoints(
        &self,
        image: &Reference,
        auth: Option<&RegistryAuth>,
    ) -> Vec<Endpoint> {
        let registry = image.registry();
        let repository = image.repository();
        let credentials = |host: &str| match auth.filter(|_| host == registry) {
            Some(auth) => Credentials::Basic(auth.username.clone(), auth.password.clone()),
            None => self.credentials(host),
        };
        let mirror = self.mirror(registry);
        // Checked when the configuration was read.
        let urls = mirror.iter().flat_map(|m| &m.endpoint).filter_map(|url| Url::parse(url).ok());
        let mut endpoints: Vec<Endpoint> = urls
            .map(|Url { base, host }| Endpoint {
                repository: mirror.map_or(repository.to_owned(), |m| m.rewrite(repository)),
                base,
                namespace: (host != registry).then(|| registry.to_owned()),
                is_last: false,
                credentials: credentials(&host),
                host,
            })
            .collect();
        let own = self.own_base(registry);
        let is_listed = endpoints.iter().any(|e| is_same(&e.base, &own));
        if !is_listed && (endpoints.is_empty() || self.default_endpoint) {
            endpoints.push(Endpoint {
                repository: repository.to_owned(),
                host: registry.to_owned(),
                base: own,
                namespace: None,
                is_last: false,
                credentials: credentials(registry),
            });
        }
        if let Some(last) = endpoints.last_mut() {
            last.is_last = true;
        }
        endpoints
    }

    /// Where a registry is unless the configuration says otherwise.
    fn own_base(&self, registry: &str) -> String {
        let is_plain = is_local(registry) && self.tls(registry).is_none();
        let scheme = if is_plain { "http" } else { "https" };
        let host = if registry == HUB { HUB_HOST } else { registry };
        format!("{scheme}://{host}/v2")
    }
}

/// Whether two addresses are the same one. Nobody speaks both HTTP and HTTPS at a port that is named.
fn is_same(one: &str, other: &str) -> bool {
    let split = |base: &str| {
        let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
        let host = rest.split('/').next().unwrap_or_default();
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        (if has_port { String::new() } else { scheme.to_owned() }, rest.to_owned())
    };
    split(one) == split(other)
}

impl Mirror {
    /// The first pattern that changes the name decides.
    fn rewrite(&self, repository: &str) -> String {
        let patterns = self.rewrite.iter().filter_map(|(p, to)| Some((Regex::new(p).ok()?, to)));
        let mut rewritten = patterns.map(|(p, to)| p.replace_all(repository, to.as_str()).into_owned());
        rewritten.find(|new| new != repository).unwrap_or_else(|| repository.to_owned())
    }
}

/// Docker talks to registries on the machine itself without TLS.
pub(super) fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a mirror is.
pub(super) struct Url {
    pub base: String,
    /// As users write it: the Hub is `docker.io`.
    pub host: String,
}

impl Url {
    /// A URL, or a host with a port. Without a path, `/v2` is meant; another path takes its place, as
    /// k3s's `override_path` does.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
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
        let (host, real) = match host {
            HUB | HUB_HOST | "index.docker.io" => (HUB, HUB_HOST),
            host => (host, host),
        };
        Ok(Self { base: format!("{scheme}://{real}/{path}"), host: host.to_owned() })
    }
}
