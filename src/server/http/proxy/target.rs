//! Where a stream leads: found out from nodes, pods, Services and their endpoints.

use serde_json::Value;

use crate::api::{GroupResource, Status};
use crate::server::http::api::{Api, Cx};
use crate::server::http::params::Params;
use crate::server::reader::Reader;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// A node API: TLS with the cluster's CA, as the kubelet client.
    Node,
    /// A node API whose certificate may be anybody's: `insecureSkipTLSVerifyBackend`.
    UnverifiedNode,
    /// A pod: plain.
    Http,
    /// A pod: TLS.
    Https,
}

/// A host, a port, and a path there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) uri: String,
}

impl Target {
    fn new(scheme: Scheme, host: &str, port: u16) -> Self {
        Self { scheme, host: host.to_owned(), port, uri: "/".to_owned() }
    }

    pub(super) fn path(mut self, path: String, query: Option<&str>) -> Self {
        self.uri = match query {
            Some(query) if !query.is_empty() => format!("{path}?{query}"),
            _ => path,
        };
        self
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The pod of a request.
pub(super) fn pod(api: &Api, cx: &Cx) -> Result<Value, Status> {
    Ok(api.objects.get(&cx.stored, cx.namespace(), cx.name()?)?.value())
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn names(pod: &Value, pointer: &str) -> Vec<String> {
    list(pod, pointer).iter().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
}

/// The container a stream is for: the one asked for, the one the pod's annotation names, or its only one.
pub(super) fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (main, init) = (names(pod, "/spec/containers"), names(pod, "/spec/initContainers"));
    let all = || main.iter().chain(&init).cloned().chain(names(pod, "/spec/ephemeralContainers"));
    let annotated = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    match wanted.or(annotated.filter(|a| all().any(|c| c == *a))) {
        Some(wanted) if all().any(|c| c == wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match main.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
            many => {
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    many.join(" ")
                );
                if !init.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        },
    }
}

/// What the node API is told of an exec or attach.
pub(super) fn stream_query(params: &Params) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if params.flag(ours) {
            query.append_pair(theirs, "1");
        }
    }
    for part in params.all("command") {
        query.append_pair("command", part);
    }
    query.finish()
}

/// A container of a pod that ended cannot be entered.
pub(super) fn check_running(pod: &Value, subresource: &str) -> Result<(), Status> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if subresource == "exec" && matches!(phase, "Succeeded" | "Failed") {
        let text = format!("cannot exec into a container in a completed pod; current phase is {phase}");
        return Err(Status::bad_request(text));
    }
    Ok(())
}

/// The node API of a pod's node.
pub(super) fn node_of(api: &Api, pod: &Value) -> Result<Target, Status> {
    match pod["spec"]["nodeName"].as_str().unwrap_or_default() {
        "" => {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            Err(Status::bad_request(format!("pod {name} does not have a host assigned")))
        }
        node => self::node(api, node),
    }
}

/// A node's API, from `name` or `name:port`.
pub(super) fn node(api: &Api, id: &str) -> Result<Target, Status> {
    let (_, name, port) = split(id)?;
    let reader: &dyn Reader = &*api.objects.cache;
    let found = reader.get("nodes", None, name).ok_or_else(|| not_found("nodes", name))?.value();
    let addresses = list(&found, "/status/addresses");
    let address = ["InternalIP", "Hostname", "ExternalIP"]
        .iter()
        .find_map(|kind| addresses.iter().find(|a| a["type"] == *kind).and_then(|a| a["address"].as_str()));
    let address = address.ok_or_else(|| Status::internal(format!("no address known for node {name}")))?;
    let own = found.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = match port {
        "" => own.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0),
        text => text.parse().ok(),
    };
    let port = port
        .ok_or_else(|| Status::internal(format!("node {name} has no node API yet: its port is unknown")))?;
    Ok(Target::new(Scheme::Node, address, port))
}

/// Splits `scheme:name:port`, of which scheme and port may be left out.
fn split(id: &str) -> Result<(Scheme, &str, &str), Status> {
    let scheme = |text: &str| match text {
        "https" => Ok(Scheme::Https),
        "" | "http" => Ok(Scheme::Http),
        _ => {
            Err(Status::bad_request(format!("invalid proxy target {id:?}: the scheme must be http or https")))
        }
    };
    match id.split(':').collect::<Vec<_>>().as_slice() {
        [name] => Ok((Scheme::Http, name, "")),
        [name, port] => Ok((Scheme::Http, name, port)),
        [first, name, port] => Ok((scheme(first)?, name, port)),
        _ => Err(Status::bad_request(format!("invalid proxy target {id:?}"))),
    }
}

fn not_found(resource: &'static str, name: &str) -> Status {
    Status::not_found(&GroupResource::new("", resource), name)
}

