//! Names and numbers derived from an installation's own.

use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

/// Name of the host's end of a sandbox's pair. Bridge and sandbox together are unique on a machine.
pub fn interface(bridge: &str, sandbox: &str) -> String {
    format!("veth{}", hex::encode(&digest(&[bridge, sandbox])[..5]))
}

/// The group the interfaces on a bridge belong to, by which they are removed at once. Never one of
/// the low numbers people use.
pub fn group(bridge: &str) -> u32 {
    let digest = digest(&["group", bridge]);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & 0x3fff_ffff | 0x4000_0000
}

/// The hardware address that belongs to an address: the same address is always at the same hardware
/// address, so that no neighbour remembers a wrong one when an address is used again.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// A hardware address as people write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

fn digest(parts: &[&str]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let name = interface("kedge0", "pod-1");
        assert!(name.len() < libc::IFNAMSIZ, "{name}");
        assert_eq!(name, interface("kedge0", "pod-1"));
        assert_ne!(name, interface("kedge0", "pod-2"));
        assert_ne!(name, interface("kedge1", "pod-1"));
        assert_ne!(interface("kedge0", "1"), interface("kedge", "01"));
    }

    #[test]
    fn hardware_addresses_are_local_and_follow_the_address() {
        assert_eq!(mac_text(mac(Ipv4Addr::new(10, 42, 0, 5))), "0a:58:0a:2a:00:05");
    }

    #[test]
    fn groups_are_out_of_the_way() {
        assert!(group("kedge0") >= 0x4000_0000);
        assert_ne!(group("kedge0"), group("kedge1"));
    }
}
