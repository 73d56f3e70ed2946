//! Addresses of pods: one file a reservation, so that they survive the process.
//!
//! A reservation is made by linking a complete file under the address's name, which fails if the
//! name is taken: two pods never have one address, whenever the process is killed. Nothing is
//! synced to disk, since pods do not survive a reboot either.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::{Attachment, HostPort};
use crate::network::{Cidr, Error, Result};

/// Name of the file that keeps the address given out last.
const LAST: &str = "last";
/// Addresses of a network no pod gets: its own, the gateway, and the broadcast address.
const FIRST_POD: u32 = 2;
const SMALLEST_PREFIX: u8 = 29;

/// The reservations of one node.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    cidr: Cidr,
    by_address: BTreeMap<Ipv4Addr, Attachment>,
    by_sandbox: HashMap<String, Ipv4Addr>,
    last: Ipv4Addr,
}

impl Ipam {
    /// Reads the reservations below `state_dir`. Files that are no reservations, as a power cut may
    /// leave them, are removed.
    pub fn open(state_dir: &Path, cidr: Cidr) -> Result<Self> {
        if cidr.prefix() > SMALLEST_PREFIX {
            return Err(Error::Config {
                what: "pod CIDR",
                value: cidr.to_string(),
                problem: format!("is too small for pods: use a prefix of at most {SMALLEST_PREFIX}"),
            });
        }
        let dir = state_dir.join("addresses");
        fs::create_dir_all(&dir).map_err(file_error(&dir))?;
        let mut ipam =
            Self { last: cidr.base(), dir, cidr, by_address: BTreeMap::new(), by_sandbox: HashMap::new() };
        ipam.load()?;
        Ok(ipam)
    }

    fn load(&mut self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(file_error(&self.dir))? {
            let path = entry.map_err(file_error(&self.dir))?.path();
            let text = fs::read(&path).map_err(file_error(&path))?;
            if path.file_name().is_some_and(|n| n == LAST) {
                let last = std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse().ok());
                self.last = last.unwrap_or(self.last);
                continue;
            }
            match read_reservation(&path, &text) {
                Some(attachment) => self.insert(attachment),
                None => {
                    tracing::warn!(path = %path.display(), "removing a file that is no address reservation");
                    fs::remove_file(&path).map_err(file_error(&path))?;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, attachment: Attachment) {
        self.by_sandbox.insert(attachment.sandbox.clone(), attachment.address);
        self.by_address.insert(attachment.address, attachment);
    }

    /// Reserves an address for a sandbox, the one after the last given out; those freed come last.
    /// `complete` makes the attachment for an address. A sandbox that has one keeps it.
    pub fn reserve(
        &mut self,
        sandbox: &str,
        host_ports: &[HostPort],
        complete: impl Fn(Ipv4Addr) -> Attachment,
    ) -> Result<Attachment> {
        if let Some(have) = self.get(sandbox) {
            return Ok(have.clone());
        }
        self.check_host_ports(host_ports)?;
        let size = u32::try_from(self.cidr.size()).unwrap_or(u32::MAX);
        let base = u32::from(self.cidr.base());
        let after = u32::from(self.last).wrapping_sub(base);
        let usable = size - FIRST_POD - 1;
        let start = if (FIRST_POD..size - 1).contains(&after) { after - FIRST_POD + 1 } else { 0 };
        for step in 0..usable {
            let address = Ipv4Addr::from(base + FIRST_POD + (start + step) % usable);
            if self.by_address.contains_key(&address) {
                continue;
            }
            let attachment = complete(address);
            if self.write(&attachment)? {
                self.last = address;
                self.insert(attachment.clone());
                return Ok(attachment);
            }
        }
        Err(Error::AddressesExhausted(self.cidr))
    }

    /// Writes the file of a reservation; false if another process has the address.
    fn write(&self, attachment: &Attachment) -> Result<bool> {
        let path = self.path(attachment.address);
        let new = self.dir.join(format!(".new-{}", std::process::id()));
        let text = serde_json::to_vec(attachment).map_err(|e| file_error(&path)(e.into()))?;
        write_new(&new, &text)?;
        let linked = fs::hard_link(&new, &path);
        match linked {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            other => other.map_err(file_error(&path))?,
        }
        let last = self.dir.join(LAST);
        write_new(&new, attachment.address.to_string().as_bytes())?;
        fs::rename(&new, &last).map_err(file_error(&last))?;
        Ok(true)
    }

    /// Frees what a sandbox has.
    pub fn release(&mut self, sandbox: &str) -> Result<()> {
        let Some(address) = self.by_sandbox.get(sandbox).copied() else {
            return Ok(());
        };
        let path = self.path(address);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file_error(&path)(e)),
            _ => {}
        }
        self.by_sandbox.remove(sandbox);
        self.by_address.remove(&address);
        Ok(())
    }

