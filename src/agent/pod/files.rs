//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod.

use std::fs;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodDNSConfig, PodSpec};

use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::spec::{host_network, namespace, uid};

/// glibc's limits, which kubelet keeps.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Characters of the search line.
const MAX_SEARCH_LINE: usize = 2048;
/// Longest name of DNS.
const MAX_SEARCH: usize = 253;

/// Names of the pod.
pub(super) struct Names<'a> {
    /// What `hostname` says inside.
    pub kernel: &'a str,
    /// Without domain.
    pub short: &'a str,
    /// Below the cluster's domain; empty if it has none.
    pub domain: &'a str,
}

/// Writes the three files.
pub(super) fn write(
    context: &Context,
    pod: &Pod,
    names: &Names<'_>,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let (Some(spec), uid) = (&pod.spec, uid(pod)) else { return Ok(()) };
    let directory = context.paths.pod(uid);
    fs::create_dir_all(&directory).map_err(Error::io("make", &directory))?;
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    let hosts = if host_network(pod) {
        host_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases)
    } else {
        pod_hosts(names.short, names.domain, addresses, aliases)
    };
    let host = fs::read_to_string(&context.settings.resolv_conf).unwrap_or_default();
    let dns = [context.settings.cluster_dns];
    let mut resolver = resolver(spec, namespace(pod), &dns, &context.settings.cluster_domain, &host);
    for warning in resolver.limit() {
        context.events.pod(pod, None, "Warning", "DNSConfigForming", warning);
    }
    for (path, text) in [
        (context.paths.hosts(uid), hosts),
        (context.paths.resolv_conf(uid), resolver.text()),
        (directory.join("hostname"), format!("{}\n", names.kernel)),
    ] {
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn pod_hosts(hostname: &str, domain: &str, addresses: &[IpAddr], aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        if domain.is_empty() {
            text += &format!("{address}\t{hostname}\n");
        } else {
            text += &format!("{address}\t{hostname}.{domain}\t{hostname}\n");
        }
    }
    text + &alias_lines(aliases)
}

fn host_hosts(host: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line =
        |a: &HostAlias| format!("{}\t{}\n", a.ip, a.hostnames.as_deref().unwrap_or_default().join("\t"));
    format!("\n# Entries added by HostAliases.\n{}", aliases.iter().map(line).collect::<String>())
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => parsed.nameservers.extend(words.next().map(str::to_owned)),
                // The last one counts (resolv.conf(5)).
                Some("search" | "domain") => parsed.searches = words.map(str::to_owned).collect(),
                Some("options") => parsed.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        parsed.searches.retain(|s| s != ".");
        parsed
    }

    fn add(&mut self, config: &PodDNSConfig) {
        let extend = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
            for item in more.iter().flatten() {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        extend(&mut self.nameservers, &config.nameservers);
        extend(&mut self.searches, &config.searches);
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            self.options.retain(|o| o.split(':').next() != Some(&name));
            let value = option.value.as_deref().filter(|v| !v.is_empty());
            self.options.push(value.map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
        }
    }

    /// Cuts it to what resolvers take; tells what was cut, in upstream's words.
    fn limit(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.nameservers.len() > MAX_NAMESERVERS {
            self.nameservers.truncate(MAX_NAMESERVERS);
            warnings.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                self.nameservers.join(" ")
            ));
        }
        let all = self.searches.len();
        self.searches.retain(|s| s.len() <= MAX_SEARCH);
        self.searches.truncate(MAX_SEARCHES);
        while self.searches.join(" ").len() > MAX_SEARCH_LINE {
            self.searches.pop();
        }
        if self.searches.len() < all {
            warnings.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                self.searches.join(" ")
            ));
        }
        warnings
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.nameservers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

/// The pod's resolver configuration by `dnsPolicy` and `dnsConfig`.
fn resolver(spec: &PodSpec, namespace: &str, cluster_dns: &[IpAddr], domain: &str, host: &str) -> Resolver {
    let on_host = spec.host_network.unwrap_or(false);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host = Resolver::parse(host);
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "ClusterFirstWithHostNet" => cluster_first(namespace, cluster_dns, domain, &host),
        "ClusterFirst" if !on_host => cluster_first(namespace, cluster_dns, domain, &host),
        _ => host,
    };
    if let Some(config) = &spec.dns_config {
        resolver.add(config);
    }
    resolver
}

fn cluster_first(namespace: &str, cluster_dns: &[IpAddr], domain: &str, host: &Resolver) -> Resolver {
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    for search in &host.searches {
        if !searches.contains(search) {
            searches.push(search.clone());
        }
    }
    Resolver {
        nameservers: cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn text(spec: Value) -> String {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        let dns = ["10.43.0.10".parse().expect("an address")];
        let host = "# c\nnameserver 9.9.9.9\nsearch lan\noptions edns0\n";
        resolver(&spec, "ns", &dns, "cluster.local", host).text()
    }

    #[test]
    fn dns_policies() {
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\noptions ndots:5\n";
        let host = "search lan\nnameserver 9.9.9.9\noptions edns0\n";
        assert_eq!(text(json!({})), cluster);
        assert_eq!(text(json!({"dnsPolicy": "Default"})), host);
        assert_eq!(text(json!({"hostNetwork": true})), host);
        assert_eq!(text(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})), cluster);
        let config = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        assert_eq!(text(config), "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n");
        let merged = json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}});
        assert!(text(merged).ends_with("options ndots:2\n"));
    }

    #[test]
    fn what_resolvers_do_not_take_is_cut_and_told() {
        let list = |n: usize, text: &str| (0..n).map(|i| format!("{text}{i}")).collect::<Vec<_>>();
        let mut many =
            Resolver { nameservers: list(4, "9.9.9."), searches: list(33, "d"), options: Vec::new() };
        many.searches.insert(0, "x".repeat(254));
        let warnings = many.limit();
        assert_eq!((many.nameservers.len(), many.searches.len()), (3, 32));
        assert!(
            warnings[0].ends_with("the applied nameserver line is: 9.9.9.0 9.9.9.1 9.9.9.2"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("the applied search line is: d0 d1 "), "{warnings:?}");
        let mut long = Resolver { searches: vec!["y".repeat(250); 9], ..Resolver::default() };
        long.limit();
        assert_eq!(long.searches.len(), 8, "2048 characters");
        assert!(Resolver::default().limit().is_empty());
    }

    #[test]
    fn hosts_files() {
        let aliases = [HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) }];
        let hosts =
            pod_hosts("h", "s.ns.svc.cluster.local", &["10.42.0.5".parse().expect("an address")], &aliases);
        assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"), "{hosts}");
        assert!(hosts.contains("10.42.0.5\th.s.ns.svc.cluster.local\th\n"), "{hosts}");
        assert!(hosts.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{hosts}");
        assert!(host_hosts("x\n", &[]).ends_with("(host network).\nx\n"));
    }
}
