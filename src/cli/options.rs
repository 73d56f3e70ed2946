//! Flags of `server` and `agent`. All are plain strings here: the same names appear in configuration
//! files and, as `KEDGE_…`, in the environment, and one place checks them all.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory};

use super::Error;
use crate::config::{DEFAULT_CONFIG_FILE, DEFAULT_DATA_DIR, Layer, Layers, load_files};

/// `--data-dir` of the commands that need no other setting.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// Directory of everything kedge keeps
    #[arg(short, long, env = "KEDGE_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

impl DataDir {
    /// The directory, absolute.
    pub fn path(&self) -> PathBuf {
        std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone())
    }
}

/// Settings of a node, alone or inside a server.
#[derive(Args, Debug)]
pub struct NodeOptions {
    /// Configuration file in YAML: flags' names without dashes [default: /etc/kedge/config.yaml]
    #[arg(short, long, env = "KEDGE_CONFIG_FILE", value_name = "FILE")]
    config: Option<String>,
    /// Directory of everything kedge keeps [default: /var/lib/kedge]
    #[arg(short, long, env = "KEDGE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<String>,
    /// Shared secret with which nodes join
    #[arg(short, long, env = "KEDGE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "KEDGE_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Address of this node [default: that of the default route]
    #[arg(short = 'i', long, env = "KEDGE_NODE_IP", value_name = "IP")]
    node_ip: Option<String>,
    /// Label for this node, may be repeated
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    node_label: Vec<String>,
    /// Taint this node registers with, may be repeated
    #[arg(long, value_name = "KEY=VALUE:EFFECT", action = ArgAction::Append)]
    node_taint: Vec<String>,
    /// Address at which this node is reached from outside, may be repeated
    #[arg(long, env = "KEDGE_NODE_EXTERNAL_IP", value_name = "IP", action = ArgAction::Append)]
    node_external_ip: Vec<String>,
    /// Port of the node API (logs, exec) [default: 10250]
    #[arg(long, value_name = "PORT")]
    node_api_port: Option<String>,
    /// Resolver configuration that pods inherit [default: /etc/resolv.conf]
    #[arg(long, env = "KEDGE_RESOLV_CONF", value_name = "FILE")]
    resolv_conf: Option<String>,
    /// Registry mirrors and credentials [default: /etc/kedge/registries.yaml]
    #[arg(long, value_name = "FILE")]
    private_registry: Option<String>,
    /// Do not ask a registry itself when it has mirrors
    #[arg(long)]
    disable_default_registry_endpoint: bool,
    /// Service proxy: auto, ipvs, nftables, iptables or userspace [default: auto]
    #[arg(long, env = "KEDGE_PROXY_MODE", value_name = "MODE")]
    proxy_mode: Option<String>,
    /// Upper limit of pods on this node [default: 110]
    #[arg(long, value_name = "N")]
    max_pods: Option<String>,
    /// Flag of kubelet, may be repeated, such as eviction-hard=memory.available<200Mi; the list is below
    #[arg(long, value_name = "FLAG=VALUE", action = ArgAction::Append)]
    kubelet_arg: Vec<String>,
}

/// Flags of `kedge server`.
#[derive(Args, Debug)]
pub struct ServerOptions {
    #[command(flatten)]
    node: NodeOptions,
    /// Address the API listens on [default: 0.0.0.0]
    #[arg(long, env = "KEDGE_BIND_ADDRESS", value_name = "IP")]
    bind_address: Option<String>,
    /// Port the API listens on [default: 6443]
    #[arg(long, env = "KEDGE_HTTPS_LISTEN_PORT", value_name = "PORT")]
    https_listen_port: Option<String>,
    /// Further name or address in the API's certificate, may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    tls_san: Vec<String>,
    /// Where the admin kubeconfig goes [default: /etc/kedge/kedge.yaml]
    #[arg(short = 'o', long, env = "KEDGE_KUBECONFIG_OUTPUT", value_name = "FILE")]
    write_kubeconfig: Option<String>,
    /// Its file mode, in octal [default: 600]
    #[arg(long, env = "KEDGE_KUBECONFIG_MODE", value_name = "MODE")]
    write_kubeconfig_mode: Option<String>,
    /// Network of pod addresses [default: 10.42.0.0/16]
    #[arg(long, env = "KEDGE_CLUSTER_CIDR", value_name = "CIDR")]
    cluster_cidr: Option<String>,
    /// Network of Service addresses [default: 10.43.0.0/16]
    #[arg(long, env = "KEDGE_SERVICE_CIDR", value_name = "CIDR")]
    service_cidr: Option<String>,
    /// Ports for Services of type NodePort [default: 30000-32767]
    #[arg(long, value_name = "FIRST-LAST")]
    service_node_port_range: Option<String>,
    /// Address of the cluster's DNS [default: the tenth of the Service network]
    #[arg(long, env = "KEDGE_CLUSTER_DNS", value_name = "IP")]
    cluster_dns: Option<String>,
    /// Domain of the cluster [default: cluster.local]
    #[arg(long, env = "KEDGE_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// Flag of the API server, may be repeated: anonymous-auth=false, token-auth-file=FILE
    #[arg(long, value_name = "FLAG=VALUE", action = ArgAction::Append)]
    kube_apiserver_arg: Vec<String>,
    /// Run no node in this process
    #[arg(long)]
    disable_agent: bool,
}

