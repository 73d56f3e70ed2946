//! The shim's loop: requests, children that ended, and the containers' streams.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::{Container, Context, START_FAILED, exit_code};
use super::exec::exec;
use super::io::Token;
use crate::runtime::error::Error;
use crate::runtime::protocol::{Reply, Request, decode, encode};
use crate::runtime::spec::{ContainerSpec, ContainerState};
use crate::runtime::{rootfs::RootFs, sys};

/// What a connection is for after its request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Its request is still to come.
    New,
    /// It was answered and is closed when all is written.
    Answered,
    /// It is told of events.
    Subscriber,
    /// It is answered when this container has ended.
    Waiting(String),
    /// It is told the exit code of this process.
    Exec(Pid),
}

struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    role: Role,
}

/// What is being waited for.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Container(String, Token),
}

/// All that a running shim has.
pub struct Server {
    context: Context,
    listener: UnixListener,
    signals: SignalFd,
    containers: BTreeMap<String, Container>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    stopping: bool,
}

type Answer = Result<(Reply, Vec<OwnedFd>), Error>;

impl Server {
    /// A server that nobody has spoken to yet.
    pub fn new(context: Context, listener: UnixListener, signals: SignalFd) -> Self {
        Self {
            context,
            listener,
            signals,
            containers: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            stopping: false,
        }
    }

    /// Serves until it was told to stop and has answered.
    pub fn run(mut self) -> io::Result<()> {
        while !(self.stopping && self.connections.values().all(|c| c.output.is_empty())) {
            let wanted = self.wanted();
            let mut fds: Vec<_> =
                wanted.iter().map(|(fd, flags, _)| PollFd::new(sys::borrow(*fd), *flags)).collect();
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready: Vec<_> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
            for ((_, _, source), events) in wanted.into_iter().zip(ready) {
                if !events.is_empty() {
                    self.handle(source, events);
                }
            }
        }
        Ok(())
    }

