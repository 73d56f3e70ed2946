//! Profiles in the format of Docker and of the OCI runtime specification.

use std::path::Path;

use serde::Deserialize;

use crate::runtime::error::Error;
use crate::runtime::shim::oci::Caps;

/// A whole profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// For calls without a rule.
    pub default_action: Action,
    /// The error of that, if it is one.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// The ABIs it is for, by libseccomp's names.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// The same as Docker writes it.
    #[serde(default)]
    pub arch_map: Vec<Architecture>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

/// An architecture and those whose programs its kernel runs too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Architecture {
    /// Its own ABI.
    pub architecture: String,
    /// The others.
    #[serde(default)]
    pub sub_architectures: Vec<String>,
}

/// What is done for some calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls. Those this architecture does not have are passed over.
    #[serde(default)]
    pub names: Vec<String>,
    /// One more of them, in old profiles.
    #[serde(default)]
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
    /// The error, if that is one.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// Only if all of these hold.
    #[serde(default)]
    pub args: Vec<Arg>,
    /// The rule holds only for these.
    #[serde(default)]
    pub includes: Condition,
    /// The rule does not hold for these.
    #[serde(default)]
    pub excludes: Condition,
}

/// Docker's conditions on rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Capabilities of the container.
    #[serde(default)]
    pub caps: Vec<String>,
    /// Architectures, by Go's names.
    #[serde(default)]
    pub arches: Vec<String>,
    /// Least version of the kernel.
    #[serde(default)]
    pub min_kernel: Option<String>,
}

/// A condition on an argument.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, from 0.
    pub index: u8,
    /// What it is compared with; a mask for [`Compare::MaskedEq`].
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Compare,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Compare {
    /// Differs.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// Is less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// Is less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// Is equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// Is greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// Is greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// Is equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// What is done with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// It is carried out.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// It fails.
    #[default]
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// It is carried out and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// The thread gets SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// A tracer is asked.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The thread is killed.
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    Kill,
    /// The process is killed.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
}

impl Profile {
    /// Whether programs of another ABI than the machine's own may run too.
    pub fn is_for(&self, abi: &str) -> bool {
        let mapped =
            self.arch_map.iter().filter(|a| !a.architecture.is_empty()).flat_map(|a| &a.sub_architectures);
        self.architectures.iter().chain(mapped).any(|a| a == abi)
    }

    /// Reads a profile from a file on the node.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let text = std::fs::read(path)
            .map_err(|e| Error::Other(format!("cannot load seccomp profile {shown:?}: {e}")))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::Other(format!("decoding seccomp profile failed {shown:?}: {e}")))
    }
}

impl Rule {
    /// Whether it holds on this machine for a container with these capabilities.
    pub fn holds(&self, caps: Caps) -> bool {
        let arch = |c: &Condition| c.arches.iter().any(|a| a == GO_ARCH);
        let (with, without) = (&self.includes, &self.excludes);
        (with.arches.is_empty() || arch(with))
            && with.caps.iter().all(|c| caps.has(c))
            && with.min_kernel.as_deref().is_none_or(kernel_is)
            && !arch(without)
            && !without.caps.iter().any(|c| caps.has(c))
            && !without.min_kernel.as_deref().is_some_and(kernel_is)
    }
}

#[cfg(target_arch = "x86_64")]
const GO_ARCH: &str = "amd64";
#[cfg(not(target_arch = "x86_64"))]
const GO_ARCH: &str = "arm64";

/// Whether the kernel is of a version or newer.
fn kernel_is(version: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    numbers(&release) >= numbers(version)
}

fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_conditions() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [],
            "syscalls": [
              {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
              {"names": ["x"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
              {"names": ["y"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
              {"names": ["z"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
              {"names": ["a"], "action": "SCMP_ACT_LOG", "includes": {"arches": ["s390"]}},
              {"name": "old", "action": "SCMP_ACT_KILL", "args": [
                {"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        let chown = Caps(1);
        let holds: Vec<_> = profile.syscalls.iter().map(|r| r.holds(chown)).collect();
        assert_eq!(holds, [false, false, true, false, false, true]);
        assert!(profile.syscalls[1].holds(Caps(0)));
        assert_eq!(profile.syscalls[5].args[0].value_two, 3);
    }

    #[test]
    fn unreadable_profiles_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Profile::load(&path).unwrap_err().to_string();
        assert!(error.contains("p.json") && error.contains("defaultAction"), "{error}");
        assert!(Profile::load(&dir.path().join("none")).is_err());
    }
}
