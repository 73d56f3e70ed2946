//! `kedge supervise`: keeps a command running where neither systemd nor OpenRC is there to do it.

use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::Error;
use super::installation::supervise_pid_file;
use super::options::DataDir;
use super::pidfile::PidFile;
use crate::config::Instance;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A command that ran this long starts again with the first pause.
const STEADY: Duration = Duration::from_secs(60);

/// Flags of `kedge supervise`.
#[derive(Args, Debug)]
pub struct SuperviseOptions {
    #[command(flatten)]
    data_dir: DataDir,
    /// Print the process that supervises this installation, and fail if there is none
    #[arg(long)]
    print_pid: bool,
    /// What to run: arguments of kedge, after `--`
    #[arg(last = true, required_unless_present = "print_pid")]
    arguments: Vec<String>,
}

/// Runs the command again and again until told to stop by SIGTERM or SIGINT, which it passes on.
///
/// # Errors
/// Another process supervises this installation, or the command cannot be run at all.
pub fn run(options: &SuperviseOptions) -> Result<(), Error> {
    let instance = Instance::of(&options.data_dir.path());
    if options.print_pid {
        let pid =
            PidFile::holder(&supervise_pid_file(&instance)).ok_or("nothing supervises this installation")?;
        println!("{pid}");
        return Ok(());
    }
    let _lock = PidFile::take(&supervise_pid_file(&instance), "the supervising process")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(keep_running(&options.arguments))
}

async fn keep_running(arguments: &[String]) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let executable = std::env::current_exe()?;
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let mut child = Command::new(&executable).args(arguments).spawn()?;
        let status = tokio::select! {
            status = child.wait() => status?,
            _ = terminate.recv() => return stop(child).await,
            _ = interrupt.recv() => return stop(child).await,
        };
        if started.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        eprintln!("kedge: {}; starting again in {} s", describe(status), pause.as_secs());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn describe(status: ExitStatus) -> String {
    format!("the supervised process ended ({status})")
}

async fn stop(mut child: Child) -> Result<(), Error> {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    }
    child.wait().await?;
    Ok(())
}
