//! System call filters of containers.

mod default;
mod profile;
mod table;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use self::profile::{Action, Arg, Compare, Profile, Rule};
use self::table::Abi;
use super::oci::Caps;
use crate::runtime::error::Error;
use crate::runtime::spec::Seccomp;
use crate::runtime::sys;

/// Compiled filters, to be installed in order. The strictest answer of all holds.
#[derive(Clone, Default)]
pub struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles the filters for a container whose programs have the capabilities `caps`.
    pub fn compile(seccomp: &Seccomp, caps: Caps) -> Result<Self, Error> {
        match seccomp {
            Seccomp::Unconfined => Ok(Self::default()),
            Seccomp::RuntimeDefault => compile(&default::profile(caps), caps),
            Seccomp::Localhost(path) => compile(&Profile::load(path)?, caps),
        }
    }

    /// Installs them in this process and gives up all capabilities but `caps`. Without filters
    /// nothing happens: then the process already has what it is to have.
    pub fn install(&self, caps: Caps) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        for program in &self.0 {
            sys::install_seccomp(program)?;
        }
        sys::limit_capabilities(caps.0)
    }
}

/// The rules of some calls: none is "always".
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters for the machine's own programs, and for 32-bit ones if the profile is for them; else they are killed.
fn compile(profile: &Profile, caps: Caps) -> Result<Filters, Error> {
    let name_of_32_bits = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86" } else { "SCMP_ARCH_ARM" };
    // What forbids most to this process itself comes last: it has to install the others.
    let mut abis: Vec<Abi> = profile.is_for(name_of_32_bits).then_some(Abi::Bits32).into_iter().collect();
    abis.push(Abi::Native);
    let mut programs = vec![gate(&abis)];
    for abi in abis {
        programs.extend(compile_for(abi, profile, caps)?);
    }
    Ok(Filters(programs))
}

/// A filter can do one thing for the calls it matches and another for the rest; a profile may ask
/// for more. So the last filter does the default for all calls without a rule, and one more for
/// each action does that for its calls and lets the rest pass.
fn compile_for(abi: Abi, profile: &Profile, caps: Caps) -> Result<Vec<BpfProgram>, Error> {
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut ruled = Rules::new();
    let mut others: Vec<(SeccompAction, Rules)> = Vec::new();
    for rule in profile.syscalls.iter().filter(|r| r.holds(caps)) {
        let does = action(rule.action, rule.errno_ret);
        if does == default {
            continue;
        }
        add(abi, &mut ruled, rule)?;
        if does == SeccompAction::Allow {
            continue;
        }
        match others.iter_mut().find(|(a, _)| *a == does) {
            Some((_, rules)) => add(abi, rules, rule)?,
            None => {
                let mut rules = Rules::new();
                add(abi, &mut rules, rule)?;
                others.push((does, rules));
            }
        }
    }
    let mut programs = Vec::new();
    for (does, rules) in others.into_iter().filter(|(_, rules)| !rules.is_empty()) {
        programs.push(program(abi, rules, SeccompAction::Allow, does, None)?);
    }
    if default != SeccompAction::Allow {
        let newest = (default != SeccompAction::Log).then(|| newest(abi, profile)).flatten();
        programs.push(program(abi, ruled, default, SeccompAction::Allow, newest)?);
    }
    Ok(programs)
}

/// The newest call that a profile names at all. Those after it were not thought of: libraries that try them are
/// to fall back on older ones, as on a kernel that lacks them, and not to give up (runc does the same).
fn newest(abi: Abi, profile: &Profile) -> Option<u32> {
    let names = profile.syscalls.iter().flat_map(|r| r.names.iter().chain(&r.name));
    // ARM has a few more far away.
    let numbers = names.filter_map(|name| abi.number(name)).filter(|n| *n < 0xf_0000);
    numbers.max().and_then(|n| u32::try_from(n).ok())
}

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Kills programs of other ABIs.
fn gate(abis: &[Abi]) -> BpfProgram {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    for abi in abis {
        program.extend([jump(IF_EQUAL, abi.audit(), 0, 1), statement(RETURN, SeccompAction::Allow.into())]);
    }
    program.push(statement(RETURN, SeccompAction::KillProcess.into()));
    program
}

/// A program that decides about one ABI's calls and lets others' pass. Calls after `newest` do not exist.
fn program(
    abi: Abi,
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
    newest: Option<u32>,
) -> Result<BpfProgram, Error> {
    let invalid = |e: seccompiler::BackendError| Error::Invalid(format!("seccomp profile: {e}"));
    let native = TargetArch::try_from(std::env::consts::ARCH).map_err(invalid)?;
    let rules = rules.into_iter().collect();
    let filter = SeccompFilter::new(rules, otherwise, matched, native).map_err(invalid)?;
    let compiled: BpfProgram = filter.try_into().map_err(invalid)?;
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(IF_EQUAL, abi.audit(), 1, 0),
        statement(RETURN, SeccompAction::Allow.into()),
    ];
    if let Some(newest) = newest {
        program.extend([
            statement(LOAD, NUMBER),
            jump(IF_GREATER, newest, 0, 1),
            statement(RETURN, SeccompAction::Errno(libc::ENOSYS as u32).into()),
        ]);
    }
    // Its own look at the architecture, which is the machine's alone, is left out.
    program.extend(compiled.into_iter().skip(3));
    Ok(program)
}

fn add(abi: Abi, rules: &mut Rules, rule: &Rule) -> Result<(), Error> {
    for name in rule.names.iter().chain(&rule.name) {
        // As other runtimes do: profiles name calls of all architectures and kernels.
        let Some(number) = abi.number(name) else {
            continue;
        };
        let always = rules.get(&number).is_some_and(Vec::is_empty);
        if always || rule.args.is_empty() {
            rules.insert(number, Vec::new());
        } else {
            rules.entry(number).or_default().extend(conditions(&rule.args)?);
        }
    }
    Ok(())
}

/// All conditions must hold, but of several on one argument any: so libseccomp reads them.
fn conditions(args: &[Arg]) -> Result<Vec<SeccompRule>, Error> {
    let invalid = |e: seccompiler::BackendError| Error::Invalid(format!("seccomp profile: {e}"));
    let one = |arg: &Arg| {
        let (op, value) = match arg.op {
            Compare::Ne => (SeccompCmpOp::Ne, arg.value),
            Compare::Lt => (SeccompCmpOp::Lt, arg.value),
            Compare::Le => (SeccompCmpOp::Le, arg.value),
            Compare::Eq => (SeccompCmpOp::Eq, arg.value),
            Compare::Ge => (SeccompCmpOp::Ge, arg.value),
            Compare::Gt => (SeccompCmpOp::Gt, arg.value),
            Compare::MaskedEq => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
        };
        SeccompCondition::new(arg.index, SeccompCmpArgLen::Qword, op, value).map_err(invalid)
    };
    let repeated = args.iter().enumerate().any(|(n, a)| args[..n].iter().any(|b| b.index == a.index));
    if repeated {
        return args.iter().map(|a| SeccompRule::new(vec![one(a)?]).map_err(invalid)).collect();
    }
    let all = args.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![SeccompRule::new(all).map_err(invalid)?])
}

fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    match action {
        Action::Allow => SeccompAction::Allow,
        Action::Errno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        Action::Log => SeccompAction::Log,
        Action::Trap => SeccompAction::Trap,
        Action::Trace => SeccompAction::Trace(errno.unwrap_or(libc::EPERM as u32)),
        Action::Kill => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
    }
}

#[cfg(test)]
mod tests;
