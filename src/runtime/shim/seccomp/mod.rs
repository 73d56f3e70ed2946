//! System call filters of containers.

mod default;
mod profile;
mod table;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use self::profile::{Action, Arg, Compare, Profile, Rule};
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

/// A filter can do one thing for the calls it matches and another for the rest; a profile may ask
/// for more. So the first filter does the default for all calls without a rule, and one more for
/// each action does that for its calls and lets the rest pass.
fn compile(profile: &Profile, caps: Caps) -> Result<Filters, Error> {
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut ruled = Rules::new();
    let mut others: Vec<(SeccompAction, Rules)> = Vec::new();
    for rule in profile.syscalls.iter().filter(|r| r.holds(caps)) {
        let does = action(rule.action, rule.errno_ret);
        if does == default {
            continue;
        }
        add(&mut ruled, rule)?;
        if does == SeccompAction::Allow {
            continue;
        }
        match others.iter_mut().find(|(a, _)| *a == does) {
            Some((_, rules)) => add(rules, rule)?,
            None => {
                let mut rules = Rules::new();
                add(&mut rules, rule)?;
                others.push((does, rules));
            }
        }
    }
    let mut programs = Vec::new();
    if default != SeccompAction::Allow {
        programs.push(program(ruled, default, SeccompAction::Allow)?);
    }
    for (does, rules) in others {
        programs.push(program(rules, SeccompAction::Allow, does)?);
    }
    Ok(Filters(programs))
}

fn program(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, Error> {
    let invalid = |e: seccompiler::BackendError| Error::Invalid(format!("seccomp profile: {e}"));
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(invalid)?;
    let rules = rules.into_iter().collect();
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(invalid)?;
    filter.try_into().map_err(invalid)
}

fn add(rules: &mut Rules, rule: &Rule) -> Result<(), Error> {
    for name in rule.names.iter().chain(&rule.name) {
        // As other runtimes do: profiles name calls of all architectures and kernels.
        let Some(number) = table::number(name) else {
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
mod tests {
    use super::*;

    fn parse(text: &str) -> Profile {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_default_profile_compiles_for_all_capabilities() {
        for caps in [Caps(0), Caps(u64::MAX >> 23)] {
            let filters = Filters::compile(&Seccomp::RuntimeDefault, caps).unwrap();
            assert!(filters.0.iter().all(|p| !p.is_empty() && p.len() < 4096));
        }
        assert_eq!(Filters::compile(&Seccomp::RuntimeDefault, Caps(0)).unwrap().0.len(), 2);
    }

    #[test]
    fn every_action_has_its_filter() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["reboot", "no_such_call"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
        assert_eq!(compile(&parse(text), Caps(0)).unwrap().0.len(), 3);
        let lax = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(compile(&parse(lax), Caps(0)).unwrap().0.len(), 1);
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
        add(&mut rules, &rule(vec![arg.clone()])).unwrap();
        add(&mut rules, &rule(Vec::new())).unwrap();
        add(&mut rules, &rule(vec![arg])).unwrap();
        assert_eq!(rules[&libc::SYS_read].len(), 0);
    }
}
