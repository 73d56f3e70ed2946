//! The nf_tables back end.

mod compile;
mod layout;
mod plan;

use std::collections::BTreeMap;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{ServiceProxyConfig, table_name};
use crate::network::conntrack;
use crate::network::netlink::Socket;
use crate::network::nft::{Batch, Data, Timed, dump_table, elements, timed_elements};
use crate::network::table::ServiceTable;
use layout::{AFFINITY, Set};
pub use plan::Changes;
use plan::{Forget, Plan};

/// Serves Services by a table of its own.
#[derive(Debug)]
pub struct Backend {
    config: ServiceProxyConfig,
    table: String,
    socket: Socket,
    /// What the kernel has; `None` before the first time.
    plan: Option<Plan>,
}

impl Backend {
    /// Opens a socket; the kernel is not changed yet.
    pub fn open(config: ServiceProxyConfig) -> io::Result<Self> {
        let table = table_name(&config.nft_table);
        Ok(Self { config, table, socket: Socket::open(NETLINK_NETFILTER)?, plan: None })
    }

    /// The netlink port of its changes.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Finds out what is to be changed for `services` to be served, for [`Backend::commit`], without
    /// the kernel. `None`: all of it.
    pub fn prepare(&mut self, services: &ServiceTable) -> Option<Changes> {
        if let Some(plan) = &mut self.plan {
            return Some(plan.advance(services));
        }
        self.plan.insert(Plan::default()).advance(services);
        None
    }

    /// Makes the kernel what [`Backend::prepare`] said. If the table is not what it should be, as
    /// after a foreign change, it is written anew, at once as well.
    pub fn commit(&mut self, changes: Option<Changes>) -> io::Result<()> {
        let Some(changes) = changes else {
            return self.rebuild();
        };
        let mut batch = Batch::new(&self.table);
        write(&changes, &mut batch, &self.config);
        if let Err(error) = batch.commit(&mut self.socket) {
            tracing::warn!(%error, table = self.table, "the table of Services is not as expected; writing it anew");
            self.rebuild()?;
        }
        self.forget(&changes.forget)?;
        conntrack::remove_stale(&changes.stale);
        Ok(())
    }

    /// Removes the memory of clients that stick to endpoints that are gone. Elements end by themselves
    /// too, upon which the kernel refuses to remove them: then it is looked at again.
    fn forget(&mut self, frontends: &[Forget]) -> io::Result<()> {
        const TRIES: usize = 20;
        if frontends.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let all = elements(&mut self.socket, &self.table, AFFINITY.name)?;
            let gone: Vec<_> = all
                .into_iter()
                .filter(|(key, endpoint)| {
                    // The client comes first in the key.
                    let frontend = key.get(4..).unwrap_or_default();
                    frontends.iter().any(|f| f.frontend == frontend && !f.live.contains(endpoint))
                })
                .map(|(key, _)| (key, Data::None))
                .collect();
            let mut batch = Batch::new(&self.table);
            batch.delete_elements(AFFINITY.name, &gone);
            match batch.commit(&mut self.socket) {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                other => return other,
            }
        }
        Err(io::Error::other("clients' endpoints end faster than they can be removed"))
    }

    /// Writes the whole table in the place of what is there. Clients keep the endpoints they stick to,
    /// also those of a process before this one.
    fn rebuild(&mut self) -> io::Result<()> {
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let sticky = plan.sticky();
        let mut memory = timed_elements(&mut self.socket, &self.table, AFFINITY.name).unwrap_or_default();
        memory.retain(|element| {
            // The client comes first in the key.
            let live = element.key.get(4..).and_then(|frontend| sticky.get(frontend));
            live.is_some_and(|live| live.contains(&element.data))
        });
        let everything = plan.everything();
        let mut done = self.replace(&everything, &memory);
        if done.is_err() && !memory.is_empty() {
            done = self.replace(&everything, &[]);
        }
        if done.is_err() {
            // What the kernel has is not known: begin anew next time.
            self.plan = None;
        }
        done
    }

    fn replace(&mut self, everything: &Changes, memory: &[Timed]) -> io::Result<()> {
        let mut batch = Batch::new(&self.table);
        // Deleting fails on a table that is not there; adding does not on one that is.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        layout::add_frame(&mut batch, &self.config);
        write(everything, &mut batch, &self.config);
        batch.add_timed_elements(AFFINITY.name, memory);
        batch.commit(&mut self.socket)
    }

    /// Writes the table anew if it is not what it should be; true if it was not.
    pub fn restore(&mut self) -> io::Result<bool> {
        if self.plan.is_none() || self.is_right()? {
            return Ok(false);
        }
        self.rebuild()?;
        Ok(true)
    }

    /// Whether the kernel has all chains and elements, and no other.
    fn is_right(&mut self) -> io::Result<bool> {
        let Some(plan) = &self.plan else {
            return Ok(false);
        };
        let Some(table) = dump_table(&mut self.socket, &self.table)? else {
            return Ok(false);
        };
        let mut frame = Batch::new(&self.table);
        layout::add_frame(&mut frame, &self.config);
        let everything = plan.everything();
        write(&everything, &mut frame, &self.config);
        let rules: BTreeMap<_, _> =
            table.chains.iter().map(|(name, rules)| (name.clone(), rules.len())).collect();
        if rules != *frame.rules() {
            return Ok(false);
        }
        Ok(Set::ALL.into_iter().all(|set| {
            let wanted = everything.add.get(&set).map(Vec::as_slice).unwrap_or_default();
            table.sets.get(set.name()).is_some_and(|have| {
                have.len() == wanted.len()
                    && wanted.iter().all(|(key, data)| have.get(key).is_some_and(|d| *d == data.canonical()))
            })
        }))
    }

    /// Deletes the table. The next [`Backend::apply`] makes it again.
    pub fn remove(&mut self) -> io::Result<()> {
        self.plan = None;
        let mut batch = Batch::new(&self.table);
        batch.add_table();
        batch.delete_table();
        batch.commit(&mut self.socket)
    }
}

fn write(changes: &Changes, batch: &mut Batch, config: &ServiceProxyConfig) {
    for chain in &changes.add_chains {
        chain.add(batch, config);
    }
    for (set, elements) in &changes.delete {
        batch.delete_elements(set.name(), elements);
    }
    for (set, elements) in &changes.add {
        batch.add_elements(set.name(), elements);
    }
    for chain in &changes.delete_chains {
        batch.delete_chain(&chain.name());
    }
}