    /// What a sandbox has.
    pub fn get(&self, sandbox: &str) -> Option<&Attachment> {
        self.by_address.get(self.by_sandbox.get(sandbox)?)
    }

    /// All reservations by address.
    pub fn all(&self) -> impl Iterator<Item = &Attachment> {
        self.by_address.values()
    }

    fn check_host_ports(&self, wanted: &[HostPort]) -> Result<()> {
        for port in wanted {
            let owner = self.all().find(|a| a.host_ports.iter().any(|have| conflict(have, port)));
            if let Some(owner) = owner {
                return Err(Error::HostPortTaken {
                    host_ip: port.host_ip,
                    port: port.host_port,
                    protocol: port.protocol,
                    owner: owner.sandbox.clone(),
                });
            }
        }
        Ok(())
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.dir.join(address.to_string())
    }
}

/// Two host ports cannot both be had: the same port at the same, or at every, address.
fn conflict(a: &HostPort, b: &HostPort) -> bool {
    a.protocol == b.protocol
        && a.host_port == b.host_port
        && (a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified())
}

fn read_reservation(path: &Path, text: &[u8]) -> Option<Attachment> {
    let address: Ipv4Addr = path.file_name()?.to_str()?.parse().ok()?;
    let attachment: Attachment = serde_json::from_slice(text).ok()?;
    (attachment.address == address).then_some(attachment)
}

