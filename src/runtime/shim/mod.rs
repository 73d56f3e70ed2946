//! The shim: one small process a pod, holder of its namespaces and parent of its containers.

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point of the hidden `shim` sub-command, with the arguments after it. To be called first
/// thing in `main`, before any thread exists.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    todo!("{}", args.count())
}
