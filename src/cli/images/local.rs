//! What `kedge images` reads from the store itself: several processes may have it open.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::installation::open_images;
use super::Error;
use crate::runtime::images::{Images, RegistriesConfig};
use crate::runtime::spec::Image;

/// Nothing is pulled here.
fn open(data_dir: &Path) -> Result<Images, Error> {
    open_images(data_dir, RegistriesConfig::default())
}

/// Prints the ids of all images, one a line.
///
/// # Errors
/// The store cannot be read.
pub(super) fn ids(data_dir: &Path) -> Result<(), Error> {
    for image in open(data_dir)?.list() {
        println!("{}", image.id);
    }
    Ok(())
}

/// Prints all images as `crictl images -o json` does.
///
/// # Errors
/// The store cannot be read.
pub(super) fn json(data_dir: &Path) -> Result<(), Error> {
    let images = open(data_dir)?;
    let list: Vec<Value> = images.list().iter().map(|image| summary(&images, image)).collect();
    println!("{}", serde_json::to_string_pretty(&json!({ "images": list }))?);
    Ok(())
}

/// The image as the CRI writes it.
fn summary(images: &Images, image: &Image) -> Value {
    let pinned = images.history(&image.id).is_some_and(|(_, _, pinned)| pinned);
    let user = image.user.split(':').next().unwrap_or_default();
    let (uid, username) = match user.parse::<i64>() {
        Ok(uid) => (json!({"value": uid.to_string()}), ""),
        Err(_) => (Value::Null, user),
    };
    json!({"id": image.id, "repoTags": image.tags, "repoDigests": image.digests,
        "size": image.size.to_string(), "uid": uid, "username": username, "pinned": pinned})
}

/// Prints all that is known of images.
///
/// # Errors
/// There is no such image, or the store cannot be read.
pub(super) fn inspect(data_dir: &Path, names: &[String]) -> Result<(), Error> {
    let images = open(data_dir)?;
    let mut all = Vec::new();
    for name in names {
        let image = images.resolve(name).ok_or_else(|| format!("{name}: no such image"))?;
        let config = images.config(&image.id)?;
        let env: Vec<String> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut value = summary(&images, &image);
        let (added, used, _) = images.history(&image.id).unwrap_or_default();
        let time = |millis: u64| {
            let time = i64::try_from(millis).ok().filter(|m| *m > 0);
            time.and_then(|m| Timestamp::from_millisecond(m).ok()).map(|t| t.to_string())
        };
        value["added"] = json!(time(added));
        value["lastUsed"] = json!(time(used));
        value["layers"] = json!(images.layers(&image.id)?.into_iter().rev().collect::<Vec<_>>());
        value["config"] = json!({"Entrypoint": config.entrypoint, "Cmd": config.cmd, "Env": env,
            "User": config.user, "WorkingDir": config.working_dir, "StopSignal": config.stop_signal,
            "Volumes": config.volumes, "Labels": config.labels});
        all.push(value);
    }
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}

/// Writes an archive of images; `-` is standard output.
///
/// # Errors
/// There is no such image, or the file cannot be written: nothing is left of it then.
pub(super) fn export(data_dir: &Path, names: &[String], output: &Path) -> Result<(), Error> {
    let images = open(data_dir)?;
    if output.as_os_str() == "-" {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err("an archive is nothing for a terminal: use -o FILE, or a pipe".into());
        }
        return Ok(images.export(names, BufWriter::new(stdout.lock()))?);
    }
    let at = |e: std::io::Error| format!("{}: {e}", output.display());
    let mut file = BufWriter::new(File::create(output).map_err(at)?);
    let written = images.export(names, &mut file).map_err(Error::from);
    written.and_then(|()| Ok(file.flush().map_err(at)?)).inspect_err(|_| drop(std::fs::remove_file(output)))
}
