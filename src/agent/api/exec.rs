//! exec and attach: a process' streams at one end, a client's at the other.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::target::{Query, Target};
use super::upgrade::{Protocol, negotiate, switch};
use super::{Body, Refusal, answer, spdy, websocket};
use crate::agent::context::Context;
use crate::runtime::spec::ExecSpec;
use crate::runtime::{AttachSession, Error, ExecSession, Reader, Writer};

/// Bytes read from a process at once.
const CHUNK: usize = 32 << 10;
/// Messages between process and client that may wait; more hold the sender back.
const QUEUE: usize = 8;

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// From the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input has ended.
    End,
    /// Columns and rows.
    Resize(u16, u16),
}

/// To the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Bytes of standard output.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// How it ended; the last message.
    Status(Value),
}

/// A client, as a process sees it.
pub(super) struct Client {
    /// What it sends; closed when it is gone.
    pub input: mpsc::Receiver<Input>,
    /// What it is sent.
    pub output: mpsc::Sender<Output>,
}

/// The transport's end of a [`Client`].
pub(super) struct Wire {
    /// Where the client's messages go.
    pub input: mpsc::Sender<Input>,
    /// What is to be sent.
    pub output: mpsc::Receiver<Output>,
}

/// Both ends.
pub(super) fn pair() -> (Client, Wire) {
    let (to_process, input) = mpsc::channel(QUEUE);
    let (output, to_client) = mpsc::channel(QUEUE);
    (Client { input, output }, Wire { input: to_process, output: to_client })
}

/// Parses a terminal size as clients send it.
pub(super) fn parse_resize(data: &[u8]) -> Option<Input> {
    let value: Value = serde_json::from_slice(data).ok()?;
    let side = |name: &str| value[name].as_u64().and_then(|v| u16::try_from(v).ok());
    Some(Input::Resize(side("Width")?, side("Height")?))
}

/// Upgrades the connection and connects it to a new process (`exec`) or the container's own.
pub(super) fn serve(
    context: &Arc<Context>,
    request: Request<Incoming>,
    target: Target,
    query: &Query,
    exec: bool,
) -> Result<Response<Body>, Refusal> {
    let tty = query.flag(&["tty"]);
    let options = Options {
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        // A terminal has one output only.
        stderr: query.flag(&["error", "stderr"]) && !tty,
        tty,
    };
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let command = query.all("command");
    if exec && command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let protocol = negotiate(request.headers(), &websocket::PROTOCOLS, &spdy::exec::PROTOCOLS)?;
    let (context, chosen) = (Arc::clone(context), protocol.clone());
    let idle = context.settings.kubelet.streaming_connection_idle_timeout;
    switch(request, &protocol, idle, move |io| async move {
        let (client, wire) = pair();
        let process = async {
            if exec {
                run(&context, &target, command, options, client).await;
            } else {
                attach(&context, &target, options, client).await;
            }
        };
        let transport = async {
            match &chosen {
                Protocol::WebSocket(version) => websocket::exec(io, version, options, wire).await,
                Protocol::Spdy(version) => spdy::exec::serve(io, version, options, wire).await,
            }
        };
        // The transport ends when all is said, or when the client is gone; then the process is let go.
        let mut process = std::pin::pin!(process);
        let mut transport = std::pin::pin!(transport);
        tokio::select! {
            () = &mut transport => {}
            () = &mut process => transport.await,
        }
    })
}

/// Runs a command to its end and answers with its output: `/run`.
pub(super) async fn run_sync(
    context: &Context,
    target: &Target,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let command: Vec<String> =
        query.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let run = context.runtime.exec_sync(&target.id, &command, std::time::Duration::ZERO).await;
    let output = run.map_err(|e| Refusal::internal(e.to_string()))?;
    let text = [output.stdout, output.stderr].concat();
    if output.code != 0 {
        let text = String::from_utf8_lossy(&text).into_owned();
        return Err(Refusal::internal(format!(
            "{text}command '{}' exited with {}",
            command.join(" "),
            output.code
        )));
    }
    Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", text))
}

async fn run(context: &Context, target: &Target, command: Vec<String>, options: Options, client: Client) {
    let Options { stdin, tty, .. } = options;
    let spec = ExecSpec { command, tty, stdin, size: None };
    match context.runtime.exec(&target.id, &spec).await {
        Ok(session) => pump_exec(session, client).await,
        Err(error) => {
            let _ = client.output.send(Output::Status(failure(&error))).await;
        }
    }
}

