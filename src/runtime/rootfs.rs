//! What the runtime needs of an image: its unpacked layers and its configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A root file system to be: read-only layers and how the image wants to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Unpacked layers, the topmost first. Whiteouts are in overlayfs' own format.
    pub lower: Vec<PathBuf>,
    /// How the image wants to be run.
    pub config: ImageConfig,
}

/// The part of an image's configuration that containers follow (OCI image specification, `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, or program and arguments without an entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Working directory; empty is `/`.
    pub working_dir: String,
    /// Signal that asks the program to stop, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Directories that can be written even if the root file system cannot.
    #[serde(default)]
    pub volumes: Vec<String>,
}
