//! One check of a container: exec, HTTP, TCP or gRPC.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::http;
use crate::runtime::{Error, Runtime};

/// A probe's text in events is cut to this many bytes, as kubelet cuts it.
const MAX_OUTPUT: usize = 10 << 10;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Success,
    /// It is not, and why.
    Failure(String),
}

/// What is checked.
pub(crate) struct Target<'a> {
    /// For exec.
    pub runtime: &'a Runtime,
    /// The container.
    pub container: &'a Container,
    /// Its id.
    pub id: &'a str,
    /// The pod's address.
    pub address: &'a str,
    /// How long the check may take.
    pub timeout: Duration,
}

/// A port by number or by its name in the container.
pub(crate) fn resolve_port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |p| u16::try_from(p.container_port).ok())
        }
    }
}

impl Target<'_> {
    /// Checks once.
    pub(crate) async fn probe(&self, probe: &Probe) -> Outcome {
        if let Some(exec) = &probe.exec {
            return self.exec(exec.command.as_deref().unwrap_or_default()).await;
        }
        if let Some(action) = &probe.http_get {
            return self.http(action).await;
        }
        if let Some(action) = &probe.tcp_socket {
            return self.tcp(action.host.as_deref(), &action.port).await;
        }
        if let Some(action) = &probe.grpc {
            let service = action.service.as_deref().unwrap_or_default();
            return http::grpc_health(self.address, action.port, service, self.timeout).await;
        }
        Outcome::Success
    }

    async fn exec(&self, command: &[String]) -> Outcome {
        match self.runtime.exec_sync(self.id, command, self.timeout).await {
            Ok(output) if output.code == 0 => Outcome::Success,
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(output.stderr);
                text.truncate(MAX_OUTPUT);
                Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
            }
            Err(Error::Timeout(_)) => {
                let seconds = self.timeout.as_secs();
                Outcome::Failure(format!(
                    "command timed out: \"{}\" timed out after {seconds}s",
                    command.join(" ")
                ))
            }
            Err(error) => Outcome::Failure(error.to_string()),
        }
    }

    async fn http(&self, action: &HTTPGetAction) -> Outcome {
        let Some(port) = resolve_port(self.container, &action.port) else {
            return Outcome::Failure(format!("invalid port {:?}", action.port));
        };
        let request = http::Get::new(action, self.address, port);
        match request.send(self.timeout).await {
            Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
            Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
            Err(error) => Outcome::Failure(format!("Get \"{}\": {error}", request.url())),
        }
    }

    async fn tcp(&self, host: Option<&str>, port: &IntOrString) -> Outcome {
        let Some(port) = resolve_port(self.container, port) else {
            return Outcome::Failure(format!("invalid port {port:?}"));
        };
        let host = host.filter(|h| !h.is_empty()).unwrap_or(self.address);
        match tokio::time::timeout(self.timeout, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => Outcome::Success,
            Ok(Err(error)) => {
                Outcome::Failure(format!("dial tcp {host}:{port}: connect: {}", http::reason(&error)))
            }
            Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_by_number_and_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("ok");
        let port = |p| resolve_port(&container, &p);
        assert_eq!(port(IntOrString::Int(80)), Some(80));
        assert_eq!(port(IntOrString::Int(70_000)), None);
        assert_eq!(port(IntOrString::String("web".into())), Some(8080));
        assert_eq!(port(IntOrString::String("81".into())), Some(81));
        assert_eq!(port(IntOrString::String("none".into())), None);
    }
}
