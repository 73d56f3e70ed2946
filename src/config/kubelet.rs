//! `--kubelet-arg`: flags of upstream's kubelet, as far as kedge has what they are about.
//!
//! Names, formats and defaults are kubelet's
//! (<https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/>), except for the eviction
//! thresholds of disks, which are k3s's: small machines work with full disks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::image_verification::{ImageVerification, pattern};
use super::kubelet_flags;

/// The signals a threshold may be set for
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>).
pub const EVICTION_SIGNALS: [&str; 8] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

/// How a node treats its pods beyond what their objects say.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubelet {
    /// Namespaced kernel parameters pods may set beside the safe ones; a name may end in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// A container's log is rotated at this size, in bytes.
    pub container_log_max_size: u64,
    /// Log files of a container, the present one included.
    pub container_log_max_files: u32,
    /// When pods are evicted.
    pub eviction: Eviction,
    /// Percentage of the disk in use above which unused images are removed.
    pub image_gc_high_threshold: u8,
    /// Percentage of the disk in use at which that ends.
    pub image_gc_low_threshold: u8,
    /// An unused image is kept at least this long.
    pub minimum_image_ttl: Duration,
    /// An image that was not used for so long is removed; `None` keeps it.
    pub maximum_image_ttl: Option<Duration>,
    /// Directory of static pods.
    pub pod_manifest_path: PathBuf,
    /// Resources kept for the system: name → quantity.
    pub system_reserved: BTreeMap<String, String>,
    /// Resources kept for kedge itself: name → quantity.
    pub kube_reserved: BTreeMap<String, String>,
    /// Processes a pod may have; `None` is no limit.
    pub pod_pids_limit: Option<i64>,
    /// Pull one image at a time.
    pub serialize_image_pulls: bool,
    /// Pull at most so many images at a time; `None` is no limit.
    pub max_parallel_image_pulls: Option<u32>,
    /// Containers that name no seccomp profile get `RuntimeDefault`.
    pub seccomp_default: bool,
    /// Which images pods may use without having shown a pull secret.
    pub image_verification: ImageVerification,
    /// Images that the node's status tells of; `None` is all.
    pub node_status_max_images: Option<usize>,
    /// Exec, attach and port-forward streams on which nothing moves for so long are closed; `None`: never.
    pub streaming_connection_idle_timeout: Option<Duration>,
}

/// Thresholds of node-pressure eviction by signal, one of [`EVICTION_SIGNALS`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eviction {
    /// Below these pods are killed at once.
    pub hard: BTreeMap<String, Threshold>,
    /// Below these, for the grace period, pods are ended.
    pub soft: BTreeMap<String, Threshold>,
    /// The grace periods of `soft`: every signal there has one.
    pub soft_grace_period: BTreeMap<String, Duration>,
    /// What is reclaimed beyond the threshold once it was met.
    pub minimum_reclaim: BTreeMap<String, Threshold>,
    /// A pressure condition is kept for so long after the signal recovered.
    pub pressure_transition_period: Duration,
    /// Longest grace period of a pod that ends for a soft threshold; with 0 it is killed at once.
    pub max_pod_grace_period: Duration,
}

/// An amount of what a signal measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Bytes, inodes or processes.
    Quantity(u64),
    /// A part of the capacity, from 0 to 100.
    Percentage(f64),
}

impl Kubelet {
    /// kubelet's defaults on a machine with `memory` bytes.
    pub fn new(pod_manifest_path: PathBuf, memory: u64) -> Self {
        // 100 MiB are a fifth of a small machine: no more than a twentieth is kept free there.
        let memory = Threshold::Quantity((100 << 20).min(memory / 20));
        let named = |list: &[(&str, Threshold)]| list.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect();
        let five = Threshold::Percentage(5.0);
        let ten = Threshold::Percentage(10.0);
        Self {
            allowed_unsafe_sysctls: Vec::new(),
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            eviction: Eviction {
                hard: named(&[
                    ("memory.available", memory),
                    ("nodefs.available", five),
                    ("nodefs.inodesFree", five),
                    ("imagefs.available", five),
                    ("imagefs.inodesFree", five),
                ]),
                minimum_reclaim: named(&[("nodefs.available", ten), ("imagefs.available", ten)]),
                pressure_transition_period: Duration::from_secs(300),
                ..Eviction::default()
            },
            image_gc_high_threshold: 85,
            image_gc_low_threshold: 80,
            minimum_image_ttl: Duration::from_secs(120),
            maximum_image_ttl: None,
            pod_manifest_path,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            pod_pids_limit: None,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            seccomp_default: false,
            image_verification: ImageVerification::NeverVerifyPreloadedImages,
            node_status_max_images: Some(50),
            streaming_connection_idle_timeout: Some(Duration::from_secs(4 * 3600)),
        }
    }

