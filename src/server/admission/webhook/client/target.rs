//! Where a webhook is: a URL, or a Service.

use http::Uri;
use rustls::pki_types::ServerName;
use serde_json::Value;

use crate::api::field::quote;
use crate::api::{GroupResource, Status};
use crate::server::reader::Reader;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HTTPS: u16 = 443;

/// A webhook's place.
#[derive(Debug)]
pub(super) struct Target {
    /// As in messages: `https://svc.ns.svc:443/path`.
    pub(super) url: String,
    /// The `Host` header.
    pub(super) authority: String,
    /// Begins with a slash.
    pub(super) path: String,
    /// Whom its certificate must name.
    pub(super) server_name: ServerName<'static>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Host { name: String, port: u16 },
    Service { namespace: String, name: String, port: u16 },
}

/// Something that can be connected to.
pub(super) type Address = (String, u16);

impl Target {
    /// From a `WebhookClientConfig`.
    ///
    /// # Errors
    /// It has neither a URL nor a Service, or the URL is none.
    pub(super) fn of(config: &Value) -> Result<Self, String> {
        let service = &config["service"];
        if service.is_object() {
            return Self::service(service);
        }
        let Some(url) = config["url"].as_str().filter(|u| !u.is_empty()) else {
            return Err("webhook configuration must have either service or URL".to_owned());
        };
        let uri: Uri = url.parse().map_err(|e| format!("Unparsable URL: parse {}: {e}", quote(url)))?;
        let authority = uri.authority().ok_or_else(|| format!("Unparsable URL: {}", quote(url)))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = clean(uri.path());
        Ok(Self {
            url: format!("https://{authority}{path}"),
            authority: authority.to_string(),
            path,
            server_name: server_name(&name)?,
            place: Place::Host { name, port: authority.port_u16().unwrap_or(HTTPS) },
        })
    }

    fn service(service: &Value) -> Result<Self, String> {
        let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(HTTPS);
        let (name, namespace, path) = (text("name"), text("namespace"), clean(&text("path")));
        let host = format!("{name}.{namespace}.svc");
        let authority = format!("{host}:{port}");
        Ok(Self {
            url: format!("https://{authority}{path}"),
            authority,
            path,
            server_name: server_name(&host)?,
            place: Place::Service { namespace, name, port },
        })
    }

    /// Where it can be reached now.
    ///
    /// # Errors
    /// There is no such Service, port or endpoint; in upstream's words.
    pub(super) async fn addresses(&self, reader: &dyn Reader) -> Result<Vec<Address>, String> {
        match &self.place {
            Place::Host { name, port } => Ok(vec![(name.clone(), *port)]),
            Place::Service { namespace, name, port } => of_service(reader, namespace, name, *port),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|e| format!("Unparsable URL: host {}: {e}", quote(host)))
}

/// A path as upstream's client sends it: one slash at the start, none at the end.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(port: &Value) -> Option<u16> {
    port["port"].as_u64().and_then(|p| u16::try_from(p).ok())
}

/// The ready endpoints of a Service, in any order. Its own address would do only where this machine is a node.
fn of_service(reader: &dyn Reader, namespace: &str, name: &str, port: u16) -> Result<Vec<Address>, String> {
    let missing = || Status::not_found(&GroupResource::new("", "service"), name).message;
    let service = reader.get("services", Some(namespace), name).ok_or_else(missing)?.value();
    let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
    if kind == "ExternalName" {
        return match service["spec"]["externalName"].as_str() {
            Some(host) => Ok(vec![(host.to_owned(), port)]),
            None => Err(format!("unsupported service type {}", quote(kind))),
        };
    }
    let ports = list(&service, "/spec/ports");
    let found = ports.iter().find(|p| number(p) == Some(port));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {}", quote(name)))?;
    let port_name = found["name"].as_str().unwrap_or_default();
    let slices = reader.list("endpointslices.discovery.k8s.io", Some(namespace));
    let mine = slices.iter().filter(|s| s.label(SERVICE_NAME) == Some(name)).map(|s| s.value());
    let mut addresses: Vec<Address> = mine.flat_map(|slice| ready(&slice, port_name)).collect();
    if addresses.is_empty() {
        return Err(format!("no endpoints available for service {}", quote(name)));
    }
    let first = rand::random_range(0..addresses.len());
    addresses.rotate_left(first);
    Ok(addresses)
}

/// Addresses of a slice that take connections on the port of this name.
fn ready(slice: &Value, port_name: &str) -> Vec<Address> {
    let port = list(slice, "/ports").iter().find(|p| p["name"].as_str().unwrap_or_default() == port_name);
    let Some(port) = port.and_then(number) else { return Vec::new() };
    let endpoints = list(slice, "/endpoints")
        .iter()
        .filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    let addresses = endpoints.flat_map(|e| list(e, "/addresses")).filter_map(Value::as_str);
    addresses.map(|a| (a.to_owned(), port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::json;

    #[test]
    fn places_have_the_urls_of_messages() {
        for (config, url) in [
            (json!({"url": "https://a.example/x/"}), "https://a.example/x"),
            (json!({"url": "https://a.example:8443"}), "https://a.example:8443/"),
            (json!({"url": "https://[::1]:9/a"}), "https://[::1]:9/a"),
            (json!({"service": {"name": "s", "namespace": "n", "port": 443}}), "https://s.n.svc:443/"),
            (
                json!({"service": {"name": "s", "namespace": "n", "path": "/a/b", "port": 8443}}),
                "https://s.n.svc:8443/a/b",
            ),
        ] {
            assert_eq!(Target::of(&config).unwrap().url, url);
        }
        let neither = Target::of(&json!({})).unwrap_err();
        assert_eq!(neither, "webhook configuration must have either service or URL");
        assert!(Target::of(&json!({"url": "https://a b"})).unwrap_err().starts_with("Unparsable URL"));
    }

    #[test]
    fn a_service_leads_to_its_ready_endpoints() {
        let fake = Fake::default();
        let of = |port| of_service(&fake, "n", "s", port);
        assert_eq!(of(443).unwrap_err(), "service \"s\" not found");
        let service = json!({"metadata": {"name": "s", "namespace": "n"},
            "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 443, "name": "https"}]}});
        fake.put("services", service);
        assert_eq!(of(80).unwrap_err(), "no service port 80 found for service \"s\"");
        assert_eq!(of(443).unwrap_err(), "no endpoints available for service \"s\"");
        let slice = json!({"metadata": {"name": "s-1", "namespace": "n", "labels": {SERVICE_NAME: "s"}},
            "ports": [{"name": "https", "port": 8443}], "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]});
        fake.put("endpointslices.discovery.k8s.io", slice);
        assert_eq!(of(443).unwrap(), [("10.0.0.1".to_owned(), 8443)]);
    }
}
