//! Sets of capabilities.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// Capabilities by number, as in `/proc/<pid>/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(pub u64);

/// Names in the order of their numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has that asks for nothing, as with containerd.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

impl Caps {
    /// The capabilities this process may have at most.
    pub fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let set = |key: &str| {
            let hex = status.lines().find_map(|l| l.strip_prefix(key))?;
            u64::from_str_radix(hex.trim(), 16).ok()
        };
        Self(set("CapPrm:").unwrap_or(0) & set("CapBnd:").unwrap_or(0))
    }

    /// Those in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those but one.
    pub fn without(self, name: &str) -> Self {
        Self(self.0 & !bits(&[name]))
    }

    /// Whether a capability is in it.
    pub fn has(self, name: &str) -> bool {
        number(name).is_some_and(|n| self.0 >> n & 1 == 1)
    }

    /// With what is needed to install a system call filter and to give the rest up afterwards.
    pub fn to_start(self, limit: Self) -> Self {
        Self(self.0 | bits(&["SYS_ADMIN", "SETPCAP"])).and(limit)
    }

    /// As an OCI specification has it; nothing is inheritable or ambient.
    pub fn to_oci(self) -> LinuxCapabilities {
        let names = NAMES.iter().filter(|n| self.has(n));
        let set: Capabilities = names.filter_map(|n| Capability::from_str(n).ok()).collect();
        let mut all = LinuxCapabilities::default();
        all.set_bounding(Some(set.clone())).set_effective(Some(set.clone())).set_permitted(Some(set));
        all.set_inheritable(Some(Capabilities::new())).set_ambient(Some(Capabilities::new()));
        all
    }
}

fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == name)
}

fn bits(names: &[&str]) -> u64 {
    names.iter().filter_map(|n| number(n)).fold(0, |all, n| all | 1 << n)
}

/// The default set with additions and removals; `ALL` stands for all. Removals of single ones win
/// over `ALL` added, and additions of single ones over `ALL` dropped. Names nobody knows count for nothing, as
/// with runc: a manifest may name capabilities of newer kernels.
pub fn wanted(add: &[String], drop: &[String]) -> Caps {
    let all = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("ALL"));
    let single = |list: &[String]| {
        list.iter().filter(|c| !c.eq_ignore_ascii_case("ALL")).fold(0u64, |bits, name| match number(name) {
            Some(n) => bits | 1 << n,
            None => {
                tracing::warn!("the capability {name:?} is not known and ignored");
                bits
            }
        })
    };
    let mut set = match (all(add), all(drop)) {
        (_, true) => 0,
        (true, false) => bits(&NAMES),
        (false, false) => bits(&DEFAULT),
    };
    set |= single(add);
    set &= !single(drop);
    Caps(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(caps: Caps) -> usize {
        caps.0.count_ones() as usize
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn additions_and_removals() {
        assert_eq!(names(wanted(&[], &[])), 14);
        let caps = wanted(&list(&["NET_ADMIN"]), &list(&["ALL"]));
        assert!(caps.has("NET_ADMIN") && names(caps) == 1);
        let caps = wanted(&list(&["ALL"]), &list(&["CAP_SYS_TIME"]));
        assert!(!caps.has("SYS_TIME") && names(caps) == 40);
        let caps = wanted(&[], &list(&["net_raw"]));
        assert!(!caps.has("CAP_NET_RAW") && names(caps) == 13);
        assert_eq!(wanted(&list(&["FLY"]), &list(&["SWIM"])), wanted(&[], &[]));
    }

    #[test]
    fn every_name_is_known_to_the_specification() {
        let oci = Caps(u64::MAX >> 23).to_oci();
        assert_eq!(oci.bounding().as_ref().unwrap().len(), NAMES.len());
    }

    #[test]
    fn starting_needs_more_but_never_what_we_lack() {
        let limit = Caps(bits(&["CHOWN", "SYS_ADMIN"]));
        assert_eq!(Caps(bits(&["CHOWN"])).to_start(limit), limit);
        assert_eq!(limit.without("SYS_ADMIN"), Caps(bits(&["CHOWN"])));
        assert_eq!(limit.without("MKNOD"), limit);
    }
}
