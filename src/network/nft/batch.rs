//! Atomic batches of changes to one table.

use std::collections::BTreeMap;
use std::io;

use crate::network::netlink::{ACK, Attrs, CREATE, EXCL, REQUEST, Socket, message};

use super::expr::Rule;
use super::set::{Data, SetSpec, Timed, write_element};
use super::{
    DEL_CHAIN, DEL_ELEMENT, DEL_RULE, DEL_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE,
};
use super::{header, kind};

/// `NFNL_MSG_BATCH_BEGIN` and `_END`, and the subsystem they are for.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// Elements of one message: a nested attribute holds 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 500;

/// Where in the packet's way a base chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// To this machine.
    Input = 1,
    /// Through this machine.
    Forward = 2,
    /// From this machine.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// How a base chain is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// Its hook.
    pub hook: Hook,
    /// Its place among the chains of the hook; lower is earlier.
    pub priority: i32,
}

/// Changes to one table that happen together or not at all.
#[derive(Debug)]
pub struct Batch {
    table: String,
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
    sets: u32,
    /// How many rules each chain it adds will have.
    rules: BTreeMap<String, usize>,
}

impl Batch {
    /// No changes yet to the table of this name.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            bytes: Vec::new(),
            starts: Vec::new(),
            sets: 0,
            rules: BTreeMap::new(),
        }
    }

    /// The chains it adds, with the number of their rules.
    pub fn rules(&self) -> &BTreeMap<String, usize> {
        &self.rules
    }

    fn add(&mut self, message_kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>, &str)) {
        self.starts.push(self.bytes.len());
        let table = &self.table;
        message(&mut self.bytes, kind(message_kind), flags | REQUEST, 0, |out| {
            header(out, 0);
            body(out, table);
        });
    }

    /// Makes the table if it is not there.
    pub fn add_table(&mut self) {
        self.add(NEW_TABLE, CREATE, |o, table| {
            o.text(1, table).be32(2, 0);
        });
    }

    /// Removes the table and all in it. Fails if it is not there.
    pub fn delete_table(&mut self) {
        self.add(DEL_TABLE, 0, |o, table| {
            o.text(1, table);
        });
    }

    /// Makes a chain; with a base, packets come to it by themselves.
    pub fn add_chain(&mut self, name: &str, base: Option<Base>) {
        self.rules.insert(name.to_owned(), 0);
        self.add(NEW_CHAIN, CREATE | EXCL, |o, table| {
            o.text(1, table).text(3, name);
            if let Some(base) = base {
                o.nest(4, |h| {
                    h.be32(1, base.hook as u32).bytes(2, &base.priority.to_be_bytes());
                });
                o.be32(5, 1).text(7, base.kind);
            }
        });
    }

    /// Removes a chain with its rules. Fails if something leads to it.
    pub fn delete_chain(&mut self, name: &str) {
        self.add(DEL_CHAIN, 0, |o, table| {
            o.text(1, table).text(3, name);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        *self.rules.entry(chain.to_owned()).or_default() += 1;
        self.add(NEW_RULE, CREATE | crate::network::netlink::APPEND, |o, table| {
            o.text(1, table).text(2, chain);
            rule.write(o);
        });
    }

    /// Puts a rule at the beginning of a chain. `tag` is kept with it, so that it is found again.
    pub fn insert_rule(&mut self, chain: &str, rule: &Rule, tag: &[u8]) {
        self.add(NEW_RULE, CREATE, |o, table| {
            o.text(1, table).text(2, chain);
            rule.write(o);
            o.bytes(7, tag);
        });
    }

    /// Removes a rule by the number the kernel gave it.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.add(DEL_RULE, 0, |o, table| {
            o.text(1, table).text(2, chain).be64(3, handle);
        });
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, spec: &SetSpec) {
        self.sets += 1;
        let id = self.sets;
        self.add(NEW_SET, CREATE | EXCL, |o, table| spec.write(o, table, id));
    }

    /// Adds elements to a set or map.
    pub fn add_elements(&mut self, set: &str, elements: &[(Vec<u8>, Data)]) {
        self.elements(NEW_ELEMENT, CREATE | EXCL, set, elements);
    }

    /// Adds elements to a dynamic map.
    pub fn add_timed_elements(&mut self, set: &str, elements: &[Timed]) {
        self.write_elements(NEW_ELEMENT, CREATE | EXCL, set, elements, |list, element| element.write(list));
    }

    /// Removes elements of a set or map. Fails if one is not there.
    pub fn delete_elements(&mut self, set: &str, elements: &[(Vec<u8>, Data)]) {
        self.elements(DEL_ELEMENT, 0, set, elements);
    }

    fn elements(&mut self, message_kind: u16, flags: u16, set: &str, elements: &[(Vec<u8>, Data)]) {
        self.write_elements(message_kind, flags, set, elements, |list, (key, data)| {
            write_element(list, key, data);
        });
    }

    fn write_elements<T>(
        &mut self,
        message_kind: u16,
        flags: u16,
        set: &str,
        elements: &[T],
        write: impl Fn(&mut Vec<u8>, &T),
    ) {
        for chunk in elements.chunks(ELEMENTS_A_MESSAGE) {
            self.add(message_kind, flags, |o, table| {
                o.text(1, table).text(2, set).nest(3, |list| {
                    for element in chunk {
                        write(list, element);
                    }
                });
            });
        }
    }

    /// Does all of it, or nothing. The error is that of the first change the kernel refused.
    pub fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        let Some(&last) = self.starts.last() else {
            return Ok(());
        };
        let mut out = Vec::with_capacity(self.bytes.len() + 40);
        let first_seq = socket.next_seq();
        message(&mut out, BEGIN, REQUEST, first_seq, |o| header(o, SUBSYSTEM));
        let mut last_seq = first_seq;
        for start in &self.starts {
            last_seq = socket.next_seq();
            self.bytes[start + 8..start + 12].copy_from_slice(&last_seq.to_ne_bytes());
        }
        let flags = u16::from_ne_bytes([self.bytes[last + 6], self.bytes[last + 7]]) | ACK;
        self.bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
        out.append(&mut self.bytes);
        message(&mut out, END, REQUEST, socket.next_seq(), |o| header(o, SUBSYSTEM));
        socket.send(&out)?;
        socket.acknowledged(first_seq, last_seq)
    }
}
