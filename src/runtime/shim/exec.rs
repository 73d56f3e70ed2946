//! Processes beside a container's own.

use std::fs;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::unistd::Pid;

use super::container::{Console, Container, Context, OwnScore, failed, owned_pipe};
use super::detail::Attempt;
use super::executor::executor;
use crate::runtime::error::Error;
use crate::runtime::spec::{ContainerState, ExecSpec};
use crate::runtime::sys;

/// A process that was just executed: its id and the caller's ends of its streams.
pub struct Started {
    /// Its id.
    pub pid: Pid,
    /// Input, output, errors; with a terminal the first two are its master.
    pub ends: [Option<OwnedFd>; 3],
}

/// Runs a process in the container.
pub fn exec(context: &Context, container: &Container, spec: &ExecSpec) -> Result<Started, Error> {
    container.expect(ContainerState::Running, "exec")?;
    if spec.command.is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    let id = &container.status.id;
    let bundle = context.dir.container(id);
    let file = bundle.join("exec.json");
    let mut process = container.process.clone();
    process.set_args(Some(spec.command.clone())).set_terminal(Some(spec.tty));
    if spec.tty {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        process.set_env(Some(env));
    }
    let json = serde_json::to_vec(&process).map_err(|e| Error::Other(e.to_string()))?;
    fs::write(&file, json).map_err(Error::io("write", &file))?;
    let started = run(context, container, spec, &file);
    let _ = fs::remove_file(&file);
    remove_sockets(context, id);
    // What a container that is just ending makes of an exec says nothing; that it ended does.
    started.map_err(|e| if container.is_ending() { container.unfit("exited", "exec") } else { e })
}

fn run(
    context: &Context,
    container: &Container,
    spec: &ExecSpec,
    file: &std::path::Path,
) -> Result<Started, Error> {
    let id = &container.status.id;
    let other = |e: std::io::Error| Error::Other(format!("exec streams: {e}"));
    let (exec, outcome) = executor(Rc::clone(&container.filters), container.caps).map_err(other)?;
    let mut builder = context.builder(id)?.with_executor(exec);
    let mut ends = [None, None, None];
    let mut console = None;
    if spec.tty {
        let socket = Console::listen(&context.dir.container(id))?;
        builder = builder.with_console_socket(Some(&socket.path));
        console = Some(socket);
    } else {
        let user = container.process.user();
        let owner = (user.uid(), user.gid());
        let input = if spec.stdin {
            let (read, write) = owned_pipe(owner).map_err(other)?;
            ends[0] = Some(write);
            read
        } else {
            fs::File::open("/dev/null").map_err(other)?.into()
        };
        let (out, output) = owned_pipe(owner).map_err(other)?;
        let (err, errors) = owned_pipe(owner).map_err(other)?;
        (ends[1], ends[2]) = (Some(out), Some(err));
        builder = builder.with_stdin(input).with_stdout(output).with_stderr(errors);
    }
    // Inherited: told to the process when it runs already, its first children would go without.
    let own = OwnScore::lend(container.oom_score_adj);
    let attempt = Attempt::begin(&context.dir);
    let built = builder.as_tenant().with_detach(true).with_process(Some(file)).build();
    drop(own);
    let built = built.map_err(|e| attempt.explain(failed(e)));
    // Told by the executor, if it came that far, else by libcontainer.
    outcome.wait().map_err(Error::Start)?;
    let pid = built?;
    if let Some(console) = console {
        let master = console.accept()?;
        if let Some((cols, rows)) = spec.size {
            sys::set_window_size(&master, cols, rows).map_err(other)?;
        }
        if spec.stdin {
            ends[0] = Some(master.try_clone().map_err(other)?);
        }
        ends[1] = Some(master);
    }
    Ok(Started { pid, ends })
}

/// libcontainer leaves a socket behind for every exec.
fn remove_sockets(context: &Context, id: &str) {
    let dir = context.dir.libcontainer().join(id);
    for name in crate::runtime::paths::names(&dir) {
        if name.starts_with("tenant-") {
            let _ = fs::remove_file(dir.join(name));
        }
    }
}
