//! Which devices a container may use, with cgroup version 2: a BPF program, because version 2 has
//! no files for it. It decides as the `devices` controller of version 1 does by containerd's rules.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::runtime::sys;

/// What may be done with devices: bits of `access` in `struct bpf_cgroup_dev_ctx`.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const ALL: u8 = 7;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// A device that one container may use.
pub struct Allowed {
    /// Block device, not character device.
    pub block: bool,
    /// Major number.
    pub major: i32,
    /// Minor number.
    pub minor: i32,
    /// It may not be written.
    pub readonly: bool,
}

/// Devices that are allowed.
#[derive(Clone, Copy)]
struct Rule {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    access: u8,
}

const fn character(major: i32, minor: Option<i32>) -> Rule {
    Rule { kind: CHARACTER, major: Some(major), minor, access: ALL }
}

/// Nodes may be made of all devices, but opened only of these: null, zero, full, random, urandom,
/// tty, console, ptmx and terminals.
const RULES: [Rule; 11] = [
    Rule { kind: CHARACTER, major: None, minor: None, access: MKNOD },
    Rule { kind: BLOCK, major: None, minor: None, access: MKNOD },
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(1)),
    character(5, Some(2)),
    character(136, None),
];

/// A loaded program.
pub struct DeviceFilter(OwnedFd);

impl DeviceFilter {
    /// Loads it; an error where the kernel or a missing right forbids it.
    pub fn load() -> io::Result<Self> {
        Self::load_with(&[])
    }

    /// Loads one that allows these devices too.
    pub fn load_with(more: &[Allowed]) -> io::Result<Self> {
        let mut rules = RULES.to_vec();
        rules.extend(more.iter().map(|a| Rule {
            kind: if a.block { BLOCK } else { CHARACTER },
            major: Some(a.major),
            minor: Some(a.minor),
            access: if a.readonly { READ } else { ALL },
        }));
        sys::load_device_filter(&program(&rules)).map(Self)
    }

    /// Makes it decide for a cgroup.
    pub fn attach(&self, cgroup: &Path) -> io::Result<()> {
        sys::attach_device_filter(&File::open(cgroup)?, &self.0)
    }
}

/// One instruction: operation, registers, jump offset or field offset, constant.
fn instruction(op: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    let registers = to | from << 4;
    u64::from(op)
        | u64::from(registers) << 8
        | u64::from(offset as u16) << 16
        | u64::from(constant as u32) << 32
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// The program: kind in register 2, access in 3, major in 4, minor in 5; each rule either leaves
/// with "allowed" or falls through to the next.
fn program(rules: &[Rule]) -> Vec<u64> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![(2, rule.kind)];
        tests.extend(rule.major.map(|major| (4, major)));
        tests.extend(rule.minor.map(|minor| (5, minor)));
        // What is asked for beyond what is allowed must be nothing.
        let beyond = [
            instruction(MOVE, 1, 3, 0, 0),
            instruction(AND, 1, 0, 0, i32::from(!rule.access)),
            instruction(JUMP_UNLESS_EQUAL, 1, 0, 2, 0),
        ];
        let mut left = tests.len() as i16 + beyond.len() as i16 + 2;
        for (register, value) in tests {
            left -= 1;
            code.push(instruction(JUMP_UNLESS_EQUAL, register, 0, left, value));
        }
        code.extend(beyond);
        code.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    code.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    /// Where version 2 is mounted, also on hybrid machines.
    fn version_2() -> Option<PathBuf> {
        let mut mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().map(PathBuf::from);
        mounts.find(|m| m.join("cgroup.subtree_control").exists())
    }

    #[test]
    fn the_kernel_takes_the_program_and_obeys_it() {
        let Some(mount) = version_2().filter(|_| nix::unistd::geteuid().is_root()) else {
            return;
        };
        let cgroup = mount.join(format!("kedge-device-filter-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        DeviceFilter::load().unwrap().attach(&cgroup).unwrap();
        let script = format!(
            "echo $$ > {}/cgroup.procs; d=$(mktemp -d); \
             head -c1 /dev/zero >/dev/null && echo zero; \
             mknod $d/mem c 1 1 && echo made; head -c1 $d/mem 2>/dev/null || echo denied; \
             mknod $d/full c 1 7; head -c1 $d/full >/dev/null && echo full; rm -r $d",
            cgroup.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        fs::remove_dir(&cgroup).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "zero\nmade\ndenied\nfull\n");
    }

    #[test]
    fn jumps_stay_inside() {
        let code = program(&RULES);
        for (at, word) in code.iter().enumerate() {
            if *word as u8 == JUMP_UNLESS_EQUAL {
                let target = at as i64 + 1 + i64::from((word >> 16) as i16);
                // Always at the start of a rule: a test of the kind, or the final refusal.
                let there = code[target as usize];
                let kind = there as u8 == JUMP_UNLESS_EQUAL && (there >> 8) & 0xf == 2;
                assert!(kind || target as usize == code.len() - 2, "{at} -> {target}");
            }
        }
    }
}