/// Writes a file that was not there: one that was may be the reservation it was linked to.
fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file_error(path)(e)),
        _ => {}
    }
    fs::write(path, bytes).map_err(file_error(path))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error + use<'_> {
    move |source| Error::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::table::Protocol;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::net::IpAddr;

    fn attachment(sandbox: &str, host_ports: &[HostPort], address: Ipv4Addr) -> Attachment {
        Attachment {
            sandbox: sandbox.to_owned(),
            address,
            gateway: Ipv4Addr::new(10, 1, 0, 1),
            mac: String::new(),
            interface: format!("veth{sandbox}"),
            host_ports: host_ports.to_vec(),
            netns: std::path::PathBuf::new(),
        }
    }

    fn reserve(ipam: &mut Ipam, sandbox: &str) -> Result<Ipv4Addr> {
        ipam.reserve(sandbox, &[], |a| attachment(sandbox, &[], a)).map(|a| a.address)
    }

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("valid")
    }

    #[test]
    fn freed_addresses_are_used_last() {
        let dir = tempfile::tempdir().expect("directory");
        let mut ipam = Ipam::open(dir.path(), cidr("10.1.0.0/29")).expect("opens");
        let first = reserve(&mut ipam, "a").expect("free");
        assert_eq!(first, Ipv4Addr::new(10, 1, 0, 2), "after network and gateway");
        ipam.release("a").expect("released");
        let given: Vec<_> = ["b", "c", "d", "e"].map(|s| reserve(&mut ipam, s).expect("free")).into();
        assert!(!given.contains(&first), "{given:?}");
        assert_eq!(reserve(&mut ipam, "f").expect("free"), first);
        let full = reserve(&mut ipam, "g").expect_err("all taken");
        assert!(full.to_string().contains("10.1.0.0/29"), "{full}");
    }

    #[test]
    fn the_place_in_the_round_survives_a_restart() {
        let dir = tempfile::tempdir().expect("directory");
        let mut ipam = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        reserve(&mut ipam, "a").expect("free");
        reserve(&mut ipam, "b").expect("free");
        ipam.release("b").expect("released");
        let mut again = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        assert_eq!(reserve(&mut again, "c").expect("free"), Ipv4Addr::new(10, 1, 0, 4));
        assert_eq!(reserve(&mut again, "a").expect("kept"), Ipv4Addr::new(10, 1, 0, 2));
    }

    #[test]
    fn torn_files_are_removed_and_their_addresses_free() {
        let dir = tempfile::tempdir().expect("directory");
        drop(Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens"));
        let torn = dir.path().join("addresses/10.1.0.2");
        fs::write(&torn, "{\"sandb").expect("written");
        let mut ipam = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        assert!(!torn.exists());
        assert_eq!(reserve(&mut ipam, "a").expect("free"), Ipv4Addr::new(10, 1, 0, 2));
    }

    #[test]
    fn an_address_another_process_took_is_passed_over() {
        let dir = tempfile::tempdir().expect("directory");
        let mut one = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        let mut two = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        assert_ne!(reserve(&mut one, "a").expect("free"), reserve(&mut two, "b").expect("free"));
    }

    #[test]
    fn a_host_port_belongs_to_one_sandbox() {
        let dir = tempfile::tempdir().expect("directory");
        let mut ipam = Ipam::open(dir.path(), cidr("10.1.0.0/24")).expect("opens");
        let port = |ip: &str| HostPort {
            protocol: Protocol::Tcp,
            host_ip: ip.parse::<IpAddr>().expect("valid"),
            host_port: 80,
            container_port: 8080,
        };
        let mut take =
            |sandbox: &str, p: HostPort| ipam.reserve(sandbox, &[p], |a| attachment(sandbox, &[p], a));
        take("a", port("192.0.2.1")).expect("free");
        take("b", port("192.0.2.2")).expect("another address");
        let taken = take("c", port("0.0.0.0")).expect_err("taken");
        assert_eq!(taken.to_string(), "host port 0.0.0.0:80/TCP is already taken by sandbox a");
        take("d", HostPort { protocol: Protocol::Udp, ..port("0.0.0.0") }).expect("another protocol");
    }

    #[test]
    fn a_network_without_room_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let error = Ipam::open(dir.path(), cidr("10.1.0.0/30")).expect_err("too small");
        assert!(error.to_string().contains("pod CIDR \"10.1.0.0/30\""), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn no_address_is_ever_held_twice(steps in prop::collection::vec((0u8..12, 0u8..4), 1..60)) {
            let dir = tempfile::tempdir().expect("directory");
            let network = cidr("10.1.0.0/28");
            let mut ipam = Ipam::open(dir.path(), network).expect("opens");
            let mut model: HashMap<String, Ipv4Addr> = HashMap::new();
            for (who, what) in steps {
                let sandbox = format!("s{who}");
                match what {
                    0 => {
                        ipam.release(&sandbox).expect("released");
                        model.remove(&sandbox);
                    }
                    1 => ipam = Ipam::open(dir.path(), network).expect("opens"),
                    _ => {
                        let address = reserve(&mut ipam, &sandbox).expect("13 addresses for 12");
                        let before = model.insert(sandbox, address);
                        prop_assert!(before.is_none_or(|b| b == address), "kept");
                    }
                }
                let held: HashSet<_> = model.values().collect();
                prop_assert_eq!(held.len(), model.len());
                prop_assert_eq!(ipam.all().count(), model.len());
            }
        }
    }
}
