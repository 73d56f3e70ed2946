//! Removal of everything one installation made, for `kedge killall`.

use std::fs;
use std::io;
use std::path::PathBuf;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::link::Links;
use super::netlink::Socket;
use super::nft::table_names;
use super::pod::{firewall, names, tables};
use super::{Error, Result, blocking, proxy};

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
pub async fn cleanup(names: &Names) -> Result<()> {
    let names = names.clone();
    blocking(move || {
        remove_links(&names).map_err(|source| Error::Kernel {
            doing: format!("remove the bridge {}", names.bridge),
            source,
        })?;
        remove_tables(&names).map_err(|source| Error::Kernel {
            doing: format!("remove the tables of {}", names.nft_table),
            source,
        })?;
        let addresses = names.state_dir.join("addresses");
        match fs::remove_dir_all(&addresses) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { path: addresses, source })
            }
            _ => Ok(()),
        }
    })
    .await
}

fn remove_links(names: &Names) -> io::Result<()> {
    let mut links = Links::open()?;
    links.delete_group(names::group(&names.bridge))?;
    if links.find(&names.bridge)?.is_some_and(|link| link.is_bridge) {
        links.delete(&names.bridge)?;
    }
    Ok(())
}

fn remove_tables(names: &Names) -> io::Result<()> {
    let mut socket = Socket::open(NETLINK_NETFILTER)?;
    let there = table_names(&mut socket)?;
    for table in [names.nft_table.clone(), proxy::table_name(&names.nft_table)] {
        if there.contains(&table) {
            tables::remove(&table).commit(&mut socket)?;
        }
    }
    firewall::remove(&mut socket, &names.bridge)
}
