//! IPv4 networks in CIDR notation (RFC 4632).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network such as `10.42.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    base: Ipv4Addr,
    prefix: u8,
}

/// A text or pair that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 network; write it as an address and a prefix of 0 to 32, such as 10.42.0.0/24")]
pub struct CidrError(String);

impl Cidr {
    /// The network of `prefix` bits that contains `address`. Fails if `prefix` is over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, CidrError> {
        if prefix > 32 {
            return Err(CidrError(format!("{address}/{prefix}")));
        }
        let base = Ipv4Addr::from(u32::from(address) & mask(prefix));
        Ok(Self { base, prefix })
    }

    /// The network's first address.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network mask, such as `255.255.255.0`.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(mask(self.prefix))
    }

    /// Whether `address` belongs to this network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.base)
    }

    /// The `n`th address, counted from the base; `None` past the end.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        (u64::from(n) < self.size()).then(|| Ipv4Addr::from(u32::from(self.base) + n))
    }

    /// How many addresses it has, network and broadcast address included.
    pub fn size(&self) -> u64 {
        1 << (32 - self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        Self::new(address, prefix.parse().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_masks_and_counts() {
        let cidr: Cidr = "10.42.3.77/24".parse().expect("valid");
        assert_eq!(cidr.to_string(), "10.42.3.0/24");
        assert_eq!(cidr.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(cidr.size(), 256);
        assert_eq!(cidr.nth(255), Some(Ipv4Addr::new(10, 42, 3, 255)));
        assert_eq!(cidr.nth(256), None);
        assert!(cidr.contains(Ipv4Addr::new(10, 42, 3, 9)));
        assert!(!cidr.contains(Ipv4Addr::new(10, 42, 4, 0)));
    }

    #[test]
    fn the_extremes_are_networks_too() {
        let all: Cidr = "0.0.0.0/0".parse().expect("valid");
        assert!(all.contains(Ipv4Addr::BROADCAST));
        assert_eq!(all.size(), 1 << 32);
        let one: Cidr = "10.0.0.1/32".parse().expect("valid");
        assert_eq!((one.size(), one.nth(0), one.nth(1)), (1, Some(Ipv4Addr::new(10, 0, 0, 1)), None));
    }

    #[test]
    fn what_is_no_network_is_named_in_the_error() {
        for text in ["10.42.0.0", "10.42.0.0/33", "10.42.0/16", "fd00::/8", "/24", ""] {
            let error = text.parse::<Cidr>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