/// Flags of `kedge agent`.
#[derive(Args, Debug)]
pub struct AgentOptions {
    #[command(flatten)]
    node: NodeOptions,
    /// Server to join, such as https://192.168.1.2:6443
    #[arg(short, long, env = "KEDGE_URL", value_name = "URL")]
    server: Option<String>,
}

/// The layers of a `server` or `agent` command: files, environment, flags.
///
/// # Errors
/// A configuration file that cannot be read or has settings that do not exist.
pub(super) fn layers(given: Option<&ArgMatches>, command: &str) -> Result<Layers, Error> {
    let mut flags = Layer { origin: "flag".into(), ..Layer::default() };
    let mut environment = Layer { origin: "environment".into(), ..Layer::default() };
    let known = settings();
    if let Some(given) = given {
        for id in given.ids() {
            let name = id.as_str().replace('_', "-");
            if !known.contains(&name) {
                continue; // an argument group, not an argument
            }
            let layer = match given.value_source(id.as_str()) {
                Some(ValueSource::CommandLine) => &mut flags,
                Some(ValueSource::EnvVariable) => &mut environment,
                _ => continue,
            };
            let raw = given.get_raw(id.as_str()).into_iter().flatten();
            let mut values: Vec<String> = raw.map(|v| v.to_string_lossy().into_owned()).collect();
            if values.is_empty() {
                values.push("true".into()); // a flag without a value
            }
            layer.values.insert(name, values);
        }
    }
    let chosen = flags.values.get("config").or_else(|| environment.values.get("config"));
    let path = chosen.and_then(|v| v.last()).cloned();
    let required = path.is_some();
    let path = path.unwrap_or_else(|| DEFAULT_CONFIG_FILE.to_owned());
    let mut layers = Layers::default();
    for layer in load_files(Path::new(&path), required, &known)? {
        layers.push(layer);
    }
    tracing::debug!(command, config = %path, "settings read");
    layers.push(environment);
    layers.push(flags);
    Ok(layers)
}

/// Every setting's name: the long flags of `server` and `agent`.
fn settings() -> Vec<String> {
    let command = super::Cli::command();
    ["server", "agent"]
        .into_iter()
        .filter_map(|name| command.find_subcommand(name))
        .flat_map(|sub| sub.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)))
        .filter(|name| name != "help" && name != "version")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;

    fn parse(args: &[&str]) -> Layers {
        let matches = Cli::command().try_get_matches_from(args).expect("arguments parse");
        layers(matches.subcommand().map(|(_, m)| m), "server").expect("layers")
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, "cluster-domain: from.file\nhttps-listen-port: 7000\n").expect("write");
        let file = file.to_str().expect("UTF-8 path");
        let layers =
            parse(&["kedge", "server", "-c", file, "--https-listen-port", "7443", "--disable-agent"]);
        assert_eq!(layers.last("https-listen-port"), Some("7443"));
        assert_eq!(layers.last("cluster-domain"), Some("from.file"));
        assert_eq!(layers.last("disable-agent"), Some("true"));
        assert_eq!(layers.last("node-name"), None);
    }

    #[test]
    fn every_setting_of_the_issue_exists() {
        let known = settings();
        for name in [
            "data-dir",
            "bind-address",
            "https-listen-port",
            "write-kubeconfig",
            "write-kubeconfig-mode",
            "node-name",
            "node-ip",
            "disable-agent",
            "cluster-cidr",
            "service-cidr",
            "cluster-dns",
            "cluster-domain",
            "token",
            "config",
        ] {
            assert!(known.iter().any(|k| k == name), "--{name} is missing");
        }
    }
}
