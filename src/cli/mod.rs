//! The command line: raw flags, one file a sub-command. Values are checked by [`crate::config`].

pub mod agent;
mod clock;
pub mod demo;
mod files;
pub mod images;
mod installation;
pub mod killall;
mod node;
mod notify;
mod options;
mod pidfile;
pub mod server;
pub mod status;
mod supervise;
pub mod uninstall;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::kubelet_help;

/// Kubernetes for small machines, in one executable.
#[derive(Debug, Parser)]
#[command(name = "kedge", version, about, long_about = None, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane and, unless told otherwise, a node
    #[command(after_help = kubelet_help())]
    Server(Box<options::ServerOptions>),
    /// Run a node that joins a server with a token
    #[command(after_help = kubelet_help())]
    Agent(Box<options::AgentOptions>),
    /// Import, list, pull and remove the node's images
    Images(images::ImagesOptions),
    /// Show whether server, node and workloads are ready, or wait until they are
    Status(status::StatusOptions),
    /// Stop every container and remove all processes, mounts, interfaces and rules kedge made
    Killall(options::DataDir),
    /// Remove kedge from this machine
    Uninstall(uninstall::UninstallOptions),
    /// Keep a command of kedge running where there is neither systemd nor OpenRC
    #[command(hide = true)]
    Supervise(supervise::SuperviseOptions),
    /// Serve a small web page: what the demonstration's pods run
    #[command(hide = true)]
    Demo(demo::DemoOptions),
}

/// Any error a sub-command ends with; its text is what the user reads.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Parses the process's arguments and runs the sub-command.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let given = matches.subcommand().map(|(_, given)| given);
    let result = match cli.command {
        Command::Server(_) => options::layers(given, "server").and_then(server::run),
        Command::Agent(_) => options::layers(given, "agent").and_then(agent::run),
        Command::Images(options) => images::run(options),
        Command::Status(options) => status::run(options),
        Command::Killall(options) => killall::run(&options.path()),
        Command::Uninstall(options) => uninstall::run(&options),
        Command::Supervise(options) => supervise::run(&options),
        Command::Demo(options) => demo::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Fails unless the process runs as root, naming what needs it.
fn require_root(what: &str) -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(format!("{what} needs root: run it with sudo").into())
}

/// Log lines go to standard error; `RUST_LOG` chooses which.
fn init_logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
