//! The asking side of `kedge images`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::super::installation::{images_socket, server_pid_file};
use super::super::pidfile::PidFile;
use super::source::Source;
use super::wire::{Answer, FileId, Request};
use super::{Error, service, show};
use crate::config::Instance;

/// Asks something that needs no archive, and shows the answer.
///
/// # Errors
/// What the server, or the image store opened here, answers.
pub fn ask(data_dir: &Path, request: &Request) -> Result<(), Error> {
    run(data_dir, request, None, request_name(request))
}

/// Imports an archive, `-` being standard input; `name` is for its only image.
///
/// # Errors
/// The file cannot be read or is no archive of images; it is named.
pub fn import(data_dir: &Path, path: &Path, name: Option<&str>) -> Result<(), Error> {
    let name = name.map(str::to_owned);
    let (source, file) = match path.as_os_str() == "-" {
        true => (Source::Input, None),
        false => {
            let at = |e: std::io::Error| format!("{}: {e}", path.display());
            let file = File::open(path).map_err(at)?;
            let metadata = file.metadata().map_err(at)?;
            if metadata.is_dir() {
                return Err(at(std::io::ErrorKind::IsADirectory.into()).into());
            }
            let (path, id) = (path.canonicalize().map_err(at)?, (metadata.dev(), metadata.ino()));
            // A pipe is not there for another process.
            let id = metadata.is_file().then_some(FileId { path, id });
            (Source::File(file), id)
        }
    };
    run(data_dir, &Request::Import { name, file }, Some(source), &path.display().to_string())
}

fn request_name(request: &Request) -> &str {
    match request {
        Request::Remove { name } | Request::Pull { name, .. } => name,
        Request::Import { .. } | Request::List | Request::Prune => "",
    }
}

fn run(data_dir: &Path, request: &Request, archive: Option<Source>, what: &str) -> Result<(), Error> {
    let instance = Instance::of(data_dir);
    let mut shown = show::Shown::new(request);
    let answered = if PidFile::holder(&server_pid_file(&instance)).is_some() {
        ask_server(&instance, request, archive, &mut |answer| shown.add(answer))
    } else {
        service::answer_here(data_dir, request.clone(), archive, &mut |answer| shown.add(answer))
    };
    // What is wrong with one of several is told with its name, unless the error has it.
    answered.map_err(|e| match e.to_string() {
        text if text.contains(what) => e,
        text => format!("{what}: {text}").into(),
    })
}

fn ask_server(
    instance: &Instance,
    request: &Request,
    mut archive: Option<Source>,
    show: &mut dyn FnMut(Answer),
) -> Result<(), Error> {
    let path = images_socket(instance);
    let mut stream = UnixStream::connect(&path).map_err(|e| {
        format!("the server at {} does not answer: {e}; is it still starting?", path.display())
    })?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut sent = Ok(0);
    // A server that refuses early closes its end: its answer says why, not the broken pipe here.
    let mut send = |sent: &mut std::io::Result<u64>| {
        if let Some(mut archive) = archive.take() {
            *sent = std::io::copy(&mut archive, &mut &stream);
        }
        let _ = stream.shutdown(Shutdown::Write);
    };
    if !matches!(request, Request::Import { file: Some(_), .. }) {
        send(&mut sent);
    }
    for line in BufReader::new(stream.try_clone()?).lines() {
        match serde_json::from_str(&line?)? {
            Answer::Error(error) => return Err(error.into()),
            Answer::Send => send(&mut sent),
            answer => show(answer),
        }
    }
    sent?;
    Ok(())
}
