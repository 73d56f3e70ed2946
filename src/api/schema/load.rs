//! Reads the built-in schemas as `build/encode.rs` wrote them.

use std::borrow::Cow;

use super::tree::{DefinitionNode, FieldNode, Kind, ListKind, ListNode, Node, ObjectNode, Text, Tree};
use crate::api::identity::GroupVersionKind;

static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin.schema"));

/// Reads LEB128 numbers and bytes. The file is the build script's: what it says is right.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn number(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.byte();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.number();
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        &self.bytes[self.at..]
    }
}

/// The tree of the built-in kinds.
pub(super) fn builtin() -> Tree {
    let mut r = Reader::new(FILE);
    let mut end = 0;
    let texts: Vec<Text> = r.list(|r| {
        let start = end;
        end += r.number();
        (start, end)
    });
    let text = std::str::from_utf8(&r.rest()[..end as usize]).expect("the build script writes UTF-8");
    r.at += end as usize;
    let nodes = r.list(|r| node(r, &texts));
    let fields = r.list(|r| FieldNode {
        name: texts[r.number() as usize],
        node: r.number(),
        flags: r.byte(),
        number: r.number(),
        default: texts[r.number() as usize],
    });
    let definitions = r.list(|r| DefinitionNode { name: texts[r.number() as usize], node: r.number() });
    let kinds = r.list(|r| {
        let [group, version, kind] = [(); 3].map(|()| {
            let (start, end) = texts[r.number() as usize];
            &text[start as usize..end as usize]
        });
        Kind { id: GroupVersionKind::new(group, version, kind), node: r.number() }
    });
    Tree { text: Cow::Borrowed(text), nodes, fields, definitions, kinds, typed: true }
}

fn node(r: &mut Reader<'_>, texts: &[Text]) -> Node {
    match r.byte() {
        1 => Node::String { bytes: r.byte() == 1 },
        2 => Node::Integer { bits: r.byte() },
        3 => Node::Number,
        4 => Node::Bool,
        5 => Node::IntOrString,
        6 => Node::Quantity,
        7 => Node::Time,
        8 => Node::MicroTime,
        9 => Node::Object(ObjectNode {
            name: texts[r.number() as usize],
            first: r.number(),
            count: r.number(),
            atomic: r.byte() == 1,
            open: false,
            embedded: false,
        }),
        10 => Node::Map { value: r.number(), atomic: r.byte() == 1 },
        11 => Node::List(ListNode {
            item: r.number(),
            kind: match r.byte() {
                1 => ListKind::Set,
                2 => ListKind::Map,
                _ => ListKind::Atomic,
            },
            keys: r.list(|r| texts[r.number() as usize]),
            merge: r.byte() == 1,
            merge_key: texts[r.number() as usize],
        }),
        12 => Node::AnyObject,
        _ => Node::Any,
    }
}
