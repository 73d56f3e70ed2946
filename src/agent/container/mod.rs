//! From a container of a pod's specification to what the runtime is asked for.

mod env;
mod mounts;
mod security;
mod services;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::context::Context;
use super::expand::expand;
use super::spec::uid;
use super::{qos, volumes};
use crate::runtime::spec::{ContainerSpec, Image};

/// The container cannot be made as specified; the text is its waiting state's message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub String);

/// What a container's specification is made from.
pub(crate) struct Request<'a> {
    /// The agent.
    pub context: &'a Context,
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// How often it was started before.
    pub attempt: u32,
    /// Its image.
    pub image: &'a Image,
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
    /// The pod's volumes.
    pub volumes: &'a volumes::Mounted,
    /// Host name inside the pod.
    pub hostname: &'a str,
    /// Labels by which the container is known again.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its id.
    pub id: String,
}

impl Request<'_> {
    /// The specification. Reads ConfigMaps and Secrets, writes the files that are mounted.
    pub(crate) async fn spec(self) -> Result<ContainerSpec, ConfigError> {
        let pod_spec = self.pod.spec.clone().unwrap_or_default();
        let env = env::environment(&self).await?;
        let lookup = |name: &str| env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        let expand_all = |list: Option<&Vec<String>>| {
            list.into_iter().flatten().map(|a| expand(a, &lookup)).collect::<Vec<_>>()
        };
        let command = expand_all(self.container.command.as_ref());
        let args = expand_all(self.container.args.as_ref());
        let mounts = mounts::mounts(&self, &lookup).await?;
        let security = security::security(self.context, self.pod, self.container, self.image)?;
        Ok(ContainerSpec {
            image: self.image.id.clone(),
            command,
            args,
            working_dir: self.container.working_dir.clone().filter(|d| !d.is_empty()),
            mounts,
            uid: security.uid,
            gid: security.gid,
            supplemental_groups: security.supplemental_groups,
            tty: self.container.tty.unwrap_or(false),
            stdin: self.container.stdin.unwrap_or(false),
            stdin_once: self.container.stdin_once.unwrap_or(false),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            add_capabilities: security.add_capabilities,
            drop_capabilities: security.drop_capabilities,
            no_new_privileges: security.no_new_privileges,
            seccomp: security.seccomp,
            resources: qos::container_resources(self.container),
            oom_score_adj: qos::oom_score_adj(&pod_spec, self.container, self.context.memory_capacity),
            log_path: super::paths::Paths::container_log(&self.container.name, self.attempt),
            log_max_bytes: self.context.settings.kubelet.container_log_max_size,
            log_max_files: self.context.settings.kubelet.container_log_max_files,
            stop_signal: self.container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
            env,
            pid_of: None,
            labels: self.labels,
            id: self.id,
        })
    }

    fn uid(&self) -> &str {
        uid(self.pod)
    }
}

/// The path that the container's termination message is read from, if it has one.
pub(crate) fn termination_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

/// Host name of the pod, at most 63 characters, and its domain below the cluster's.
pub(crate) fn hostname(pod: &Pod, spec: &PodSpec, cluster_domain: &str) -> (String, String) {
    let own = pod.metadata.name.clone().unwrap_or_default();
    let name = spec.hostname_override.as_deref().or(spec.hostname.as_deref()).filter(|h| !h.is_empty());
    let mut hostname = name.map_or(own, str::to_owned);
    if hostname.len() > 63 {
        hostname.truncate(63);
        hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    }
    let namespace = super::spec::namespace(pod);
    let subdomain = spec.subdomain.as_deref().filter(|s| !s.is_empty() && spec.hostname_override.is_none());
    let domain = subdomain.map(|s| format!("{s}.{namespace}.svc.{cluster_domain}")).unwrap_or_default();
    (hostname, domain)
}
