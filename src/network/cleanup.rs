//! Removal of everything one installation made, for `kedge killall`.

use std::path::PathBuf;

use super::Result;

/// What an installation's network things are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Name of the bridge.
    pub bridge: String,
    /// Base name of the nf_tables tables.
    pub nft_table: String,
    /// Directory of the address reservations.
    pub state_dir: PathBuf,
}

/// Removes bridge, pod interfaces, tables and reservations of one installation, and nothing else.
/// What is not there is no error.
pub async fn cleanup(_names: &Names) -> Result<()> {
    todo!()
}
