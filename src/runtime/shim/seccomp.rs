//! System call filters of containers.

use std::io;

use super::oci::Caps;
use crate::runtime::error::Error;
use crate::runtime::spec::Seccomp;
use crate::runtime::sys;

/// Compiled filters, to be installed in order. The strictest answer of all holds.
#[derive(Clone, Default)]
pub struct Filters(Vec<seccompiler::BpfProgram>);

impl Filters {
    /// Compiles the filters for a container whose programs have the capabilities `caps`.
    pub fn compile(seccomp: &Seccomp, _caps: Caps) -> Result<Self, Error> {
        match seccomp {
            _ => Ok(Self::default()),
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