    /// Sets one flag, without its dashes.
    ///
    /// # Errors
    /// What is wrong with name or value, and what would be right.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name} is {expected}, not {value:?}");
        let eviction = &mut self.eviction;
        match name {
            "allowed-unsafe-sysctls" => {
                self.allowed_unsafe_sysctls = entries(value).map(Into::into).collect()
            }
            "container-log-max-size" => {
                self.container_log_max_size = bytes(value).ok_or_else(|| wrong("a size such as 10Mi"))?;
            }
            "container-log-max-files" => {
                let files = value.parse().ok().filter(|n| *n >= 2);
                self.container_log_max_files = files.ok_or_else(|| wrong("a number from 2"))?;
            }
            "eviction-hard" => eviction.hard = thresholds(name, value, "<")?,
            "eviction-soft" => eviction.soft = thresholds(name, value, "<")?,
            "eviction-minimum-reclaim" => eviction.minimum_reclaim = thresholds(name, value, "=")?,
            "eviction-soft-grace-period" => eviction.soft_grace_period = periods(name, value)?,
            "eviction-pressure-transition-period" => {
                eviction.pressure_transition_period = duration(value).ok_or_else(|| wrong(A_DURATION))?;
            }
            "eviction-max-pod-grace-period" => {
                let seconds = value.parse().map_err(|_| wrong("a number of seconds"))?;
                eviction.max_pod_grace_period = Duration::from_secs(seconds);
            }
            "image-gc-high-threshold" => {
                self.image_gc_high_threshold = percent(value).ok_or_else(|| wrong(A_PERCENTAGE))?
            }
            "image-gc-low-threshold" => {
                self.image_gc_low_threshold = percent(value).ok_or_else(|| wrong(A_PERCENTAGE))?
            }
            "minimum-image-ttl-duration" => {
                self.minimum_image_ttl = duration(value).ok_or_else(|| wrong(A_DURATION))?;
            }
            "image-maximum-gc-age" | "maximum-image-ttl-duration" => {
                let age = duration(value).ok_or_else(|| wrong(A_DURATION))?;
                self.maximum_image_ttl = Some(age).filter(|a| !a.is_zero());
            }
            "pod-manifest-path" => {
                self.pod_manifest_path = std::path::absolute(value).map_err(|e| format!("{name}: {e}"))?;
            }
            "system-reserved" => self.system_reserved = reserved(name, value)?,
            "kube-reserved" => self.kube_reserved = reserved(name, value)?,
            "pod-max-pids" => {
                let limit: i64 = value.parse().map_err(|_| wrong("a number; -1 is no limit"))?;
                self.pod_pids_limit = Some(limit).filter(|l| *l > 0);
            }
            "serialize-image-pulls" => {
                self.serialize_image_pulls = boolean(value).ok_or_else(|| wrong(A_BOOLEAN))?
            }
            "max-parallel-image-pulls" => {
                let pulls: u32 = value.parse().map_err(|_| wrong("a number; 0 is no limit"))?;
                self.max_parallel_image_pulls = Some(pulls).filter(|p| *p > 0);
                self.serialize_image_pulls = pulls == 1;
            }
            "streaming-connection-idle-timeout" => {
                let timeout = duration(value).ok_or_else(|| wrong(A_DURATION))?;
                self.streaming_connection_idle_timeout = Some(timeout).filter(|t| !t.is_zero());
            }
            "seccomp-default" => self.seccomp_default = boolean(value).ok_or_else(|| wrong(A_BOOLEAN))?,
            "image-pull-credentials-verification-policy" => {
                let policy = ImageVerification::parse(value).ok_or_else(|| {
                    wrong("NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages or AlwaysVerify")
                })?;
                self.image_verification = policy;
            }
            "preloaded-images-verification-allowlist" => self.allow(name, value)?,
            "node-status-max-images" => {
                let images: i64 = value
                    .parse()
                    .ok()
                    .filter(|n| *n >= -1)
                    .ok_or_else(|| wrong("a number; -1 is no limit"))?;
                self.node_status_max_images = usize::try_from(images).ok();
            }
            _ => {
                return Err(format!("{name:?} is not known; known are {}", kubelet_flags::names()));
            }
        }
        Ok(())
    }

    fn allow(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let ImageVerification::NeverVerifyAllowlistedImages(list) = &mut self.image_verification else {
            return Err(format!(
                "{flag} needs image-pull-credentials-verification-policy=NeverVerifyAllowlistedImages before it"
            ));
        };
        let patterns: Result<Vec<_>, _> = entries(value).map(pattern).collect();
        list.extend(patterns.map_err(|e| format!("{flag}: {e}"))?);
        Ok(())
    }

    /// Whether the flags go together.
    ///
    /// # Errors
    /// Which do not, and what to change.
    pub fn check(&self) -> Result<(), String> {
        if self.image_gc_low_threshold >= self.image_gc_high_threshold {
            return Err(format!(
                "image-gc-low-threshold {} must be less than image-gc-high-threshold {}",
                self.image_gc_low_threshold, self.image_gc_high_threshold
            ));
        }
        let eviction = &self.eviction;
        match eviction.soft.keys().find(|signal| !eviction.soft_grace_period.contains_key(*signal)) {
            Some(signal) => Err(format!(
                "eviction-soft of {signal} needs a grace period: add eviction-soft-grace-period={signal}=1m"
            )),
            None => Ok(()),
        }
    }
}

