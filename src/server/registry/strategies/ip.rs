//! Addresses and networks in fields: `apimachinery/pkg/util/validation/ip.go`.
//!
//! Two rules: fields that are older than the strict rule (most of the core kinds) take every notation that
//! all software reads alike, new fields only the canonical one of RFC 5952.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::check::{Errors, text};
use crate::api::field::quote;
use crate::api::{FieldError, Path};

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_NETWORK: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A network: its address, which may have bits beyond the prefix, and the prefix' length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads a network leniently: numbers may have leading zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address = lenient(address)?;
        let prefix = prefix.parse::<u8>().ok().filter(|_| prefix.bytes().all(|b| b.is_ascii_digit()))?;
        (prefix <= width(address)).then_some(Self { address, prefix })
    }

    /// All addresses of IPv4, or of IPv6.
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        let shift = u32::from(width(self.address) - self.prefix);
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        }
    }

    /// The address is of this network.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && Self { address, prefix: self.prefix }.first() == self.first()
    }

    /// The other network is a part of this one, and smaller.
    pub fn holds(self, other: Self) -> bool {
        self.contains(other.first()) && self.prefix < other.prefix
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address whose numbers may have leading zeros, as Go once read them.
fn lenient(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let short = |part: &&str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let joined = parts.iter().map(short).collect::<Vec<_>>().join(".");
    joined.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address as Go writes it.
fn canonical(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    }
}

/// What is wrong with an address.
fn address_errors(value: &str, strict: bool) -> Vec<String> {
    let Some(address) = lenient(value) else { return vec![NO_ADDRESS.to_owned()] };
    let mut errors = Vec::new();
    if value.parse::<IpAddr>().is_err() {
        errors.push("must not have leading 0s".to_owned());
    }
    if is_mapped(address) {
        errors.push("must not be an IPv4-mapped IPv6 address".to_owned());
    }
    if strict && errors.is_empty() && canonical(address) != value {
        errors.push(format!("must be in canonical form ({})", quote(&canonical(address))));
    }
    errors
}

/// What is wrong with a name that is an address in canonical form.
pub fn address_name(value: &str) -> Vec<String> {
    address_errors(value, true)
}

/// What is wrong with a network.
fn network_errors(value: &str, strict: bool) -> Vec<String> {
    let Some(network) = Network::parse(value) else { return vec![NO_NETWORK.to_owned()] };
    let (address, prefix) = value.split_once('/').unwrap_or_default();
    let mut errors = Vec::new();
    if address.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0')) {
        errors.push("must not have leading 0s in IP or prefix length".to_owned());
    } else if is_mapped(network.address) {
        errors.push("must not have an IPv4-mapped IPv6 address".to_owned());
    } else if network.first() != network.address {
        errors.push("must not have bits set beyond the prefix length".to_owned());
    }
    let form = format!("{}/{}", canonical(network.address), network.prefix);
    if strict && errors.is_empty() && form != value {
        errors.push(format!("must be in canonical form ({})", quote(&form)));
    }
    errors
}

impl Errors {
    /// An address in any notation that is unambiguous, or one of those that were there before.
    pub fn address(&mut self, path: &Path, value: &Value, before: &[Value]) -> bool {
        let wrong = if before.contains(value) { Vec::new() } else { address_errors(text(value), false) };
        let right = wrong.is_empty();
        self.invalid_all(path, value, wrong);
        right
    }

    /// A network in any notation that is unambiguous, or one of those that were there before.
    pub fn network(&mut self, path: &Path, value: &Value, before: &[Value]) {
        if !before.contains(value) {
            self.invalid_all(path, value, network_errors(text(value), false));
        }
    }

    /// A network in canonical form.
    pub fn canonical_network(&mut self, path: &Path, value: &Value) {
        self.invalid_all(path, value, network_errors(text(value), true));
    }

