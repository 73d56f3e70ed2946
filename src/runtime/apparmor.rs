//! AppArmor profiles of containers: the runtime's default one, loaded as containerd loads its own, and
//! those an administrator has loaded.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;

/// Name of the default profile, containerd's: policies and tools know it.
pub const DEFAULT_PROFILE: &str = "cri-containerd.apparmor.d";

/// Compiles profiles and gives them to the kernel.
const PARSER: &str = "apparmor_parser";

/// What of a machine has to do with AppArmor.
pub struct Machine {
    /// The module's switch, `Y` or `N`.
    pub enabled: PathBuf,
    /// The profiles the kernel has, a line each.
    pub loaded: PathBuf,
    /// Where profiles find what they include.
    pub includes: PathBuf,
    /// Where programs are, as in `$PATH`.
    pub programs: Vec<PathBuf>,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut programs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        programs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
        Self {
            enabled: "/sys/module/apparmor/parameters/enabled".into(),
            loaded: "/sys/kernel/security/apparmor/profiles".into(),
            includes: "/etc/apparmor.d".into(),
            programs,
        }
    }

    /// The kernel has AppArmor, and it is on.
    pub fn is_enabled(&self) -> bool {
        fs::read(&self.enabled).is_ok_and(|text| text.starts_with(b"Y"))
    }

    /// Profiles can be loaded and looked up too, which needs `apparmor_parser`.
    pub fn is_usable(&self) -> bool {
        self.is_enabled() && self.loaded.exists() && self.parser().is_some()
    }

    fn parser(&self) -> Option<PathBuf> {
        self.programs.iter().map(|directory| directory.join(PARSER)).find(|file| file.is_file())
    }

    /// Has the kernel know a profile: the default one is loaded if need be, others must be there.
    ///
    /// # Errors
    /// The profile is not loaded, or the default one cannot be.
    pub fn prepare(&self, profile: &str) -> Result<(), Error> {
        let loaded = fs::read_to_string(&self.loaded).map_err(Error::io("read", &self.loaded))?;
        if loaded.lines().any(|l| l.strip_prefix(profile).is_some_and(|rest| rest.starts_with(' '))) {
            return Ok(());
        }
        if profile != DEFAULT_PROFILE {
            return Err(Error::Other(format!("apparmor profile not found {profile}")));
        }
        let parser = self.parser().ok_or_else(|| Error::Other(format!("{PARSER} is not installed")))?;
        load(&parser, &default_profile(&self.includes))
    }
}

/// Gives a profile to the kernel.
fn load(parser: &Path, profile: &str) -> Result<(), Error> {
    let failed = |why: String| Error::Other(format!("load the AppArmor profile {DEFAULT_PROFILE}: {why}"));
    let mut command = Command::new(parser);
    // Replaces what is there; no cache of compiled profiles is read.
    command.arg("-Kr").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io("run", parser))?;
    if let Some(mut input) = child.stdin.take() {
        // A parser that ends early says why itself.
        let _ = input.write_all(profile.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::io("run", parser))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The default profile: programs do what they like among themselves, but do not mount, and leave the kernel's
/// own files alone but for what containers need.
fn default_profile(includes: &Path) -> String {
    let has = |file: &str| includes.join(file).exists();
    let mut text = String::new();
    if has("abi/3.0") {
        text += "abi <abi/3.0>,\n";
    }
    text += if has("tunables/global") { "#include <tunables/global>\n" } else { "@{PROC}=/proc/\n" };
    text += &format!("profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{\n");
    if has("abstractions/base") {
        text += "  #include <abstractions/base>\n";
    }
    for rule in [
        "network",
        "capability",
        "file",
        "umount",
        // The agent and people on the host end containers; their programs signal and trace each other.
        "signal (receive) peer=unconfined",
        &format!("signal (send,receive) peer={DEFAULT_PROFILE}"),
        &format!("ptrace (trace,tracedby,read,readby) peer={DEFAULT_PROFILE}"),
        "deny mount",
        // Of /proc only processes' own files and kernel.shm* may be written.
        "deny @{PROC}/* w",
        "deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w",
        "deny @{PROC}/sys/[^k]** w",
        "deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w",
        "deny @{PROC}/{sysrq-trigger,kcore} rwklx",
        // Of /sys only control groups.
        "deny /sys/{[^f]*,f[^s]*,fs/[^c]*,fs/c[^g]*,fs/cg[^r]*}/** wklx",
        "deny /sys/{firmware,devices/virtual/powercap,kernel/security}/** rwklx",
    ] {
        text += &format!("  {rule},\n");
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A machine in a directory, with a parser that keeps what it was given.
    fn machine(directory: &Path, parser: &str) -> Machine {
        let machine = Machine {
            enabled: directory.join("enabled"),
            loaded: directory.join("profiles"),
            includes: directory.join("includes"),
            programs: vec![directory.join("none"), directory.to_owned()],
        };
        fs::write(&machine.enabled, "Y\n").unwrap();
        fs::write(&machine.loaded, "mine (enforce)\nmine-too (complain)\n").unwrap();
        fs::write(directory.join(PARSER), format!("#!/bin/sh\n{parser}\n")).unwrap();
        fs::set_permissions(directory.join(PARSER), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    #[test]
    fn the_default_profile_is_loaded_once_and_others_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let profiles = place.join("profiles");
        let keep = format!(
            "[ \"$*\" = -Kr ] && cat > {0}/given && echo '{DEFAULT_PROFILE} (enforce)' >> {1}",
            place.display(),
            profiles.display()
        );
        let machine = machine(place, &keep);
        assert!(machine.is_enabled() && machine.is_usable());
        machine.prepare("mine").unwrap();
        let missing = machine.prepare("min").unwrap_err().to_string();
        assert_eq!(missing, "apparmor profile not found min");
        machine.prepare(DEFAULT_PROFILE).unwrap();
        let given = fs::read_to_string(place.join("given")).unwrap();
        let head = "@{PROC}=/proc/\nprofile cri-containerd.apparmor.d flags=(attach_disconnected,mediate_deleted) {\n";
        assert!(given.starts_with(head) && given.contains("\n  deny mount,\n"), "{given}");
        fs::remove_file(place.join("given")).unwrap();
        machine.prepare(DEFAULT_PROFILE).unwrap();
        assert!(!place.join("given").exists(), "it is loaded already");
    }

    #[test]
    fn what_the_distribution_has_is_included() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["tunables/global", "abstractions/base", "abi/3.0"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let text = default_profile(directory.path());
        assert!(text.starts_with("abi <abi/3.0>,\n#include <tunables/global>\nprofile "), "{text}");
        assert!(text.contains("{\n  #include <abstractions/base>\n"), "{text}");
    }

    #[test]
    fn without_a_parser_or_a_kernel_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = machine(directory.path(), "echo broken line >&2; exit 1");
        let error = machine.prepare(DEFAULT_PROFILE).unwrap_err().to_string();
        assert_eq!(error, "load the AppArmor profile cri-containerd.apparmor.d: broken line");
        machine.programs.clear();
        assert!(machine.is_enabled() && !machine.is_usable());
        fs::write(&machine.enabled, "N\n").unwrap();
        assert!(!machine.is_enabled());
    }
}
