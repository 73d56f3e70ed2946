//! The executable: a pod's shim, a checkpoint engine, or the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // A shim must stay small and single-threaded: nothing may run before it is told apart.
    match arguments.next() {
        Some(first) if first == "shim" => kedge::runtime::shim::main(arguments),
        Some(first) if first == kedge::store::ENGINE_COMMAND => {
            kedge::store::engine_main(&arguments.collect::<Vec<_>>())
        }
        _ => kedge::cli::main(),
    }
}
