//! A server on a temporary directory and a free port, for the tests of the API.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod minimal;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use kedge::config::{Authentication, Cidr, Instance, Kubelet, NodeSettings, ProxyMode, ServerSettings};
use kedge::server::Server;
use kedge::server::auth::User;
use kedge::supervisor::Supervisor;
use tempfile::TempDir;

/// A running API without scheduler and controllers. Everything ends with it.
pub struct TestServer {
    pub server: Server,
    pub supervisor: Supervisor,
    pub dir: TempDir,
}

pub fn settings(dir: &std::path::Path) -> ServerSettings {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (cluster_cidr, service_cidr): (Cidr, Cidr) =
        ("10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap());
    let cluster_dns = "10.43.0.10".parse().unwrap();
    ServerSettings {
        checkpoint_process: false,
        data_dir: dir.to_owned(),
        bind_address: localhost,
        https_listen_port: 0,
        tls_san: Vec::new(),
        write_kubeconfig: dir.join("kubeconfig"),
        write_kubeconfig_mode: 0o600,
        token: None,
        cluster_cidr,
        service_cidr,
        service_node_port_range: (30000, 32767),
        cluster_dns,
        cluster_domain: "cluster.local".to_owned(),
        authentication: Authentication::default(),
        disable_agent: true,
        node: NodeSettings {
            data_dir: dir.to_owned(),
            instance: Instance::of(dir),
            node_name: "test".to_owned(),
            node_ip: "10.0.0.1".parse().unwrap(),
            node_labels: Vec::new(),
            node_taints: Vec::new(),
            node_external_ips: Vec::new(),
            node_api_port: 10250,
            cluster_cidr,
            service_cidr,
            cluster_dns,
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            private_registry: dir.join("registries.yaml"),
            disable_default_registry_endpoint: false,
            proxy_mode: ProxyMode::Auto,
            max_pods: 110,
            kubelet: Kubelet::new(dir.join("agent/pod-manifests"), 1 << 30),
        },
    }
}

impl TestServer {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new();
        let server = Server::bind(settings(dir.path()), supervisor.clone()).await.unwrap();
        server.run_api();
        Self { server, supervisor, dir }
    }

    /// A client that may do everything.
    pub fn admin(&self) -> kube::Client {
        kedge::client::in_process(self.server.service_as(User::loopback()))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Stops the server and starts it again on the same data.
    pub async fn restart(self) -> Self {
        let Self { server, supervisor, dir } = self;
        drop(server);
        assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
        let supervisor = Supervisor::new();
        let server = Server::bind(settings(dir.path()), supervisor.clone()).await.unwrap();
        server.run_api();
        Self { server, supervisor, dir }
    }
}