    /// An address of a back end: `ValidateEndpointIP`.
    pub fn endpoint_address(&mut self, path: &Path, value: &Value) {
        let Some(address) = lenient(text(value)) else {
            self.push(FieldError::invalid(path, value.clone(), "must be a valid IP address"));
            return;
        };
        let (link_local, multicast) = match address {
            IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
        };
        let unspecified = format!("may not be unspecified ({})", text(value));
        let reasons = [
            (address.is_unspecified(), unspecified.as_str()),
            (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ];
        let wrong = reasons.into_iter().filter(|(is, _)| *is).map(|(_, why)| why.to_owned());
        self.invalid_all(path, value, wrong);
    }
}

/// What clients are warned of: an IPv6 address that is not in canonical form.
pub fn address_warning(path: &Path, value: &str) -> Option<String> {
    let address = value.parse::<IpAddr>().ok().filter(|a| a.is_ipv6() && canonical(*a) != value)?;
    let (given, right) = (quote(value), quote(&canonical(address)));
    Some(format!("{path}: IPv6 address {given} should be in RFC 5952 canonical format ({right})"))
}

/// What clients are warned of: an IPv6 network that is not in canonical form.
pub fn network_warning(path: &Path, value: &str) -> Option<String> {
    let network = Network::parse(value).filter(|n| !n.is_ipv4())?;
    let form = format!("{}/{}", network.address, network.prefix);
    let (given, right) = (quote(value), quote(&form));
    (form != value)
        .then(|| format!("{path}: IPv6 CIDR value {given} should be in RFC 5952 canonical format ({right})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_alike_by_all() {
        for (value, lax, strict) in [
            ("10.0.0.1", "", ""),
            ("2001:db8::1", "", ""),
            ("2001:DB8::1", "", "must be in canonical form (\"2001:db8::1\")"),
            ("010.0.0.1", "must not have leading 0s", "must not have leading 0s"),
            (
                "::ffff:1.2.3.4",
                "must not be an IPv4-mapped IPv6 address",
                "must not be an IPv4-mapped IPv6 address",
            ),
            ("1.2.3", NO_ADDRESS, NO_ADDRESS),
            ("", NO_ADDRESS, NO_ADDRESS),
        ] {
            assert_eq!(address_errors(value, false).join(";"), lax, "{value}");
            assert_eq!(address_errors(value, true).join(";"), strict, "{value}");
        }
    }

    #[test]
    fn networks_have_no_bits_beyond_the_prefix() {
        for (value, lax, strict) in [
            ("10.0.0.0/8", "", ""),
            ("0.0.0.0/0", "", ""),
            ("2001:DB8::/32", "", "must be in canonical form (\"2001:db8::/32\")"),
            (
                "10.0.0.1/8",
                "must not have bits set beyond the prefix length",
                "must not have bits set beyond the prefix length",
            ),
            (
                "10.0.0.0/08",
                "must not have leading 0s in IP or prefix length",
                "must not have leading 0s in IP or prefix length",
            ),
            ("10.0.0.0/33", NO_NETWORK, NO_NETWORK),
            ("10.0.0.0", NO_NETWORK, NO_NETWORK),
            ("10.0.0.0/+8", NO_NETWORK, NO_NETWORK),
        ] {
            assert_eq!(network_errors(value, false).join(";"), lax, "{value}");
            assert_eq!(network_errors(value, true).join(";"), strict, "{value}");
        }
        let network = |text: &str| Network::parse(text).unwrap();
        assert!(network("10.0.0.0/8").holds(network("10.1.0.0/16")));
        assert!(!network("10.0.0.0/8").holds(network("10.0.0.0/8")));
        assert!(!network("10.0.0.0/8").holds(network("11.0.0.0/16")));
        assert!(!network("::/0").holds(network("10.0.0.0/8")));
        assert!(network("::/0").contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn notations_that_are_not_canonical_are_warned_of() {
        let path = Path::new("spec").child("x");
        assert_eq!(
            address_warning(&path, "2001:0db8::1").unwrap(),
            "spec.x: IPv6 address \"2001:0db8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"
        );
        assert_eq!(address_warning(&path, "10.0.0.1"), None);
        assert_eq!(network_warning(&path, "2001:db8::/32"), None);
        assert!(network_warning(&path, "2001:0db8::/32").is_some());
    }
}
