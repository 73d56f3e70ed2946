//! A pod's sandbox and its network.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use super::labels;
use super::worker::Worker;
use crate::agent::container::{hostname, kernel_hostname};
use crate::agent::error::Error;
use crate::agent::qos;
use crate::agent::spec::{host_network, uid};
use crate::network::table::Protocol;
use crate::network::{HostPort, PodNetwork};
use crate::runtime::spec::{SandboxSpec, SandboxStatus};

/// The runtime handlers of every node: what is built in, by the name it has with other runtimes and its own.
pub(crate) const HANDLERS: [&str; 2] = ["runc", "kedge"];

/// Why there is no sandbox.
pub(super) enum NoSandbox {
    /// The node has no pod network yet; the worker is woken when it has.
    NetworkNotReady,
    /// It failed.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for NoSandbox {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Worker {
    /// Replaces the pod's sandbox, if it has one, by a new one with its network.
    pub(super) async fn create_sandbox(&mut self, pod: &Pod) -> Result<(), NoSandbox> {
        let network = match self.context.network.borrow().clone() {
            network @ Some(_) => network,
            None if host_network(pod) => None,
            None => return Err(NoSandbox::NetworkNotReady),
        };
        let attempt = self.remove_old_sandbox(network.as_ref()).await?;
        let Some(spec) = &pod.spec else {
            return Err(Error::Other("the pod has no specification".into()).into());
        };
        if spec.host_users == Some(false) {
            let text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
            return Err(Error::Other(text.into()).into());
        }
        if let Some(class) = spec.runtime_class_name.as_deref().filter(|c| !c.is_empty()) {
            self.check_handler(class).await?;
        }
        let cluster_domain = &self.context.settings.cluster_domain;
        let name = kernel_hostname(pod, spec, cluster_domain).map_err(Error::Other)?;
        let (short, domain) = hostname(pod, spec, cluster_domain);
        let id = format!("{}-{attempt}", uid(pod));
        let wanted = self.sandbox_spec(pod, spec, &id, attempt, &name);
        std::fs::create_dir_all(&wanted.log_dir).map_err(Error::io("make", &wanted.log_dir))?;
        let status = self.context.runtime.run_sandbox(&wanted).await?;
        self.sandbox = Some(id);
        if let (false, Some(network)) = (host_network(pod), &network)
            && let Err(error) = self.attach(network, &status, spec).await
        {
            // A sandbox without network is of no use.
            let _ = network.detach(&status.id).await;
            let _ = self.context.runtime.remove_sandbox(&status.id).await;
            self.sandbox = None;
            return Err(error.into());
        }
        let names = super::files::Names { kernel: &name, short: &short, domain: &domain };
        super::files::write(&self.context, pod, &names, &self.memory.addresses)?;
        Ok(())
    }

    /// Refuses a RuntimeClass whose handler is none of this node's.
    async fn check_handler(&self, class: &str) -> Result<(), Error> {
        let api: Api<RuntimeClass> = Api::all(self.context.client.clone());
        let missing = || Error::Other(format!("failed to get RuntimeClass {class:?}: not found"));
        let found = api.get_opt(class).await?.ok_or_else(missing)?;
        if HANDLERS.contains(&found.handler.as_str()) {
            return Ok(());
        }
        let text = "failed to get sandbox runtime: no runtime for";
        Err(Error::Other(format!("{text} {:?} is configured", found.handler)))
    }

    /// Removes the sandbox there was; the number of the next one.
    async fn remove_old_sandbox(&mut self, network: Option<&PodNetwork>) -> Result<u32, Error> {
        let Some(id) = self.sandbox.take() else { return Ok(0) };
        let attempt = id.rsplit('-').next().and_then(|a| a.parse::<u32>().ok()).unwrap_or(0);
        if let Some(network) = network {
            network.detach(&id).await.map_err(|e| Error::Other(e.to_string()))?;
        }
        self.context.runtime.remove_sandbox(&id).await?;
        Ok(attempt + 1)
    }

    async fn attach(
        &mut self,
        network: &PodNetwork,
        sandbox: &SandboxStatus,
        spec: &PodSpec,
    ) -> Result<(), Error> {
        let netns = sandbox.netns.clone().or_else(|| self.context.runtime.netns_of(&sandbox.id));
        let netns = netns
            .ok_or_else(|| Error::Other(format!("sandbox {:?} has no network namespace", sandbox.id)))?;
        let ports = host_ports(spec);
        let attachment = network.attach(&sandbox.id, &netns, &ports).await;
        let attachment =
            attachment.map_err(|e| Error::Other(format!("failed to set up sandbox network: {e}")))?;
        self.memory.addresses = vec![attachment.address.into()];
        Ok(())
    }

    fn sandbox_spec(&self, pod: &Pod, spec: &PodSpec, id: &str, attempt: u32, hostname: &str) -> SandboxSpec {
        let mut labels = labels::of_pod(pod);
        labels.insert(labels::ATTEMPT.into(), attempt.to_string());
        let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref());
        SandboxSpec {
            id: id.to_owned(),
            labels,
            hostname: hostname.to_owned(),
            log_dir: self.context.paths.pod_logs(pod),
            cgroup: qos::group_of(pod),
            resources: qos::pod_resources(spec, self.context.settings.kubelet.pod_pids_limit),
            host_network: spec.host_network.unwrap_or(false),
            host_pid: spec.host_pid.unwrap_or(false),
            host_ipc: spec.host_ipc.unwrap_or(false),
            share_pid: spec.share_process_namespace.unwrap_or(false),
            sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let port = |p: i32| u16::try_from(p).ok().filter(|p| *p > 0);
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let any = std::net::IpAddr::from([0, 0, 0, 0]);
            Some(HostPort {
                protocol: match p.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                host_ip: p.host_ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(any),
                host_port: port(p.host_port?)?,
                container_port: port(p.container_port)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ports_are_those_that_have_one() {
        let spec: PodSpec =
            serde_json::from_value(serde_json::json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"},
            {"containerPort": 81}]}]}))
            .expect("a spec");
        let ports = host_ports(&spec);
        assert_eq!(ports.len(), 2);
        assert_eq!(
            (ports[0].host_port, ports[0].container_port, ports[0].protocol),
            (8080, 80, Protocol::Tcp)
        );
        assert_eq!((ports[1].host_ip.to_string(), ports[1].protocol), ("127.0.0.1".into(), Protocol::Udp));
    }
}
