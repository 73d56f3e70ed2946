//! Which of an image's platforms runs here.

use serde::{Deserialize, Serialize};

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// This machine.
    pub(super) fn host() -> Self {
        let machine = nix::sys::utsname::uname().ok();
        let machine = machine.and_then(|u| u.machine().to_str().map(str::to_owned)).unwrap_or_default();
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" if machine.starts_with("armv6") => ("arm", "v6"),
            "arm" if machine.starts_with("armv5") => ("arm", "v5"),
            "arm" => ("arm", "v7"),
            "riscv64" => ("riscv64", ""),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.to_owned() }
    }

    /// The same as everybody writes it: `x86_64` is `amd64`, `arm` alone is `arm/v7`.
    fn normal(&self) -> Self {
        let variant = match self.variant.as_str() {
            v if v.starts_with(|c: char| c.is_ascii_digit()) => format!("v{v}"),
            v => v.to_lowercase(),
        };
        let (architecture, variant) = match (self.architecture.to_lowercase().as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".to_owned(), String::new()),
            ("x86_64" | "x86-64", _) => ("amd64".to_owned(), variant),
            ("i386" | "i486" | "i586" | "i686", _) => ("386".to_owned(), String::new()),
            ("aarch64" | "arm64", "" | "v8.0") => ("arm64".to_owned(), "v8".to_owned()),
            ("aarch64", _) => ("arm64".to_owned(), variant),
            ("armhf", _) | ("arm", "") => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
            (other, _) => (other.to_owned(), variant),
        };
        Self { architecture, os: self.os.to_lowercase(), variant }
    }

    /// How well an image for `other` runs here: less is better, `None` is not at all. As containerd has
    /// it, a processor runs what is made for it, for its predecessors, and for its 32-bit mode.
    pub(super) fn fit(&self, other: &Self) -> Option<u32> {
        let (here, other) = (self.normal(), other.normal());
        if other.os != here.os {
            return None;
        }
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().ok();
        match (here.architecture.as_str(), other.architecture.as_str()) {
            ("arm" | "arm64", _) if here.architecture == other.architecture => {
                level(&here.variant)?.checked_sub(level(&other.variant)?)
            }
            ("arm64", "arm") => Some(100 + 8u32.checked_sub(level(&other.variant)?)?),
            ("amd64", "386") => Some(100),
            _ if here.architecture != other.architecture => None,
            ("amd64", _) if !other.variant.is_empty() => None,
            _ => Some(0),
        }
    }

    /// Whether an image whose configuration says `other` runs here. Configurations often leave the variant
    /// out, or have a wrong one; the index has told.
    pub(super) fn runs(&self, other: &Self) -> bool {
        let (here, other) = (self.normal(), other.normal());
        other.os == here.os && (other.architecture == here.architecture || here.fit(&other).is_some())
    }

    /// Whether it says something: attestations have `unknown/unknown`.
    pub(super) fn is_known(&self) -> bool {
        ![self.os.as_str(), self.architecture.as_str()].iter().any(|s| matches!(*s, "" | "unknown"))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[test]
    fn a_configuration_may_leave_its_variant_out() {
        for (host, config, fits) in [
            ("linux/arm/v6", "linux/arm", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/amd64", "linux/386", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
        ] {
            assert_eq!(platform(host).runs(&platform(config)), fits, "{host} {config}");
        }
    }
}
