//! From a container of a pod's specification to what the runtime is asked for.

mod env;
mod env_file;
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
        let devices = mounts::devices(&self)?;
        let security = security::security(self.context, self.pod, self.container, self.image)?;
        Ok(ContainerSpec {
            image: self.image.id.clone(),
            command,
            args,
            working_dir: self.container.working_dir.clone().filter(|d| !d.is_empty()),
            mounts,
            devices,
            uid: security.uid,
            gid: security.gid,
            supplemental_groups: security.supplemental_groups,
            strict_groups: security.strict_groups,
            tty: self.container.tty.unwrap_or(false),
            stdin: self.container.stdin.unwrap_or(false),
            stdin_once: self.container.stdin_once.unwrap_or(false),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            add_capabilities: security.add_capabilities,
            drop_capabilities: security.drop_capabilities,
            no_new_privileges: security.no_new_privileges,
            seccomp: security.seccomp,
            apparmor: security.apparmor,
            unmasked: security.unmasked,
            resources: qos::container_resources(&pod_spec, self.container),
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

/// Longest host name the kernel keeps.
const MAX_KERNEL_NAME: usize = 64;

/// The host name inside the pod: the node's with the host's network, with its domain if asked for.
/// An error if that is longer than the kernel allows.
pub(crate) fn kernel_hostname(pod: &Pod, spec: &PodSpec, cluster_domain: &str) -> Result<String, String> {
    if spec.host_network.unwrap_or(false) {
        return Ok(nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned());
    }
    let (hostname, domain) = hostname(pod, spec, cluster_domain);
    if domain.is_empty() || !spec.set_hostname_as_fqdn.unwrap_or(false) {
        return Ok(hostname);
    }
    let name = format!("{hostname}.{domain}");
    if name.len() > MAX_KERNEL_NAME {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({MAX_KERNEL_NAME} characters is the max, {} characters requested)",
            name.len()
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn names(name: &str, spec: Value) -> (String, String, Result<String, String>) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let value = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        let pod: Pod = serde_json::from_value(value).expect("a pod");
        let spec = pod.spec.clone().expect("a specification");
        let (host, domain) = hostname(&pod, &spec, "cluster.local");
        (host, domain, kernel_hostname(&pod, &spec, "cluster.local"))
    }

    #[test]
    fn host_names() {
        let own = |text: &str| text.to_owned();
        assert_eq!(names("p", json!({})), (own("p"), String::new(), Ok(own("p"))));
        let domain = "s.ns.svc.cluster.local";
        assert_eq!(
            names("p", json!({"hostname": "h", "subdomain": "s"})),
            (own("h"), own(domain), Ok(own("h")))
        );
        let full = json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        assert_eq!(names("p", full).2, Ok(format!("h.{domain}")));
        let override_ = json!({"hostnameOverride": "a.b", "subdomain": "s"});
        assert_eq!(names("p", override_), (own("a.b"), String::new(), Ok(own("a.b"))));
        let long = format!("{}-{}", "x".repeat(62), "y".repeat(50));
        assert_eq!(names(&long, json!({})).0, "x".repeat(62), "cut, and not ending in a dash");
        let error =
            names(&long, json!({"subdomain": "s", "setHostnameAsFQDN": true})).2.expect_err("too long");
        assert!(
            error.ends_with("is too long (64 characters is the max, 85 characters requested)"),
            "{error}"
        );
    }
}
