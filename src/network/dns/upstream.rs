//! Forwarding to the name servers of the node's resolver configuration, with a cache.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use parking_lot::Mutex;

/// Answers kept.
const CACHE_ENTRIES: u64 = 2048;
/// A name server has so long to answer before it is asked again, or the next is.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often.
const ATTEMPTS: usize = 2;
/// As in resolv.conf(5): further ones are not used.
const MAX_SERVERS: usize = 3;
const DNS_PORT: u16 = 53;

/// What the name servers said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The response code.
    pub code: Option<ResponseCode>,
    /// The records that answer.
    pub answers: Vec<Record>,
    /// The record that says for how long a negative answer may be kept.
    pub soa: Option<Record>,
}

/// What tells one content of a file from another without reading it.
type Version = Option<(u64, u64, i64, i64, u64)>;

struct Current {
    version: Version,
    /// `None`: there is no name server to ask.
    resolver: Option<Arc<TokioResolver>>,
}

/// The name servers of the node.
pub struct Upstream {
    resolv_conf: PathBuf,
    /// Our own addresses, which are never asked.
    own: Vec<SocketAddr>,
    current: Mutex<Option<Current>>,
}

impl Upstream {
    /// Forwards to the name servers of `resolv_conf`, except to ourselves at `own`.
    pub fn new(resolv_conf: PathBuf, own: Vec<SocketAddr>) -> Self {
        Self { resolv_conf, own, current: Mutex::new(None) }
    }

    /// Asks the name servers, or the cache.
    pub async fn ask(&self, name: &Name, kind: RecordType) -> Reply {
        let failed = Reply { code: Some(ResponseCode::ServFail), ..Reply::default() };
        let Some(resolver) = self.resolver() else {
            return failed;
        };
        match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => Reply { answers: lookup.answers().to_vec(), ..Reply::default() },
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Reply {
                code: Some(none.response_code),
                soa: none.soa.map(|soa| soa.into_record_of_rdata()),
                ..Reply::default()
            },
            Err(NetError::Dns(DnsError::ResponseCode(code))) => {
                Reply { code: Some(code), ..Reply::default() }
            }
            Err(error) => {
                tracing::debug!(%name, %kind, %error, "no name server answered");
                failed
            }
        }
    }

    /// The resolver of the configuration as it is now: the file is looked at with each question.
    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let version = self.version();
        let mut current = self.current.lock();
        if let Some(current) = &*current
            && current.version == version
        {
            return current.resolver.clone();
        }
        let text = fs::read_to_string(&self.resolv_conf).unwrap_or_else(|error| {
            tracing::warn!(path = %self.resolv_conf.display(), %error, "cannot read the resolver configuration");
            String::new()
        });
        let servers = usable(&name_servers(&text), &self.own);
        tracing::info!(path = %self.resolv_conf.display(), ?servers, "forwarding DNS");
        let resolver = build(&servers);
        *current = Some(Current { version, resolver: resolver.clone() });
        resolver
    }

    fn version(&self) -> Version {
        let meta = fs::metadata(&self.resolv_conf).ok()?;
        Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
    }
}

/// The addresses of the `nameserver` lines of a resolv.conf(5).
fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .collect()
}

/// The first ones that are not ourselves: a question must not come back.
fn usable(servers: &[IpAddr], own: &[SocketAddr]) -> Vec<IpAddr> {
    let is_own = |server: &IpAddr| {
        own.iter().any(|own| {
            own.port() == DNS_PORT
                && (own.ip() == *server || (own.ip().is_unspecified() && is_of_this_machine(*server)))
        })
    };
    servers.iter().filter(|server| !is_own(server)).take(MAX_SERVERS).copied().collect()
}

fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn build(servers: &[IpAddr]) -> Option<Arc<TokioResolver>> {
    if servers.is_empty() {
        return None;
    }
    let servers = servers.iter().map(|ip| NameServerConfig::udp_and_tcp(*ip)).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut options = ResolverOpts::default();
    options.ndots = 0;
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ENTRIES;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    options.edns0 = true;
    let builder =
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    match builder.build() {
        Ok(resolver) => Some(Arc::new(resolver)),
        Err(error) => {
            tracing::error!(%error, "cannot forward DNS");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().expect("valid")).collect()
    }

    #[test]
    fn name_servers_are_read_as_the_manual_says() {
        let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver 192.0.2.1\n nameserver\tfd00::1 # x\nnameserver\nnameserver x\nnameservers 9.9.9.9\n";
        assert_eq!(name_servers(text), ips(&["192.0.2.1", "fd00::1"]));
    }

    #[test]
    fn a_question_never_comes_back() {
        let own = ["10.43.0.10:53".parse().expect("valid")];
        assert_eq!(usable(&ips(&["10.43.0.10", "192.0.2.1"]), &own), ips(&["192.0.2.1"]));
        let every = ["0.0.0.0:53".parse().expect("valid")];
        assert_eq!(usable(&ips(&["127.0.0.53", "192.0.2.1"]), &every), ips(&["192.0.2.1"]));
        let elsewhere = ["127.0.0.1:5300".parse().expect("valid")];
        assert_eq!(usable(&ips(&["127.0.0.1"]), &elsewhere), ips(&["127.0.0.1"]));
    }

    #[tokio::test]
    async fn without_a_name_server_the_answer_comes_at_once() {
        let upstream = Upstream::new("/nonexistent/resolv.conf".into(), Vec::new());
        let reply = upstream.ask(&Name::from_ascii("example.com.").expect("valid"), RecordType::A).await;
        assert_eq!(reply.code, Some(ResponseCode::ServFail));
    }
}