const A_DURATION: &str = "a duration such as 5m or 1h30m";
const A_PERCENTAGE: &str = "a percentage from 0 to 100";
const A_BOOLEAN: &str = "true or false";

fn entries(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|e| !e.is_empty())
}

fn boolean(value: &str) -> Option<bool> {
    value.parse().ok()
}

fn percent(value: &str) -> Option<u8> {
    value.parse().ok().filter(|p| *p <= 100)
}

/// A Go duration; kubelet takes no negative ones here.
fn duration(value: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = value.parse().ok()?;
    Duration::try_from(signed).ok()
}

/// Bytes with one of Kubernetes' suffixes.
fn bytes(value: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    let (number, factor) = SUFFIXES.iter().find_map(|(s, f)| Some((value.strip_suffix(s)?, *f)))?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn signal<'a>(flag: &str, name: &'a str) -> Result<&'a str, String> {
    if EVICTION_SIGNALS.contains(&name) {
        return Ok(name);
    }
    Err(format!("{flag}: unknown signal {name:?}; the signals are {}", EVICTION_SIGNALS.join(", ")))
}

fn thresholds(flag: &str, value: &str, operator: &str) -> Result<BTreeMap<String, Threshold>, String> {
    let one = |entry: &str| {
        let (name, amount) = entry.split_once(operator).ok_or_else(|| {
            format!("{flag}: expected SIGNAL{operator}AMOUNT, such as memory.available{operator}100Mi, not {entry:?}")
        })?;
        let amount = match amount.strip_suffix('%') {
            Some(part) => {
                let part: Option<f64> = part.parse().ok().filter(|p| (0.0..=100.0).contains(p));
                part.map(Threshold::Percentage)
            }
            None => bytes(amount).map(Threshold::Quantity),
        };
        let amount = amount.ok_or_else(|| {
            format!("{flag}: {entry:?} has no amount such as 100Mi or 5% after {operator:?}")
        })?;
        Ok((signal(flag, name)?.to_owned(), amount))
    };
    entries(value).map(one).collect()
}

fn periods(flag: &str, value: &str) -> Result<BTreeMap<String, Duration>, String> {
    let one = |entry: &str| {
        let parsed = entry.split_once('=').and_then(|(name, period)| Some((name, duration(period)?)));
        let (name, period) =
            parsed.ok_or_else(|| format!("{flag}: expected SIGNAL=DURATION, not {entry:?}"))?;
        Ok((signal(flag, name)?.to_owned(), period))
    };
    entries(value).map(one).collect()
}

