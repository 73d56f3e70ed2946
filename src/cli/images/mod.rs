//! `kedge images`: the node's images. A running server is asked over a socket in its run-time
//! directory, since one process at a time works on the image store; without one, the store is opened here.

mod client;
mod local;
pub mod service;
mod show;
mod source;
mod wire;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::options::DataDir;
use super::{Error, require_root};
use wire::Request;

/// Flags of `kedge images`.
#[derive(Args, Debug)]
pub struct ImagesOptions {
    #[command(subcommand)]
    command: ImagesCommand,
}

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Take all images of an OCI or Docker archive, compressed or not
    Import {
        #[command(flatten)]
        data_dir: DataDir,
        /// Name of the archive's only image, instead of the one it has
        #[arg(long)]
        name: Option<String>,
        /// The archive; `-` is standard input
        #[arg(required = true)]
        archive: Vec<PathBuf>,
    },
    /// Write an archive of images, for `docker load` and `kedge images import`
    Export {
        #[command(flatten)]
        data_dir: DataDir,
        /// File to write; `-` is standard output
        #[arg(short, long, default_value = "-")]
        output: PathBuf,
        /// Names or ids
        #[arg(required = true)]
        image: Vec<String>,
    },
    /// Show all that is known of an image, as JSON
    Inspect {
        #[command(flatten)]
        data_dir: DataDir,
        /// Names or ids
        #[arg(required = true)]
        image: Vec<String>,
    },
    /// Remove all images that no container uses
    Prune {
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// List the node's images
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        data_dir: DataDir,
        /// Only ids
        #[arg(short, long, conflicts_with = "output")]
        quiet: bool,
        /// `table`, or `json` in the form of `crictl images`
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images by name or id
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        data_dir: DataDir,
        /// Names or ids
        #[arg(required = true)]
        image: Vec<String>,
    },
    /// Pull images from their registries
    Pull {
        #[command(flatten)]
        data_dir: DataDir,
        /// User name and password for the registry
        #[arg(
            short,
            long,
            value_name = "NAME:PASSWORD",
            env = "KEDGE_REGISTRY_USER",
            hide_env_values = true
        )]
        user: Option<String>,
        /// Names, such as `nginx:1.24` or `registry.example:5000/team/app:2`
        #[arg(required = true)]
        image: Vec<String>,
    },
}

/// How a list is printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Output {
    #[default]
    Table,
    Json,
}

/// Runs the sub-command.
///
/// # Errors
/// A right is missing, an archive or name is of no use, or a registry refuses; the first one ends it.
pub fn run(options: ImagesOptions) -> Result<(), Error> {
    require_root("kedge images")?;
    match options.command {
        ImagesCommand::Import { data_dir, name, archive } => {
            for path in archive {
                client::import(&data_dir.path(), &path, name.as_deref())?;
            }
        }
        ImagesCommand::Export { data_dir, output, image } => {
            local::export(&known(&data_dir)?, &image, &output)?;
        }
        ImagesCommand::Inspect { data_dir, image } => local::inspect(&known(&data_dir)?, &image)?,
        ImagesCommand::Prune { data_dir } => client::ask(&known(&data_dir)?, &Request::Prune)?,
        ImagesCommand::List { data_dir, quiet: true, .. } => local::ids(&known(&data_dir)?)?,
        ImagesCommand::List { data_dir, output: Output::Json, .. } => local::json(&known(&data_dir)?)?,
        ImagesCommand::List { data_dir, .. } => client::ask(&known(&data_dir)?, &Request::List)?,
        ImagesCommand::Rm { data_dir, image } => {
            for name in image {
                client::ask(&known(&data_dir)?, &Request::Remove { name })?;
            }
        }
        ImagesCommand::Pull { data_dir, user, image } => {
            let user = user.as_deref().map(credentials).transpose()?;
            for name in image {
                client::ask(&data_dir.path(), &Request::Pull { name, user: user.clone() })?;
            }
        }
    }
    Ok(())
}

/// The data directory, which a mistyped name must not make.
fn known(data_dir: &DataDir) -> Result<PathBuf, Error> {
    let path = data_dir.path();
    if path.join("agent").is_dir() {
        return Ok(path);
    }
    Err(format!("{} has no images of kedge yet: is --data-dir right?", path.display()).into())
}

fn credentials(text: &str) -> Result<(String, String), Error> {
    let (name, password) = text.split_once(':').ok_or("--user: expected NAME:PASSWORD")?;
    Ok((name.to_owned(), password.to_owned()))
}
