//! From layers of strings to typed, checked settings.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::layer::Layers;
use super::registration::{label, taint};
use super::{
    Authentication, Cidr, DEFAULT_DATA_DIR, DEFAULT_KUBECONFIG, Error, Instance, Kubelet, NodeSettings,
    ProxyMode, ServerSettings, machine,
};

const CLUSTER_CIDR: Cidr = Cidr { base: Ipv4Addr::new(10, 42, 0, 0), prefix: 16 };
const SERVICE_CIDR: Cidr = Cidr { base: Ipv4Addr::new(10, 43, 0, 0), prefix: 16 };

impl ServerSettings {
    /// The settings of `kedge server`.
    ///
    /// # Errors
    /// The first value that cannot be used, with the place it comes from; or a default the machine
    /// cannot give.
    pub fn resolve(layers: &Layers) -> Result<Self, Error> {
        let node = NodeSettings::resolve(layers)?;
        Ok(Self {
            data_dir: node.data_dir.clone(),
            bind_address: parse(layers, "bind-address", "an IP address")?
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            https_listen_port: port(layers, "https-listen-port")?.unwrap_or(6443),
            tls_san: list(layers, "tls-san"),
            write_kubeconfig: kubeconfig_path(layers, &node.data_dir)?,
            write_kubeconfig_mode: mode(layers, "write-kubeconfig-mode")?.unwrap_or(0o600),
            token: layers.last("token").map(str::to_owned),
            cluster_cidr: node.cluster_cidr,
            service_cidr: node.service_cidr,
            service_node_port_range: node_ports(layers)?,
            cluster_dns: node.cluster_dns,
            cluster_domain: node.cluster_domain.clone(),
            authentication: authentication(layers)?,
            disable_agent: boolean(layers, "disable-agent")?,
            checkpoint_process: true,
            node,
        })
    }
}

impl NodeSettings {
    /// The settings of the node part, of `kedge server` and `kedge agent` alike.
    ///
    /// # Errors
    /// As [`ServerSettings::resolve`].
    pub fn resolve(layers: &Layers) -> Result<Self, Error> {
        let data_dir = data_dir(layers)?;
        let instance = Instance::of(&data_dir);
        let cluster_cidr = parse(layers, "cluster-cidr", "")?.unwrap_or(CLUSTER_CIDR);
        let service_cidr: Cidr = parse(layers, "service-cidr", "")?.unwrap_or(SERVICE_CIDR);
        if cluster_cidr.contains(service_cidr.base) || service_cidr.contains(cluster_cidr.base) {
            return Err(Error::Unusable(format!(
                "--cluster-cidr {cluster_cidr} and --service-cidr {service_cidr} overlap; choose two separate networks"
            )));
        }
        let node_name = match layers.last("node-name") {
            Some(name) => name.to_owned(),
            None => machine::node_name()?,
        };
        check_node_name(layers, &node_name)?;
        let node_ip = match parse(layers, "node-ip", "an IP address")? {
            Some(address) => address,
            None => machine::node_ip(&instance.bridge)?,
        };
        Ok(Self {
            node_name,
            node_ip,
            node_labels: registration(layers, "node-label", label)?,
            node_taints: registration(layers, "node-taint", taint)?,
            node_external_ips: addresses(layers, "node-external-ip")?,
            node_api_port: port(layers, "node-api-port")?.unwrap_or(10250),
            cluster_dns: cluster_dns(layers, service_cidr)?,
            cluster_cidr,
            service_cidr,
            cluster_domain: layers.last("cluster-domain").unwrap_or("cluster.local").to_owned(),
            resolv_conf: layers.last("resolv-conf").unwrap_or("/etc/resolv.conf").into(),
            private_registry: layers.last("private-registry").unwrap_or("/etc/kedge/registries.yaml").into(),
            disable_default_registry_endpoint: boolean(layers, "disable-default-registry-endpoint")?,
            proxy_mode: proxy_mode(layers)?,
            max_pods: parse(layers, "max-pods", "a number")?.unwrap_or(110),
            kubelet: kubelet(layers, &data_dir)?,
            data_dir,
            instance,
        })
    }
}

/// `--data-dir`, absolute.
///
/// # Errors
/// An empty path, or no working directory to complete a relative one.
pub(super) fn data_dir(layers: &Layers) -> Result<PathBuf, Error> {
    let given = layers.last("data-dir").unwrap_or(DEFAULT_DATA_DIR);
    std::path::absolute(given).map_err(|e| bad(layers, "data-dir", e.to_string()))
}

fn kubeconfig_path(layers: &Layers, data_dir: &Path) -> Result<PathBuf, Error> {
    match layers.last("write-kubeconfig") {
        Some(path) => std::path::absolute(path).map_err(|e| bad(layers, "write-kubeconfig", e.to_string())),
        // A second installation must not overwrite the first one's.
        None if data_dir != Path::new(DEFAULT_DATA_DIR) => Ok(data_dir.join("server/kubeconfig.yaml")),
        None => Ok(DEFAULT_KUBECONFIG.into()),
    }
}

fn bad(layers: &Layers, setting: &str, problem: String) -> Error {
    let found = layers.find(setting);
    Error::Value {
        setting: setting.to_owned(),
        value: found.as_ref().and_then(|f| f.values.last()).unwrap_or(&"").to_string(),
        origin: found.map_or("default", |f| f.origin).to_owned(),
        problem,
    }
}

fn parse<T: FromStr>(layers: &Layers, setting: &str, expected: &str) -> Result<Option<T>, Error>
where
    T::Err: std::fmt::Display,
{
    let Some(value) = layers.last(setting) else { return Ok(None) };
    value.parse().map(Some).map_err(|e: T::Err| {
        let problem = if expected.is_empty() { e.to_string() } else { format!("expected {expected}: {e}") };
        bad(layers, setting, problem)
    })
}