fn reserved(flag: &str, value: &str) -> Result<BTreeMap<String, String>, String> {
    const RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
    let one = |entry: &str| match entry.split_once('=') {
        Some((name, amount)) if RESOURCES.contains(&name) => {
            // Thousandths are for processors only; the rest of the format is that of sizes.
            let valid = amount.strip_suffix('m').filter(|_| name == "cpu").map_or_else(
                || {
                    bytes(amount).is_some()
                        || (name == "cpu" && amount.parse::<f64>().is_ok_and(|c| c >= 0.0))
                },
                |milli| milli.parse::<u64>().is_ok(),
            );
            if valid {
                Ok((name.to_owned(), amount.to_owned()))
            } else {
                Err(format!("{flag}: {amount:?} is no quantity of {name}"))
            }
        }
        _ => Err(format!(
            "{flag}: expected RESOURCE=QUANTITY with one of {}, not {entry:?}",
            RESOURCES.join(", ")
        )),
    };
    entries(value).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubelet() -> Kubelet {
        Kubelet::new("/data/agent/pod-manifests".into(), 8 << 30)
    }

    #[test]
    fn small_machines_keep_less_memory_free() {
        let free = |memory| Kubelet::new(PathBuf::new(), memory).eviction.hard["memory.available"];
        assert_eq!(free(8 << 30), Threshold::Quantity(100 << 20));
        assert_eq!(free(512 << 20), Threshold::Quantity((512 << 20) / 20));
    }

    #[test]
    fn flags_are_parsed_as_kubelet_does() {
        let mut kubelet = kubelet();
        for (name, value) in [
            ("eviction-hard", "memory.available<1Gi,nodefs.available<7.5%"),
            ("eviction-soft", "memory.available<2G"),
            ("eviction-soft-grace-period", "memory.available=1m30s"),
            ("eviction-minimum-reclaim", "memory.available=0"),
            ("container-log-max-size", "5Ki"),
            ("pod-max-pids", "-1"),
            ("system-reserved", "cpu=500m,memory=1Gi"),
            ("image-maximum-gc-age", "12h"),
            ("max-parallel-image-pulls", "3"),
            ("image-pull-credentials-verification-policy", "NeverVerifyAllowlistedImages"),
            ("preloaded-images-verification-allowlist", "r.example/a,ghcr.io/*"),
            ("node-status-max-images", "-1"),
            ("streaming-connection-idle-timeout", "5m"),
        ] {
            kubelet.set(name, value).expect(name);
        }
        assert_eq!(kubelet.check(), Ok(()));
        let eviction = &kubelet.eviction;
        assert_eq!(eviction.hard.len(), 2, "given thresholds replace all defaults");
        assert_eq!(eviction.hard["memory.available"], Threshold::Quantity(1 << 30));
        assert_eq!(eviction.hard["nodefs.available"], Threshold::Percentage(7.5));
        assert_eq!(eviction.soft["memory.available"], Threshold::Quantity(2_000_000_000));
        assert_eq!(eviction.soft_grace_period["memory.available"], Duration::from_secs(90));
        assert_eq!(kubelet.container_log_max_size, 5 << 10);
        assert_eq!(kubelet.pod_pids_limit, None);
        assert_eq!(kubelet.system_reserved["cpu"], "500m");
        assert_eq!(kubelet.maximum_image_ttl, Some(Duration::from_secs(12 * 3600)));
        assert!(!kubelet.serialize_image_pulls);
        assert!(!kubelet.image_verification.is_required("ghcr.io/a", true));
        assert_eq!(kubelet.node_status_max_images, None);
        assert_eq!(kubelet.streaming_connection_idle_timeout, Some(Duration::from_secs(300)));
        kubelet.set("streaming-connection-idle-timeout", "0s").expect("never");
        assert_eq!(kubelet.streaming_connection_idle_timeout, None);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (name, value, expected) in [
            ("eviction-hard", "memory.free<1Gi", "unknown signal"),
            ("eviction-hard", "memory.available=1Gi", "expected SIGNAL<AMOUNT"),
            ("eviction-hard", "memory.available<101%", "has no amount"),
            ("eviction-soft-grace-period", "memory.available=soon", "expected SIGNAL=DURATION"),
            ("container-log-max-files", "1", "a number from 2"),
            ("image-gc-high-threshold", "101", "a percentage"),
            ("system-reserved", "gpu=1", "expected RESOURCE=QUANTITY"),
            ("kube-reserved", "memory=100m", "no quantity of memory"),
            ("cgroup-driver", "systemd", "is not known"),
            ("image-pull-credentials-verification-policy", "Sometimes", "NeverVerify, "),
            ("preloaded-images-verification-allowlist", "a", "needs image-pull-credentials"),
            ("node-status-max-images", "-2", "-1 is no limit"),
        ] {
            let error = kubelet().set(name, value).expect_err(value);
            assert!(error.contains(expected), "{name}={value}: {error}");
        }
        let mut low = kubelet();
        low.set("image-gc-low-threshold", "90").expect("a percentage");
        assert!(low.check().expect_err("90 and 85").contains("less than"));
        let mut soft = kubelet();
        soft.set("eviction-soft", "pid.available<10").expect("a threshold");
        assert!(
            soft.check().expect_err("no grace period").contains("eviction-soft-grace-period=pid.available")
        );
    }
}
