//! Where the parts of an installation find each other, and what several commands open.

use std::path::{Path, PathBuf};

use super::Error;
use crate::config::Instance;
use crate::runtime::images::{Images, RegistriesConfig};

/// Registry mirrors and credentials unless `--private-registry` says otherwise.
pub const DEFAULT_REGISTRIES: &str = "/etc/kedge/registries.yaml";

/// The file whose lock the server holds.
pub fn server_pid_file(instance: &Instance) -> PathBuf {
    instance.run_dir().join("server.pid")
}

/// The file whose lock the supervising process holds.
pub fn supervise_pid_file(instance: &Instance) -> PathBuf {
    instance.run_dir().join("supervise.pid")
}

/// The socket at which a server answers `kedge images`.
pub fn images_socket(instance: &Instance) -> PathBuf {
    instance.run_dir().join("images.sock")
}

/// The directory whose archives become images, as k3s has it.
pub fn images_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/images")
}

/// Opens the image store of a data directory.
///
/// # Errors
/// A store that cannot be read.
pub fn open_images(data_dir: &Path, registries: RegistriesConfig) -> Result<Images, Error> {
    Ok(Images::open(&data_dir.join("agent/image-store"), registries)?)
}
