use super::*;

fn parse(text: &str) -> Profile {
    serde_json::from_str(text).unwrap()
}

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;

fn errno(number: i32) -> u32 {
    0x0005_0000 | number as u32
}

/// What one program says to a call, as the kernel would have it.
fn ask(program: &BpfProgram, abi: u32, call: u32, args: [u64; 6]) -> u32 {
    let mut data = [call, abi, 0, 0].to_vec();
    data.extend(args.iter().flat_map(|a| [*a as u32, (*a >> 32) as u32]));
    let (mut at, mut value) = (0, 0u32);
    loop {
        let i = &program[at];
        let branch = |holds: bool| 1 + usize::from(if holds { i.jt } else { i.jf });
        at += match i.code {
            0x06 => return i.k,
            0x20 => {
                value = data[i.k as usize / 4];
                1
            }
            0x54 => {
                value &= i.k;
                1
            }
            0x05 => 1 + i.k as usize,
            0x15 => branch(value == i.k),
            0x25 => branch(value > i.k),
            0x35 => branch(value >= i.k),
            other => panic!("instruction {other:#x}"),
        };
    }
}

/// What all say together: the strictest holds.
fn verdict(filters: &Filters, abi: u32, call: i64, args: [u64; 6]) -> u32 {
    let all = filters.0.iter().map(|p| ask(p, abi, call as u32, args));
    all.min_by_key(|answer| (answer & 0xffff_0000) as i32).unwrap_or(ALLOW)
}

fn by_name(filters: &Filters, abi: Abi, name: &str, first: u64) -> u32 {
    let number = abi.number(name).unwrap_or_else(|| panic!("{name} of {abi:?}"));
    verdict(filters, abi.audit(), number, [first, 0, 0, 0, 0, 0])
}

#[test]
fn the_default_profile_lets_ordinary_programs_live_and_nothing_more() {
    let refused = errno(libc::EPERM);
    for abi in [Abi::Native, Abi::Bits32] {
        let none = Filters::compile(&Seccomp::RuntimeDefault, Caps(0)).unwrap();
        assert!(none.0.iter().all(|p| !p.is_empty() && p.len() < 4096));
        let all = Filters::compile(&Seccomp::RuntimeDefault, Caps(u64::MAX >> 23)).unwrap();
        for (name, argument, without, with) in [
            ("read", 0, ALLOW, ALLOW),
            ("getxattrat", 0, ALLOW, ALLOW),
            ("mseal", 0, ALLOW, ALLOW),
            ("unshare", 0, refused, ALLOW),
            ("mount", 0, refused, ALLOW),
            ("clone", 0x0120_0011, ALLOW, ALLOW),
            ("clone", 0x1000_0011, refused, ALLOW),
            ("clone3", 0, errno(libc::ENOSYS), ALLOW),
            ("personality", 0xffff_ffff, ALLOW, ALLOW),
            ("personality", 0x0004_0000, refused, refused),
            ("socket", 2, ALLOW, ALLOW),
            ("socket", 38, refused, refused),
            ("socket", 39, ALLOW, ALLOW),
            ("socket", 40, refused, refused),
            ("socket", 41, ALLOW, ALLOW),
            ("keyctl", 0, refused, refused),
            ("io_uring_setup", 0, refused, refused),
            ("clock_settime", 0, refused, ALLOW),
        ] {
            assert_eq!(by_name(&none, abi, name, argument), without, "{abi:?} {name} {argument:#x}");
            assert_eq!(by_name(&all, abi, name, argument), with, "{abi:?} {name} {argument:#x}");
        }
        for unknown in [467, 1000, 0x4000_0000] {
            let told = verdict(&none, abi.audit(), unknown, [0; 6]);
            assert_eq!(told, errno(libc::ENOSYS), "{abi:?} {unknown}: as on a kernel that lacks it");
        }
    }
    let filters = Filters::compile(&Seccomp::RuntimeDefault, Caps(0)).unwrap();
    assert_eq!(by_name(&filters, Abi::Bits32, "clock_gettime64", 0), ALLOW);
    assert_eq!(verdict(&filters, 0x4000_0008, 3, [0; 6]), KILL, "programs of an ABI nobody thought of");
}

#[test]
fn every_action_has_its_filter() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["reboot", "no_such_call"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let filters = compile(&parse(text), Caps(0)).unwrap();
    for (name, answer) in [
        ("read", ALLOW),
        ("mkdirat", errno(libc::EPERM)),
        ("clone3", errno(libc::ENOSYS)),
        ("reboot", KILL),
        ("openat", errno(libc::EPERM)),
        ("openat2", errno(libc::ENOSYS)),
    ] {
        assert_eq!(by_name(&filters, Abi::Native, name, 0), answer, "{name}");
    }
    let read = Abi::Bits32.number("read").unwrap();
    assert_eq!(verdict(&filters, Abi::Bits32.audit(), read, [0; 6]), KILL, "the profile is not for them");
    let lax = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"]}],
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let filters = compile(&parse(lax), Caps(0)).unwrap();
    for abi in [Abi::Native, Abi::Bits32] {
        assert_eq!(by_name(&filters, abi, "mkdirat", 0), errno(libc::EPERM), "{abi:?}");
        assert_eq!(by_name(&filters, abi, "openat2", 0), ALLOW, "{abi:?}");
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let arg = |index, value| Arg { index, value, value_two: 0, op: Compare::Eq };
    assert_eq!(conditions(&[arg(0, 1), arg(1, 2)]).unwrap().len(), 1);
    assert_eq!(conditions(&[arg(0, 1), arg(0, 2)]).unwrap().len(), 2);
    assert!(conditions(&[arg(9, 1)]).is_err());
}

#[test]
fn an_unconditional_rule_outdoes_conditional_ones() {
    let mut rules = Rules::new();
    let arg = Arg { index: 0, value: 1, value_two: 0, op: Compare::Eq };
    let rule = |args| Rule { names: vec!["read".into()], args, ..Default::default() };
    add(Abi::Native, &mut rules, &rule(vec![arg.clone()])).unwrap();
    add(Abi::Native, &mut rules, &rule(Vec::new())).unwrap();
    add(Abi::Native, &mut rules, &rule(vec![arg])).unwrap();
    assert_eq!(rules[&libc::SYS_read].len(), 0);
}