async fn pump_exec(mut session: ExecSession, client: Client) {
    let Client { mut input, output } = client;
    let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
    let mut stdin = session.stdin.take();
    let outputs = async {
        tokio::join!(copy(stdout, &output, Output::Stdout), copy(stderr, &output, Output::Stderr));
    };
    // Beside the outputs, not in turn with them: a process that is not read from may not read either.
    let inputs = async {
        while let Some(message) = input.recv().await {
            match message {
                Input::Resize(cols, rows) => drop(session.resize(cols, rows)),
                message => feed(&mut stdin, message).await,
            }
        }
        std::future::pending::<()>().await;
    };
    // The process may end while something it left behind holds its output open: both are awaited, as
    // containerd does.
    tokio::select! {
        _ = outputs => {}
        () = inputs => {}
    }
    let status = match session.wait().await {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => exit_status(code),
        Err(error) => failure(&error),
    };
    let _ = output.send(Output::Status(status)).await;
}

async fn attach(context: &Context, target: &Target, options: Options, client: Client) {
    match context.runtime.attach(&target.id, options.stdin).await {
        Ok(session) => pump_attach(session, options, client).await,
        Err(error) => {
            let _ = client.output.send(Output::Status(failure(&error))).await;
        }
    }
}

async fn pump_attach(mut session: AttachSession, options: Options, client: Client) {
    let Client { mut input, output } = client;
    let stdout = session.stdout.take().filter(|_| options.stdout);
    let stderr = session.stderr.take().filter(|_| options.stderr);
    let mut stdin = session.stdin.take();
    let outputs = async {
        tokio::join!(copy(stdout, &output, Output::Stdout), copy(stderr, &output, Output::Stderr));
    };
    let inputs = async {
        while let Some(message) = input.recv().await {
            match message {
                Input::Resize(cols, rows) => drop(session.resize(cols, rows).await),
                message => feed(&mut stdin, message).await,
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = outputs => {}
        () = inputs => {}
    }
    let _ = output.send(Output::Status(json!({"metadata": {}, "status": "Success"}))).await;
}

async fn feed(stdin: &mut Option<Writer>, message: Input) {
    match (message, stdin.as_mut()) {
        (Input::Stdin(data), Some(writer)) => {
            let written = async {
                writer.write_all(&data).await?;
                writer.flush().await
            };
            let written = written.await;
            // A process that reads no more is no failure of the session's.
            *stdin = stdin.take().filter(|_| written.is_ok());
        }
        (Input::End, Some(writer)) => {
            let _ = writer.shutdown().await;
            *stdin = None;
        }
        _ => {}
    }
}

/// Sends what a stream gives until it ends or the client is gone.
async fn copy(stream: Option<Reader>, output: &mpsc::Sender<Output>, wrap: fn(Bytes) -> Output) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await {
            // A terminal whose last process ended gives an error.
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if output.send(wrap(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The Status of a command that ended with `code`.
fn exit_status(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// The Status of a command that could not be run.
fn failure(error: &Error) -> Value {
    // People and programs look for runc's words.
    let why = match error {
        Error::Start(why) => format!(
            "failed to exec in container: OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
        ),
        other => other.to_string(),
    };
    let why = format!("error executing command in container: {why}");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_statuses() {
        assert_eq!(parse_resize(br#"{"Width":80,"Height":24}"#), Some(Input::Resize(80, 24)));
        assert_eq!(parse_resize(b"no"), None);
        let status = exit_status(3);
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    }

    #[tokio::test]
    async fn a_process_that_does_not_read_is_read_from_all_the_same() {
        let (client, mut wire) = pair();
        let Client { mut input, output } = client;
        // Nobody reads the other end: the second message cannot be written.
        let (stuck, _other_end) = tokio::io::duplex(1);
        let mut stdin: Option<Writer> = Some(Box::new(stuck));
        let reader: Reader = Box::new(std::io::Cursor::new(vec![7u8; 3]));
        let inputs = async {
            while let Some(message) = input.recv().await {
                feed(&mut stdin, message).await;
            }
        };
        wire.input.send(Input::Stdin(Bytes::from_static(b"more than fits"))).await.expect("sent");
        let outputs = copy(Some(reader), &output, Output::Stdout);
        tokio::select! {
            () = outputs => {}
            () = inputs => panic!("it cannot be written"),
        }
        assert_eq!(wire.output.recv().await, Some(Output::Stdout(Bytes::from_static(&[7; 3]))));
    }

    #[tokio::test]
    async fn a_stream_is_copied_to_its_end() {
        let (client, mut wire) = pair();
        let reader: Reader = Box::new(std::io::Cursor::new(vec![7u8; CHUNK + 1]));
        let copying = copy(Some(reader), &client.output, Output::Stdout);
        let receiving = async {
            let mut total = 0;
            while total < CHUNK + 1 {
                let Some(Output::Stdout(data)) = wire.output.recv().await else { panic!("stdout") };
                total += data.len();
            }
            total
        };
        let ((), total) = tokio::join!(copying, receiving);
        assert_eq!(total, CHUNK + 1);
    }
}
