//! The executable: a pod's shim, or the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // A shim must stay small and single-threaded: nothing may run before it is told apart.
    if arguments.next().is_some_and(|first| first == "shim") {
        return kedge::runtime::shim::main(arguments);
    }
    kedge::cli::main()
}
