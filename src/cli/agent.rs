//! `kedge agent`: a node that joins a server.

use super::Error;
use crate::config::{Layers, NodeSettings};

/// Checks the settings and says that joining is not there yet.
///
/// # Errors
/// Always: settings that cannot be used, or that this release cannot join a server.
pub fn run(layers: Layers) -> Result<(), Error> {
    NodeSettings::resolve(&layers)?;
    match (layers.last("server"), layers.last("token")) {
        (None, _) => {
            Err("--server is missing: the URL of the server to join, such as https://192.168.1.2:6443".into())
        }
        (_, None) => Err("--token is missing: it lies in DATA/server/token on the server".into()),
        (Some(url), Some(_)) => Err(format!(
            "joining {url} is not there yet: this release runs a node only inside `kedge server`"
        )
        .into()),
    }
}
