//! `kedge demo`: a web page for the demonstration's pods, so that a machine without a registry has
//! something to run. Blocking and single-threaded: it answers a person, in a few hundred KiB.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use clap::Args;

use super::Error;

/// A client that sends nothing must not keep others waiting.
const PATIENCE: Duration = Duration::from_secs(2);
/// More of a request than this is not read.
const MAX_REQUEST: u64 = 16 << 10;

/// Flags of `kedge demo`.
#[derive(Args, Debug)]
pub struct DemoOptions {
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Serves until the process is ended.
///
/// # Errors
/// The port cannot be listened on.
pub fn run(options: &DemoOptions) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.port))
        .map_err(|e| format!("cannot listen on port {}: {e}; choose another with --port", options.port))?;
    let host = nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default();
    println!("{host}: serving on port {}", options.port);
    for stream in listener.incoming() {
        if let Err(error) = stream.and_then(|s| answer(s, &host)) {
            eprintln!("{host}: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, host: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new((&stream).take(MAX_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The header is read to its end: closing with unread input would reset the connection.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/" | "/healthz") => ("200 OK", format!("kedge works: hello from pod {host}\n")),
        ("GET" | "HEAD", _) => ("404 Not Found", format!("there is nothing at {path}; try /\n")),
        _ => ("405 Method Not Allowed", "only GET and HEAD are answered\n".to_owned()),
    };
    println!("{method} {path} {status}");
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n")?;
    write!(stream, "Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let address = listener.local_addr().expect("address");
        let server = std::thread::spawn(move || answer(listener.accept().expect("accept").0, "pod-1"));
        let mut client = TcpStream::connect(address).expect("connect");
        client.write_all(text.as_bytes()).expect("send");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("receive");
        server.join().expect("no panic").expect("answered");
        reply
    }

    #[test]
    fn the_page_names_its_pod() {
        let reply = request("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.ends_with("hello from pod pod-1\n"), "{reply}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        assert!(request("GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(request("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(request("HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    }
}
