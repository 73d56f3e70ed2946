use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // The shim must run before any thread exists: libcontainer forks.
    if args.next().is_some_and(|a| a == "shim") {
        return kedge::runtime::shim::main(args);
    }
    ExitCode::SUCCESS
}
