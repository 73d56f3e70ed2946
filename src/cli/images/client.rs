//! The asking side of `kedge images`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::super::installation::{images_socket, server_pid_file};
use super::super::pidfile::PidFile;
use super::wire::{Answer, Request};
use super::{Error, service, show};
use crate::config::Instance;

/// Asks something that needs no archive, and shows the answer.
///
/// # Errors
/// What the server, or the image store opened here, answers.
pub fn ask(data_dir: &Path, request: &Request) -> Result<(), Error> {
    run(data_dir, request, None, request_name(request))
}

/// Imports an archive, `-` being standard input.
///
/// # Errors
/// The file cannot be read or is no archive of images; it is named.
pub fn import(data_dir: &Path, path: &Path) -> Result<(), Error> {
    let source: Box<dyn Read + Send> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?),
    };
    run(data_dir, &Request::Import, Some(source), &path.display().to_string())
}

fn request_name(request: &Request) -> &str {
    match request {
        Request::Remove { name } | Request::Pull { name, .. } => name,
        Request::Import | Request::List => "",
    }
}

fn run(
    data_dir: &Path,
    request: &Request,
    archive: Option<Box<dyn Read + Send>>,
    what: &str,
) -> Result<(), Error> {
    let instance = Instance::of(data_dir);
    let mut shown = show::Shown::new(request);
    let answered = if PidFile::holder(&server_pid_file(&instance)).is_some() {
        ask_server(&instance, request, archive, &mut |answer| shown.add(answer))
    } else {
        service::answer_here(data_dir, request.clone(), archive, &mut |answer| shown.add(answer))
    };
    answered.map_err(|e| if what.is_empty() { e } else { format!("{what}: {e}").into() })
}

fn ask_server(
    instance: &Instance,
    request: &Request,
    archive: Option<Box<dyn Read + Send>>,
    show: &mut dyn FnMut(Answer),
) -> Result<(), Error> {
    let path = images_socket(instance);
    let mut stream = UnixStream::connect(&path).map_err(|e| {
        format!("the server at {} does not answer: {e}; is it still starting?", path.display())
    })?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    // A server that refuses early closes its end: its answer says why, not the broken pipe here.
    let sent = archive.map(|mut archive| std::io::copy(&mut archive, &mut stream));
    let _ = stream.shutdown(Shutdown::Write);
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Answer::Error(error) => return Err(error.into()),
            answer => show(answer),
        }
    }
    sent.transpose()?;
    Ok(())
}
