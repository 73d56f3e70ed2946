//! One check of a container: exec, HTTP, TCP or gRPC.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::{grpc, http};
use crate::agent::expand::expand;
use crate::api::go_duration;
use crate::runtime::{Error, Runtime};

/// A probe's text in events is cut to this many bytes, as kubelet cuts it.
const MAX_OUTPUT: usize = 10 << 10;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Success,
    /// All is well, with something that should be known.
    Warning(String),
    /// It is not, and why.
    Failure(String),
    /// The check itself could not be made: it says nothing of the container.
    Unknown(String),
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

/// A port by number or by its name in the container; the error is upstream's.
pub(crate) fn resolve_port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(named) => i64::from(named.container_port),
                None => {
                    name.parse().map_err(|_| format!("strconv.Atoi: parsing \"{name}\": invalid syntax"))?
                }
            }
        }
    };
    let port = u16::try_from(number).ok().filter(|p| *p > 0);
    port.ok_or_else(|| format!("invalid port number: {number}"))
}

/// The variables of a command that have a value written down; others are none, as in kubelet.
fn expanded(command: &[String], container: &Container) -> Vec<String> {
    let lookup = |name: &str| {
        let mut variables = container.env.iter().flatten();
        variables.rfind(|v| v.name == name).map(|v| v.value.clone().unwrap_or_default())
    };
    command.iter().map(|word| expand(word, &lookup)).collect()
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
            return grpc::check(self.address, action.port, service, self.timeout).await;
        }
        Outcome::Unknown(format!("missing probe handler for {}", self.container.name))
    }

    async fn exec(&self, command: &[String]) -> Outcome {
        let command = expanded(command, self.container);
        match self.runtime.exec_sync(self.id, &command, self.timeout).await {
            Ok(output) if output.code == 0 => Outcome::Success,
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(output.stderr);
                text.truncate(MAX_OUTPUT);
                Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
            }
            Err(Error::Timeout(_)) => Outcome::Failure(format!(
                "command timed out: \"{}\" timed out after {}",
                command.join(" "),
                go_duration(self.timeout)
            )),
            Err(error) => Outcome::Unknown(format!("failed to exec in container: {error}")),
        }
    }

    async fn http(&self, action: &HTTPGetAction) -> Outcome {
        let request = match http::Get::new(action, self.container, self.address, "probe") {
            Ok(request) => request,
            Err(error) => return Outcome::Unknown(error),
        };
        match request.send(self.timeout).await {
            Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
            Ok(answer) if (300..400).contains(&answer.status) => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
            }
            // Not the body, which may hold what is not for everybody who reads events.
            Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
            Err(error) => Outcome::Failure(error.to_string()),
        }
    }

    async fn tcp(&self, host: Option<&str>, port: &IntOrString) -> Outcome {
        let port = match resolve_port(self.container, port) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        let host = host.filter(|h| !h.is_empty()).unwrap_or(self.address);
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        match tokio::time::timeout(self.timeout, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => Outcome::Success,
            Ok(Err(error)) => {
                Outcome::Failure(format!("dial tcp {shown}: connect: {}", http::reason(&error)))
            }
            Err(_) => Outcome::Failure(format!("dial tcp {shown}: i/o timeout")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}],
            "env": [{"name": "A", "value": "1"}, {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}))
        .expect("a container")
    }

    #[test]
    fn ports_by_number_and_name() {
        for (port, expected) in [
            (IntOrString::Int(80), Ok(80)),
            (IntOrString::Int(70_000), Err("invalid port number: 70000")),
            (IntOrString::Int(0), Err("invalid port number: 0")),
            (IntOrString::String("web".into()), Ok(8080)),
            (IntOrString::String("81".into()), Ok(81)),
            (IntOrString::String("none".into()), Err("strconv.Atoi: parsing \"none\": invalid syntax")),
        ] {
            assert_eq!(resolve_port(&container(), &port), expected.map_err(str::to_owned), "{port:?}");
        }
    }

    #[test]
    fn commands_know_the_variables_written_down() {
        let command = ["$(A)", "x$(F)y", "$(B)", "$$(A)"].map(str::to_owned);
        assert_eq!(expanded(&command, &container()), ["1", "xy", "$(B)", "$(A)"]);
    }
}
