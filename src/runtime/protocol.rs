//! What kedge and a shim say to each other: length-prefixed JSON over the shim's Unix socket.
//!
//! One connection carries one request and its reply; file descriptors travel with the reply. Three
//! requests keep the connection: [`Request::Subscribe`] is followed by events, [`Request::Exec`] by
//! the exit code, [`Request::Wait`] answers when the container has ended.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::rootfs::RootFs;
use super::spec::{ContainerSpec, ContainerStatus, ExecSpec, SandboxSpec};

/// A message is no longer than this; more is a broken peer.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// What a shim reads at its start and what a restarted kedge learns of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// What was asked for.
    pub spec: SandboxSpec,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// The runtime's persistent directory.
    pub root: PathBuf,
    /// The installation's cgroup.
    pub cgroup_root: String,
}

impl SandboxRecord {
    /// The pod's cgroup, from the root of the hierarchy, without a leading slash.
    pub fn cgroup(&self) -> String {
        let pod = self.spec.cgroup.trim_matches('/');
        let pod = if pod.is_empty() { &self.spec.id } else { pod };
        format!("{}/{pod}", self.cgroup_root.trim_matches('/'))
    }
}

/// What kedge asks a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Tell what happens on this connection from now on; containers that have ended are told again.
    Subscribe,
    /// Make a container.
    Create { spec: Box<ContainerSpec>, rootfs: RootFs },
    /// Execute its program.
    Start { id: String },
    /// Send a signal, `None` for the one that asks it to stop, to its first process or to all.
    Signal { id: String, signal: Option<i32>, all: bool },
    /// Answer when it has ended.
    Wait { id: String },
    /// Forget it; it is killed first.
    Remove { id: String },
    /// Run a process beside it.
    Exec { id: String, spec: ExecSpec },
    /// Kill the process this connection's `Exec` started.
    KillExec,
    /// Connect to its standard output and errors, and to its input if that is wanted.
    Attach { id: String, stdin: bool },
    /// Change the size of its terminal.
    Resize { id: String, cols: u16, rows: u16 },
    /// Open its log anew.
    ReopenLog { id: String },
    /// Kill everything, give up the namespaces and end.
    Stop,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Done; this is the container now.
    Container(Box<ContainerStatus>),
    /// Descriptors of standard input, output and error follow in this order, those that are `true`.
    Streams { stdin: bool, stdout: bool, stderr: bool, tty: bool },
    /// The exec ended.
    Exited { code: i32 },
    /// A container ended.
    Event { container: String },
    /// A container's log was moved away and begun anew.
    LogRotated { log: PathBuf },
    /// It could not be done.
    Failed(Failure),
}

/// Kinds of failure that callers tell apart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// No such container.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// Not in its present state.
    State { id: String, state: String, action: String },
    /// The specification is wrong.
    Invalid(String),
    /// The process could not be made or executed.
    Start(String),
    /// Anything else.
    Other(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound(id) => Error::ContainerNotFound(id),
            Failure::Exists(what) => Error::AlreadyExists(what),
            Failure::State { id, state, action } => Error::State { id, state, action },
            Failure::Invalid(why) => Error::Invalid(why),
            Failure::Start(why) => Error::Start(why),
            Failure::Other(why) => Error::Other(why),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ContainerNotFound(id) => Failure::NotFound(id),
            Error::AlreadyExists(what) => Failure::Exists(what),
            Error::State { id, state, action } => Failure::State { id, state, action },
            Error::Invalid(why) => Failure::Invalid(why),
            Error::Start(why) => Failure::Start(why),
            other => Failure::Other(other.to_string()),
        }
    }
}

/// A message as it goes over the socket.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).expect("messages have string keys and go to memory");
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Takes the first whole message off a buffer; `None` if more bytes are needed.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(buffer: &mut Vec<u8>) -> Result<Option<T>, Error> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_MESSAGE {
        return Err(Error::Other(format!("message of {length} bytes on a shim's socket")));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + length])
        .map_err(|e| Error::Other(format!("message on a shim's socket: {e}")))?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_come_in_any_pieces() {
        let mut wire = encode(&Request::Start { id: "a".into() });
        wire.extend(encode(&Request::Wait { id: "b".into() }));
        let mut buffer = Vec::new();
        let mut got = Vec::new();
        for byte in wire {
            buffer.push(byte);
            while let Some(message) = decode::<Request>(&mut buffer).unwrap() {
                got.push(format!("{message:?}"));
            }
        }
        assert_eq!(got, [r#"Start { id: "a" }"#, r#"Wait { id: "b" }"#]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode::<Request>(&mut b"\xff\xff\xff\xff".to_vec()).is_err());
        assert!(decode::<Request>(&mut b"\x02\0\0\0{}".to_vec()).is_err());
    }

    #[test]
    fn failures_keep_their_kind() {
        let error = Error::State { id: "c".into(), state: "exited".into(), action: "exec".into() };
        let text = error.to_string();
        let back = Error::from(Failure::from(error));
        assert!(matches!(back, Error::State { .. }));
        assert_eq!(back.to_string(), text);
    }

    #[test]
    fn a_pod_without_a_cgroup_gets_its_own() {
        let mut record = SandboxRecord {
            spec: SandboxSpec { id: "x".into(), ..Default::default() },
            created_at: 0,
            root: PathBuf::new(),
            cgroup_root: "/kedge".into(),
        };
        assert_eq!(record.cgroup(), "kedge/x");
        record.spec.cgroup = "/burstable/pod1/".into();
        assert_eq!(record.cgroup(), "kedge/burstable/pod1");
    }
}
