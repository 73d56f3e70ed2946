//! The policy that a namespace's labels ask for: `pod-security-admission/api`.

use std::fmt;

use serde_json::Value;

use crate::api::{FieldError, Meta, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is allowed.
    Privileged,
    /// Known ways to more rights are closed.
    Baseline,
    /// Hardened as is good practice.
    Restricted,
}

/// Of which Kubernetes release a policy is: the minor version, or the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.<minor>`
    Minor(u32),
    /// `latest`
    Latest,
}

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// How strict.
    pub level: Level,
    /// Of which release.
    pub version: Version,
}

/// The policies of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: Standard,
    /// Who makes what violates it is warned.
    pub warn: Standard,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical =
            minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        minor.parse().ok().filter(|_| canonical).map(Self::Minor)
    }
}

/// Reads one mode's labels. A level that is none counts as `fallback`.
fn standard(namespace: Meta<'_>, mode: &str, fallback: Level, errors: &mut Vec<FieldError>) -> Standard {
    let mut read = |key: String, detail: &str, parsed: &dyn Fn(&str) -> bool| {
        let value = namespace.label(&key)?;
        if !parsed(value) {
            let path = Path::new("metadata").child("labels").key(&key);
            errors.push(FieldError::invalid(&path, value, detail));
        }
        Some(value)
    };
    let levels = "must be one of privileged, baseline, restricted";
    let level = read(format!("{PREFIX}{mode}"), levels, &|v| Level::parse(v).is_some());
    let versions = "must be \"latest\" or \"v1.x\"";
    let version = read(format!("{PREFIX}{mode}-version"), versions, &|v| Version::parse(v).is_some());
    Standard {
        level: level.map_or(Level::Privileged, |text| Level::parse(text).unwrap_or(fallback)),
        version: version.and_then(Version::parse).unwrap_or(Version::Latest),
    }
}

impl Policy {
    /// The policy of a namespace, and what is wrong with its labels. Labels that cannot be read stand for
    /// the strictest policy to enforce, and for none to warn of.
    pub fn of(namespace: &Value) -> (Self, Vec<FieldError>) {
        let meta = Meta::of(namespace);
        let mut errors = Vec::new();
        let enforce = standard(meta, "enforce", Level::Restricted, &mut errors);
        let sound = errors.iter().all(|e| e.field.as_str().contains("-version"));
        // Nothing is audited, but what is wrong with the labels is said.
        standard(meta, "audit", Level::Privileged, &mut errors);
        let mut warn = standard(meta, "warn", Level::Privileged, &mut errors);
        let label = |name: &str| meta.label(&format!("{PREFIX}{name}"));
        if label("warn").is_none() && label("enforce").is_some() && sound && enforce.level > warn.level {
            warn.level = enforce.level;
            if label("warn-version").is_none() {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, warn }, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(labels: Value) -> (String, String, Vec<String>) {
        let (policy, errors) = Policy::of(&json!({"metadata": {"labels": labels}}));
        (
            policy.enforce.to_string(),
            policy.warn.to_string(),
            errors.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn labels_say_which_standard_holds() {
        let enforce = "pod-security.kubernetes.io/enforce";
        let (version, warn) = (format!("{enforce}-version"), "pod-security.kubernetes.io/warn");
        for (labels, enforced, warned) in [
            (json!({}), "privileged:latest", "privileged:latest"),
            (json!({enforce: "baseline"}), "baseline:latest", "baseline:latest"),
            (json!({enforce: "restricted", &version: "v1.24"}), "restricted:v1.24", "restricted:v1.24"),
            (json!({enforce: "baseline", warn: "restricted"}), "baseline:latest", "restricted:latest"),
            (json!({enforce: "baseline", warn: "privileged"}), "baseline:latest", "privileged:latest"),
        ] {
            assert_eq!(of(labels.clone()), (enforced.to_owned(), warned.to_owned(), vec![]), "{labels}");
        }
        let (enforced, warned, errors) = of(json!({enforce: "strict", &version: "1.24", warn: "x"}));
        assert_eq!((enforced.as_str(), warned.as_str()), ("restricted:latest", "privileged:latest"));
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
                 privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"1.24\": must be \
                 \"latest\" or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"x\": must be one of \
                 privileged, baseline, restricted",
            ]
        );
        for (text, parsed) in
            [("v1.0", true), ("v1.36", true), ("v1.01", false), ("v2.0", false), ("v1.", false)]
        {
            assert_eq!(Version::parse(text).is_some(), parsed, "{text}");
        }
    }
}
