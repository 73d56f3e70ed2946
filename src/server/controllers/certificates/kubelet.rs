//! What a request of a node must look like: `pkg/apis/certificates/helpers.go`.

use std::collections::BTreeSet;

use crate::api::csr::CertificateRequest;

const NODE_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Why a request is not one of a node's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another group, or several.
    #[error("subject organization is not system:nodes")]
    Organization,
    /// Not the name of a node's user.
    #[error("subject common name does not begin with system:node: ")]
    CommonName,
    /// Names where none may be.
    #[error("{0} subjectAltNames are not allowed")]
    Names(&'static str),
    /// No name where one must be.
    #[error("DNS or IP subjectAltName is required")]
    Nameless,
    /// Other usages than a kubelet's.
    #[error("usages did not match {0:?}")]
    Usages([&'static str; 3]),
}

/// It asks for the certificate by which a node's agent is known to the API.
pub fn client(request: &CertificateRequest, usages: &[String]) -> Result<(), Refused> {
    node_group(request)?;
    let names = [
        ("DNS", request.dns_names.is_empty()),
        ("Email", request.emails.is_empty()),
        ("IP", request.addresses.is_empty()),
        ("URI", request.uris.is_empty()),
    ];
    no_names(&names)?;
    node_name(request)?;
    exactly(usages, ["client auth", "digital signature", "key encipherment"])
}

/// It asks for the certificate that a node's API shows.
pub fn serving(request: &CertificateRequest, usages: &[String]) -> Result<(), Refused> {
    node_group(request)?;
    if request.dns_names.is_empty() && request.addresses.is_empty() {
        return Err(Refused::Nameless);
    }
    no_names(&[("Email", request.emails.is_empty()), ("URI", request.uris.is_empty())])?;
    exactly(usages, ["digital signature", "key encipherment", "server auth"])?;
    node_name(request)
}

fn node_group(request: &CertificateRequest) -> Result<(), Refused> {
    if request.organizations == [NODE_GROUP] { Ok(()) } else { Err(Refused::Organization) }
}

fn node_name(request: &CertificateRequest) -> Result<(), Refused> {
    if request.common_name.starts_with(NODE_PREFIX) { Ok(()) } else { Err(Refused::CommonName) }
}

fn no_names(names: &[(&'static str, bool)]) -> Result<(), Refused> {
    names.iter().find(|(_, none)| !none).map_or(Ok(()), |(kind, _)| Err(Refused::Names(kind)))
}

/// These usages and no others; only keys of RSA need `key encipherment`.
fn exactly(usages: &[String], wanted: [&'static str; 3]) -> Result<(), Refused> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let all: BTreeSet<&str> = wanted.into();
    let mut without = all.clone();
    without.remove("key encipherment");
    if given == all || given == without { Ok(()) } else { Err(Refused::Usages(wanted)) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLIENT_USAGES, SERVER_USAGES, request};
    use super::super::{parsed, usages};
    use super::*;

    #[test]
    fn a_node_asks_as_itself_and_for_no_names() {
        let ask = |subject, names: &[&str], uses: &[&str]| {
            let request = request("s", "u", subject, names, uses);
            client(&parsed(&request).unwrap(), usages(&request))
        };
        let node = (NODE_GROUP, "system:node:a");
        assert_eq!(ask(node, &[], &CLIENT_USAGES), Ok(()));
        assert_eq!(ask(node, &[], &CLIENT_USAGES[..2]), Ok(()), "keys that are not RSA's");
        assert_eq!(ask(("dev", "system:node:a"), &[], &CLIENT_USAGES), Err(Refused::Organization));
        assert_eq!(ask((NODE_GROUP, "jane"), &[], &CLIENT_USAGES), Err(Refused::CommonName));
        assert_eq!(ask(node, &["a.b"], &CLIENT_USAGES), Err(Refused::Names("DNS")));
        assert_eq!(ask(node, &["10.0.0.1"], &CLIENT_USAGES), Err(Refused::Names("IP")));
        assert!(matches!(ask(node, &[], &["client auth"]), Err(Refused::Usages(_))));
    }

    #[test]
    fn a_nodes_api_has_a_name() {
        let ask = |subject, names: &[&str], uses: &[&str]| {
            let request = request("s", "u", subject, names, uses);
            serving(&parsed(&request).unwrap(), usages(&request))
        };
        let node = (NODE_GROUP, "system:node:a");
        assert_eq!(ask(node, &["10.0.0.1"], &SERVER_USAGES), Ok(()));
        assert_eq!(ask(node, &[], &SERVER_USAGES), Err(Refused::Nameless));
        assert_eq!(ask((NODE_GROUP, "x"), &["a"], &SERVER_USAGES), Err(Refused::CommonName));
        assert!(matches!(ask(node, &["a"], &CLIENT_USAGES), Err(Refused::Usages(_))));
    }
}