/// `--kube-apiserver-arg`: flags of upstream's API server, as far as kedge has what they are about.
fn authentication(layers: &Layers) -> Result<Authentication, Error> {
    const SETTING: &str = "kube-apiserver-arg";
    let mut settings = Authentication::default();
    let given = layers.find(SETTING).map(|found| found.values).unwrap_or_default();
    for flag in given {
        let (name, value) = flag.trim_start_matches('-').split_once('=').unwrap_or((flag, "true"));
        match name {
            "anonymous-auth" => {
                settings.anonymous = value.parse().map_err(|_| {
                    bad(layers, SETTING, format!("anonymous-auth is true or false, not {value:?}"))
                })?;
            }
            "token-auth-file" => {
                let path = std::path::absolute(value).map_err(|e| bad(layers, SETTING, e.to_string()))?;
                settings.token_file = Some(path);
            }
            _ => {
                let problem =
                    format!("{name:?} is not known; anonymous-auth=true|false and token-auth-file=FILE are");
                return Err(bad(layers, SETTING, problem));
            }
        }
    }
    Ok(settings)
}

/// `--kubelet-arg`, and what the machine decides.
fn kubelet(layers: &Layers, data_dir: &Path) -> Result<Kubelet, Error> {
    const SETTING: &str = "kubelet-arg";
    let mut kubelet = Kubelet::new(data_dir.join("agent/pod-manifests"), machine::memory()?);
    let given = layers.find(SETTING).map(|found| found.values).unwrap_or_default();
    for flag in given {
        let (name, value) = flag.trim_start_matches('-').split_once('=').unwrap_or((flag, "true"));
        kubelet.set(name, value).map_err(|problem| bad(layers, SETTING, problem))?;
    }
    kubelet.check().map_err(|problem| bad(layers, SETTING, problem))?;
    Ok(kubelet)
}

fn port(layers: &Layers, setting: &str) -> Result<Option<u16>, Error> {
    let port = parse(layers, setting, "a port from 1 to 65535")?;
    if port == Some(0) {
        return Err(bad(layers, setting, "expected a port from 1 to 65535".into()));
    }
    Ok(port)
}

fn mode(layers: &Layers, setting: &str) -> Result<Option<u32>, Error> {
    let Some(value) = layers.last(setting) else { return Ok(None) };
    match u32::from_str_radix(value, 8) {
        Ok(mode) if mode <= 0o777 => Ok(Some(mode)),
        _ => Err(bad(layers, setting, "expected a file mode in octal, such as 644".into())),
    }
}

fn boolean(layers: &Layers, setting: &str) -> Result<bool, Error> {
    Ok(parse(layers, setting, "true or false")?.unwrap_or(false))
}

fn list(layers: &Layers, setting: &str) -> Vec<String> {
    let found = layers.find(setting).map(|f| f.values).unwrap_or_default();
    found.iter().flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

fn registration<T>(
    layers: &Layers,
    setting: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Error> {
    let given = list(layers, setting);
    given.iter().map(|text| read(text).map_err(|problem| bad(layers, setting, problem))).collect()
}

fn addresses(layers: &Layers, setting: &str) -> Result<Vec<IpAddr>, Error> {
    registration(layers, setting, |text| {
        text.parse().map_err(|e| format!("expected IP addresses: {text:?}: {e}"))
    })
}

fn cluster_dns(layers: &Layers, service_cidr: Cidr) -> Result<IpAddr, Error> {
    let address = match parse(layers, "cluster-dns", "an IP address")? {
        Some(address) => address,
        None => IpAddr::V4(service_cidr.nth(10).ok_or_else(|| {
            bad(
                layers,
                "service-cidr",
                "too small for a DNS address (its tenth): use a prefix of 28 or less".into(),
            )
        })?),
    };
    match address {
        IpAddr::V4(v4) if service_cidr.contains(v4) => Ok(address),
        _ => Err(bad(layers, "cluster-dns", format!("must lie in --service-cidr {service_cidr}"))),
    }
}

fn node_ports(layers: &Layers) -> Result<(u16, u16), Error> {
    let setting = "service-node-port-range";
    let Some(value) = layers.last(setting) else { return Ok((30000, 32767)) };
    value
        .split_once('-')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
        .filter(|(first, last)| 0 < *first && first <= last)
        .ok_or_else(|| bad(layers, setting, "expected first-last, such as 30000-32767".into()))
}

fn proxy_mode(layers: &Layers) -> Result<ProxyMode, Error> {
    match layers.last("proxy-mode") {
        None | Some("auto") => Ok(ProxyMode::Auto),
        Some("ipvs") => Ok(ProxyMode::Ipvs),
        Some("nftables") => Ok(ProxyMode::Nftables),
        Some("iptables") => Ok(ProxyMode::Iptables),
        Some("userspace") => Ok(ProxyMode::Userspace),
        Some(_) => {
            Err(bad(layers, "proxy-mode", "expected auto, ipvs, nftables, iptables or userspace".into()))
        }
    }
}

/// A node's name is a DNS subdomain (RFC 1123), as upstream demands of every Node object.
fn check_node_name(layers: &Layers, name: &str) -> Result<(), Error> {
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    let problem =
        "expected lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit";
    match layers.last("node-name") {
        Some(_) => Err(bad(layers, "node-name", problem.into())),
        None => Err(Error::Unusable(format!(
            "the host name {name:?} is no node name ({problem}); give --node-name"
        ))),
    }
}