/// A pod's own address, for `pods/proxy`.
pub(super) fn pod_address(api: &Api, cx: &Cx) -> Result<Target, Status> {
    let (scheme, name, port) = split(cx.name()?)?;
    let pod = api.objects.get(&cx.stored, cx.namespace(), name)?.value();
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    if address.is_empty() {
        return Err(Status::service_unavailable(format!("pod {name} has no address yet")));
    }
    let ports: Vec<&Value> = list(&pod, "/spec/containers").iter().flat_map(|c| list(c, "/ports")).collect();
    let number = |p: &Value| p["containerPort"].as_u64().and_then(|p| u16::try_from(p).ok());
    let port = match port {
        "" => Some(ports.first().and_then(|p| number(p)).unwrap_or(80)),
        text => {
            text.parse().ok().or_else(|| ports.iter().find(|p| p["name"] == text).and_then(|p| number(p)))
        }
    };
    let port = port.ok_or_else(|| Status::bad_request(format!("pod {name} has no such port")))?;
    Ok(Target::new(scheme, address, port))
}

/// An endpoint of a Service, for `services/proxy`.
pub(super) fn service_address(api: &Api, cx: &Cx) -> Result<Target, Status> {
    let (scheme, name, port) = split(cx.name()?)?;
    let namespace = cx.namespace().unwrap_or_default();
    let service = api.objects.get(&cx.stored, Some(namespace), name)?.value();
    let ports = list(&service, "/spec/ports");
    let wanted = service_port(ports, port);
    if wanted.is_none() && port.parse::<u16>().is_ok() {
        let why = format!("no service port {port} found for service \"{name}\"");
        return Err(Status::service_unavailable(why));
    }
    let none = || Status::service_unavailable(format!("no endpoints available for service \"{name}\""));
    let port_name = wanted.ok_or_else(none)?["name"].as_str().unwrap_or_default().to_owned();
    let reader: &dyn Reader = &*api.objects.cache;
    let slices = reader.list("endpointslices.discovery.k8s.io", Some(namespace));
    let mine = slices.iter().filter(|s| s.label(SERVICE_NAME) == Some(name)).map(|s| s.value());
    let found: Vec<(String, u16)> = mine.flat_map(|slice| ready(&slice, &port_name)).collect();
    if found.is_empty() {
        return Err(none());
    }
    let (host, port) = &found[rand::random_range(0..found.len())];
    Ok(Target::new(scheme, host, *port))
}

/// The port of a Service that a name or number means; without one, its first.
fn service_port<'a>(ports: &'a [Value], wanted: &str) -> Option<&'a Value> {
    let number = wanted.parse::<u64>().ok();
    match wanted {
        "" => ports.first(),
        name => {
            ports.iter().find(|p| p["name"] == name || (number.is_some() && p["port"].as_u64() == number))
        }
    }
}

/// Addresses of a slice that take connections on the port of this name.
fn ready(slice: &Value, port_name: &str) -> Vec<(String, u16)> {
    let port = list(slice, "/ports").iter().find(|p| p["name"].as_str().unwrap_or_default() == port_name);
    let Some(port) = port.and_then(|p| p["port"].as_u64()).and_then(|p| u16::try_from(p).ok()) else {
        return Vec::new();
    };
    let endpoints = list(slice, "/endpoints")
        .iter()
        .filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    let addresses = endpoints.flat_map(|e| list(e, "/addresses")).filter_map(Value::as_str);
    addresses.map(|a| (a.to_owned(), port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_is_the_one_meant() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, None).unwrap(), "a");
        assert_eq!(container(&pod, Some("i")).unwrap(), "i");
        assert_eq!(container(&pod, Some("x")).unwrap_err().message, "container x is not valid for pod p");
        pod["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        assert_eq!(
            container(&pod, None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "b"});
        assert_eq!(container(&pod, None).unwrap(), "b");
    }

    #[test]
    fn the_node_is_told_in_its_own_words() {
        let params = Params::parse(
            &"/x?stdin=true&stdout=1&tty=false&command=sh&command=-c&command=a%20b".parse().unwrap(),
        );
        assert_eq!(stream_query(&params), "input=1&output=1&command=sh&command=-c&command=a+b");
    }

    #[test]
    fn targets_have_scheme_and_port() {
        assert_eq!(split("a").unwrap(), (Scheme::Http, "a", ""));
        assert_eq!(split("a:80").unwrap(), (Scheme::Http, "a", "80"));
        assert_eq!(split("https:a:443").unwrap(), (Scheme::Https, "a", "443"));
        assert!(split("x:a:1").is_err() && split("a:b:c:d").is_err());
        assert_eq!(Target::new(Scheme::Http, "::1", 80).authority(), "[::1]:80");
    }

    #[test]
    fn ports_of_services_have_names_and_numbers() {
        let ports = [json!({"name": "a", "port": 80}), json!({"name": "b", "port": 81})];
        let port = |wanted| service_port(&ports, wanted).map(|p| p["name"].as_str().unwrap());
        assert_eq!((port(""), port("b"), port("81")), (Some("a"), Some("b"), Some("b")));
        assert_eq!((port("c"), port("82")), (None, None));
    }

    #[test]
    fn only_ready_endpoints_are_proxied_to() {
        let slice = json!({"ports": [{"name": "", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]});
        assert_eq!(ready(&slice, ""), [("10.0.0.1".to_owned(), 8080)]);
        assert!(ready(&slice, "x").is_empty());
    }
}