    fn wanted(&self) -> Vec<(RawFd, PollFlags, Source)> {
        let mut all = vec![
            (self.signals.as_raw_fd(), PollFlags::POLLIN, Source::Signals),
            (self.listener.as_raw_fd(), PollFlags::POLLIN, Source::Listener),
        ];
        for (id, connection) in &self.connections {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !connection.output.is_empty());
            all.push((connection.stream.as_raw_fd(), flags, Source::Connection(*id)));
        }
        for (id, container) in &self.containers {
            container.streams.wait_for(|fd, flags, token| {
                all.push((fd, flags, Source::Container(id.clone(), token)));
            });
        }
        all
    }

    fn handle(&mut self, source: Source, events: PollFlags) {
        match source {
            Source::Signals => self.reap(),
            Source::Listener => self.accept(),
            Source::Connection(id) => {
                if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                    self.read(id);
                }
                self.write(id);
            }
            Source::Container(id, token) => {
                let Some(container) = self.containers.get_mut(&id) else { return };
                container.streams.ready(token, events);
                if let Some(log) = container.streams.take_rotated() {
                    self.tell_subscribers(|| Reply::LogRotated { log: log.clone() });
                }
            }
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                if let Err(e) = stream.set_nonblocking(true) {
                    tracing::warn!("connection: {e}");
                    return;
                }
                let connection =
                    Connection { stream, input: Vec::new(), output: VecDeque::new(), role: Role::New };
                self.connections.insert(self.next_connection, connection);
                self.next_connection += 1;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => tracing::warn!("accept: {e}"),
        }
    }

    fn read(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        let open = loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(n) => connection.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break e.kind() == io::ErrorKind::WouldBlock,
            }
        };
        while let Some(connection) = self.connections.get_mut(&id) {
            match decode::<Request>(&mut connection.input) {
                Ok(Some(request)) => self.request(id, request),
                Ok(None) => break,
                // Of a newer kedge, maybe.
                Err(e) => {
                    connection.input.clear();
                    connection.role = Role::Answered;
                    self.send(id, Reply::Failed(e.into()), Vec::new());
                }
            }
        }
        if !open {
            self.connections.remove(&id);
        }
    }

    fn request(&mut self, id: u64, request: Request) {
        // What is known must be true now: a container may have ended an instant ago.
        self.reap();
        match self.perform(id, request) {
            Ok(Some(answer)) => self.send(id, answer.0, answer.1),
            Ok(None) => {}
            Err(error) => {
                self.set_role(id, Role::Answered);
                self.send(id, Reply::Failed(error.into()), Vec::new());
            }
        }
    }

    fn set_role(&mut self, id: u64, role: Role) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.role = role;
        }
    }

    /// Does what is asked. `None`: the answer comes later, if at all.
    fn perform(&mut self, connection: u64, request: Request) -> Result<Option<(Reply, Vec<OwnedFd>)>, Error> {
        let answer = match request {
            Request::Subscribe => {
                self.set_role(connection, Role::Subscriber);
                self.tell_past_events(connection);
                return Ok(None);
            }
            Request::Wait { id } => {
                if self.container(&id)?.status.state != ContainerState::Exited {
                    self.set_role(connection, Role::Waiting(id));
                    return Ok(None);
                }
                self.status(&id)
            }
            Request::Exec { id, spec } => {
                let container = self.containers.get(&id).ok_or(Error::ContainerNotFound(id))?;
                let started = exec(&self.context, container, &spec)?;
                self.set_role(connection, Role::Exec(started.pid));
                return Ok(Some(streams(started.ends, spec.tty)));
            }
            Request::KillExec => {
                if let Some(Role::Exec(pid)) = self.connections.get(&connection).map(|c| &c.role) {
                    let _ = kill(*pid, Signal::SIGKILL);
                }
                return Ok(None);
            }
            Request::Create { spec, rootfs } => self.create(&spec, &rootfs),
            Request::Start { id } => self.start(&id),
            Request::Signal { id, signal, all } => self.signal(&id, signal, all),
            Request::Remove { id } => self.remove(&id),
            Request::Attach { id, stdin } => self.attach(&id, stdin),
            Request::Resize { id, cols, rows } => {
                let resized = self.container(&id)?.streams.resize(cols, rows);
                resized.map(|()| done()).map_err(|e| Error::Other(format!("resize: {e}")))
            }
            Request::ReopenLog { id } => {
                let path = self.container(&id)?.status.log_path.clone();
                let reopened = self.container(&id)?.streams.reopen_log();
                reopened.map(|()| done()).map_err(Error::io("open log", path))
            }
            Request::Stop => self.stop(),
        };
        self.set_role(connection, Role::Answered);
        answer.map(Some)
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::ContainerNotFound(id.to_string()))
    }

    fn status(&mut self, id: &str) -> Answer {
        let status = self.container(id)?.status.clone();
        Ok((Reply::Container(Box::new(status)), Vec::new()))
    }

    fn create(&mut self, spec: &ContainerSpec, rootfs: &RootFs) -> Answer {
        let pid_of = spec.pid_of.as_deref().map(|id| self.pid_of(id)).transpose()?.flatten();
        let container = Container::create(&self.context, spec, rootfs, pid_of)?;
        self.containers.insert(spec.id.clone(), container);
        self.status(&spec.id)
    }

    /// The process whose PID namespace a container joins; `None` where all share one anyway.
    fn pid_of(&mut self, id: &str) -> Result<Option<Pid>, Error> {
        let container = self.container(id)?;
        container.expect(ContainerState::Running, "join the PID namespace of")?;
        let pid = container.pid();
        let shared = self.context.shared.pause.is_some() || self.context.record.spec.host_pid;
        Ok(pid.filter(|_| !shared))
    }

    fn start(&mut self, id: &str) -> Answer {
        let missing = || Error::ContainerNotFound(id.to_string());
        let container = self.containers.get_mut(id).ok_or_else(missing)?;
        container.expect(ContainerState::Created, "start")?;
        if let Err(error) = container.start(&self.context) {
            self.end(id, Some(START_FAILED));
            return Err(error);
        }
        self.status(id)
    }

    fn signal(&mut self, id: &str, signal: Option<i32>, all: bool) -> Answer {
        let container =
            self.containers.get_mut(id).ok_or_else(|| Error::ContainerNotFound(id.to_string()))?;
        let Some(pid) = container.pid() else {
            return Ok(done());
        };
        let signal = signal.unwrap_or(container.stop_signal);
        if all {
            for pid in self.context.cgroups.processes(&container.cgroup) {
                // Some have gone meanwhile.
                let _ = sys::send_signal(pid, signal);
            }
        }
        match sys::send_signal(pid.as_raw(), signal) {
            Ok(()) => Ok(done()),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(done()),
            Err(e) => Err(Error::Other(format!("send signal {signal} to container {id}: {e}"))),
        }
    }

    fn remove(&mut self, id: &str) -> Answer {
        self.container(id)?;
        self.end(id, None);
        self.containers.remove(id);
        Ok(done())
    }

    fn attach(&mut self, id: &str, stdin: bool) -> Answer {
        let container = self.container(id)?;
        if container.status.state == ContainerState::Exited {
            container.expect(ContainerState::Running, "attach to")?;
        }
        let tty = container.streams.is_terminal();
        let ends = container.streams.attach(stdin).map_err(|e| Error::Other(format!("attach: {e}")))?;
        Ok(streams(ends, tty))
    }

    fn stop(&mut self) -> Answer {
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.end(&id, None);
        }
        if let Some(pause) = self.context.shared.pause {
            let _ = kill(pause, Signal::SIGKILL);
            self.reap_until(None, |server| server.context.shared.pause.is_none());
        }
        if let Err(e) = self.context.cgroups.kill(&self.context.record.cgroup()) {
            tracing::warn!("stop: {e}");
        }
        let marker = self.context.dir.stopped();
        std::fs::write(&marker, "").map_err(Error::io("write", &marker))?;
        self.stopping = true;
        Ok(done())
    }

    /// Kills a container that has not ended, and takes note of its end, with another exit code if
    /// one is given.
    fn end(&mut self, id: &str, code: Option<i32>) {
        let Some(pid) = self.containers.get(id).and_then(Container::pid) else {
            return;
        };
        let _ = kill(pid, Signal::SIGKILL);
        let code = code.map(|code| (pid, code));
        self.reap_until(code, |server| server.containers.get(id).is_none_or(|c| c.pid().is_none()));
    }

    /// Takes note of all children that have ended.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if !self.child_ended(status, None) {
                break;
            }
        }
    }

    /// Waits for children to end until `done`. For any of them, never for one: process 1 of a PID
    /// namespace does not end before everybody else in it is reaped, and those that were executed
    /// into it are reaped here.
    fn reap_until(&mut self, code: Option<(Pid, i32)>, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            match waitpid(Pid::from_raw(-1), None) {
                Ok(status) => drop(self.child_ended(status, code)),
                Err(Errno::EINTR) => {}
                Err(e) => return tracing::error!("wait for children: {e}"),
            }
        }
    }

    /// `false` if no child had ended. `as_code` gives one of them another exit code.
    fn child_ended(&mut self, status: WaitStatus, as_code: Option<(Pid, i32)>) -> bool {
        let Some(pid) = status.pid() else {
            return false;
        };
        let Some((code, signal)) = exit_code(status) else {
            return true;
        };
        let as_code = as_code.filter(|(other, _)| *other == pid);
        let (code, signal) = as_code.map_or((code, signal), |(_, code)| (code, None));
        if self.context.shared.pause == Some(pid) {
            self.context.shared.pause = None;
        }
        let main = |c: &&mut Container| c.pid() == Some(pid);
        if let Some(container) = self.containers.values_mut().find(main) {
            container.ended(&self.context, code, signal);
            let id = container.status.id.clone();
            self.announce(&id);
        }
        self.exec_ended(pid, code);
        true
    }

    fn exec_ended(&mut self, pid: Pid, code: i32) {
        for id in self.in_role(|role| *role == Role::Exec(pid)) {
            self.set_role(id, Role::Answered);
            self.send(id, Reply::Exited { code }, Vec::new());
        }
    }

    fn in_role(&self, wanted: impl Fn(&Role) -> bool) -> Vec<u64> {
        self.connections.iter().filter(|(_, c)| wanted(&c.role)).map(|(id, _)| *id).collect()
    }

    fn tell_subscribers(&mut self, reply: impl Fn() -> Reply) {
        for id in self.in_role(|role| *role == Role::Subscriber) {
            self.send(id, reply(), Vec::new());
        }
    }

    /// Tells those who wait for a container and the subscribers that it has ended.
    fn announce(&mut self, container: &str) {
        let Some(status) = self.containers.get(container).map(|c| c.status.clone()) else {
            return;
        };
        self.tell_subscribers(|| Reply::Event { container: container.to_string() });
        for id in self.in_role(|role| matches!(role, Role::Waiting(waited) if waited == container)) {
            self.set_role(id, Role::Answered);
            self.send(id, Reply::Container(Box::new(status.clone())), Vec::new());
        }
    }

    fn tell_past_events(&mut self, connection: u64) {
        let ended = self.containers.values().filter(|c| c.status.state == ContainerState::Exited);
        for container in ended.map(|c| c.status.id.clone()).collect::<Vec<_>>() {
            self.send(connection, Reply::Event { container }, Vec::new());
        }
    }

    fn send(&mut self, id: u64, reply: Reply, fds: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output.push_back((encode(&reply), fds));
            self.write(id);
        }
    }

    fn write(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut open = true;
        while let Some((bytes, fds)) = connection.output.front_mut() {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            match sys::send_with_fds(&connection.stream, bytes, &raw) {
                Ok(n) => {
                    // They went with the first bytes.
                    fds.clear();
                    bytes.drain(..n);
                    if bytes.is_empty() {
                        connection.output.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if !open || (connection.output.is_empty() && connection.role == Role::Answered) {
            self.connections.remove(&id);
        }
    }
}

fn done() -> (Reply, Vec<OwnedFd>) {
    (Reply::Done, Vec::new())
}

fn streams(ends: [Option<OwnedFd>; 3], tty: bool) -> (Reply, Vec<OwnedFd>) {
    let [stdin, stdout, stderr] = ends.each_ref().map(Option::is_some);
    (Reply::Streams { stdin, stdout, stderr, tty }, ends.into_iter().flatten().collect())
}
