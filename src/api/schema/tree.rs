//! The types of a group of kinds, compact: nodes refer to each other and to names by number.

use std::borrow::Cow;

use crate::api::identity::GroupVersionKind;

/// In the trees of custom kinds, the node of what nothing is known of.
pub(super) const ANYTHING: u32 = 0;

/// A name within a tree's text.
pub(super) type Text = (u32, u32);

/// How server-side apply treats the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// The list is one value.
    Atomic,
    /// Its items are distinct scalars, each a value of its own.
    Set,
    /// Its items are objects told apart by keys.
    Map,
}

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Node {
    /// Anything.
    Any,
    /// Text; base64 if `bytes`.
    String {
        /// Whether it is base64 of bytes.
        bytes: bool,
    },
    /// A whole number of 32 or 64 bits.
    Integer {
        /// How many.
        bits: u8,
    },
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A whole number or text.
    IntOrString,
    /// An amount of a resource; text or a number.
    Quantity,
    /// `meta/v1.Time`.
    Time,
    /// `meta/v1.MicroTime`.
    MicroTime,
    /// An object with any fields: RawExtension, FieldsV1.
    AnyObject,
    /// An object with known fields.
    Object(ObjectNode),
    /// Text to values of one type.
    Map {
        /// The type of the values.
        value: u32,
        /// Whether server-side apply sets it as a whole.
        atomic: bool,
    },
    /// A list of values of one type.
    List(ListNode),
}

/// An object with known fields.
#[derive(Clone, Debug)]
pub struct ObjectNode {
    pub(super) name: Text,
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) atomic: bool,
    /// Whether fields it does not know are kept.
    pub(super) open: bool,
    /// Whether it is a whole object, with `apiVersion`, `kind` and `metadata`.
    pub(super) embedded: bool,
}

/// A list.
#[derive(Clone, Debug)]
pub struct ListNode {
    pub(super) item: u32,
    pub(super) kind: ListKind,
    pub(super) keys: Vec<Text>,
    pub(super) merge: bool,
    pub(super) merge_key: Text,
}

#[derive(Clone, Debug)]
pub(super) struct FieldNode {
    pub(super) name: Text,
    pub(super) node: u32,
    pub(super) flags: u8,
    pub(super) number: u32,
    pub(super) default: Text,
}

/// A named type, as OpenAPI lists it.
#[derive(Clone, Debug)]
pub(super) struct DefinitionNode {
    pub(super) name: Text,
    pub(super) node: u32,
}

/// A kind and the node of its objects.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its identity.
    pub id: GroupVersionKind,
    pub(super) node: u32,
}

impl Kind {
    /// The number of its type in the tree; see [`NodeRef::id`].
    pub fn node_id(&self) -> u32 {
        self.node
    }
}

/// The types of a group of kinds.
#[derive(Debug)]
pub struct Tree {
    pub(super) text: Cow<'static, str>,
    pub(super) nodes: Vec<Node>,
    pub(super) fields: Vec<FieldNode>,
    pub(super) definitions: Vec<DefinitionNode>,
    pub(super) kinds: Vec<Kind>,
    /// Whether objects behave like upstream's Go types: an empty list or map is as good as none.
    pub(super) typed: bool,
}

impl Tree {
    /// The kinds.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The named types, ordered by name.
    pub fn definitions(&self) -> impl Iterator<Item = Definition<'_>> {
        (0..self.definitions.len()).map(|index| Definition { tree: self, index })
    }

    /// Whether it is the tree of the built-in kinds, whose descriptions [`super::Docs`] holds.
    pub fn is_builtin(&self) -> bool {
        self.typed
    }

    /// The named type whose last part is this, as in `JSONSchemaProps`.
    pub fn named(&self, short: &str) -> Option<NodeRef<'_>> {
        self.definitions().find(|d| d.name().rsplit('.').next() == Some(short)).map(Definition::node)
    }

    pub(super) fn node(&self, id: u32) -> NodeRef<'_> {
        NodeRef { tree: self, id }
    }

    pub(super) fn text(&self, text: Text) -> &str {
        &self.text[text.0 as usize..text.1 as usize]
    }
}

/// A named type.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'t> {
    pub(super) tree: &'t Tree,
    pub(super) index: usize,
}

impl<'t> Definition<'t> {
    /// Its name, as in `io.k8s.api.core.v1.Pod`.
    pub fn name(self) -> &'t str {
        self.tree.text(self.tree.definitions[self.index].name)
    }

    /// Its type.
    pub fn node(self) -> NodeRef<'t> {
        self.tree.node(self.tree.definitions[self.index].node)
    }

    /// Its place among the tree's definitions.
    pub fn index(self) -> usize {
        self.index
    }
}

/// A type within its tree.
#[derive(Clone, Copy)]
pub struct NodeRef<'t> {
    tree: &'t Tree,
    id: u32,
}

impl std::fmt::Debug for NodeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.node())
    }
}

impl<'t> NodeRef<'t> {
    /// The type.
    pub fn node(self) -> &'t Node {
        &self.tree.nodes[self.id as usize]
    }

    /// Its number in the tree: equal types of one tree mostly have equal numbers.
    pub fn id(self) -> u32 {
        self.id
    }

    /// The tree.
    pub fn tree(self) -> &'t Tree {
        self.tree
    }

    /// The fields of an object with known fields, ordered by name; none for other types.
    pub fn fields(self) -> impl Iterator<Item = Field<'t>> {
        let range = match self.node() {
            Node::Object(o) => o.first..o.first + o.count,
            _ => 0..0,
        };
        range.map(move |index| Field { tree: self.tree, index })
    }

    /// A known field of an object.
    pub fn field(self, name: &str) -> Option<Field<'t>> {
        let Node::Object(object) = self.node() else {
            return None;
        };
        let fields = &self.tree.fields[object.first as usize..(object.first + object.count) as usize];
        let found = fields.binary_search_by(|f| self.tree.text(f.name).cmp(name)).ok()?;
        Some(Field { tree: self.tree, index: object.first + found as u32 })
    }

    /// The type of the value under a key: a known field's, or a map's value's.
    pub fn child(self, key: &str) -> Option<NodeRef<'t>> {
        match self.node() {
            Node::Object(object) => {
                let kept = || object.open.then(|| self.tree.node(ANYTHING));
                self.field(key).map(Field::node).or_else(kept)
            }
            Node::Map { value, .. } => Some(self.tree.node(*value)),
            Node::Any if self.is_deduced() => Some(self),
            _ => None,
        }
    }

    /// Whether its values are what they look like: objects have fields of their own, anything else is one value. So
    /// it is with the unknown fields that custom kinds keep.
    pub fn is_deduced(self) -> bool {
        matches!(self.node(), Node::Any) && !self.tree.typed
    }

    /// Whether it is an object that may have fields it does not know.
    pub fn is_open(self) -> bool {
        matches!(self.node(), Node::Object(object) if object.open)
    }

    /// The type of a list's items.
    pub fn item(self) -> Option<NodeRef<'t>> {
        match self.node() {
            Node::List(list) => Some(self.tree.node(list.item)),
            _ => None,
        }
    }

    /// The name of the type, as in `io.k8s.api.core.v1.Pod`; empty for types without.
    pub fn definition(self) -> &'t str {
        match self.node() {
            Node::Object(o) => self.tree.text(o.name),
            _ => "",
        }
    }

    /// How server-side apply treats a list; `None` for other types.
    pub fn list_kind(self) -> Option<ListKind> {
        match self.node() {
            Node::List(list) => Some(list.kind),
            _ => None,
        }
    }

    /// The keys that tell the items of a list apart for server-side apply.
    pub fn list_keys(self) -> impl Iterator<Item = &'t str> {
        let keys: &[Text] = match self.node() {
            Node::List(list) => &list.keys,
            _ => &[],
        };
        keys.iter().map(move |k| self.tree.text(*k))
    }

    /// Whether strategic merge patches merge a list, by a key or, without one, as a set.
    pub fn merges(self) -> bool {
        matches!(self.node(), Node::List(list) if list.merge)
    }

    /// The key by which strategic merge patches merge a list.
    pub fn merge_key(self) -> Option<&'t str> {
        match self.node() {
            Node::List(list) => Some(self.tree.text(list.merge_key)).filter(|k| !k.is_empty()),
            _ => None,
        }
    }

    /// Whether server-side apply sets an object or a map as a whole.
    pub fn is_atomic(self) -> bool {
        match self.node() {
            Node::Object(o) => o.atomic,
            Node::Map { atomic, .. } => *atomic,
            Node::List(list) => list.kind == ListKind::Atomic,
            _ => false,
        }
    }
}

/// A field of an object.
#[derive(Clone, Copy)]
pub struct Field<'t> {
    tree: &'t Tree,
    index: u32,
}

impl<'t> Field<'t> {
    fn get(self) -> &'t FieldNode {
        &self.tree.fields[self.index as usize]
    }

    /// The name.
    pub fn name(self) -> &'t str {
        self.tree.text(self.get().name)
    }

    /// The type.
    pub fn node(self) -> NodeRef<'t> {
        self.tree.node(self.get().node)
    }

    /// Its place among the tree's fields.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Whether it must be given.
    pub fn is_required(self) -> bool {
        self.get().flags & 1 != 0
    }

    /// Whether strategic merge patches drop the keys they do not name.
    pub fn retains_keys(self) -> bool {
        self.get().flags & 2 != 0
    }

    /// Whether strategic merge patches replace the object.
    pub fn is_replaced(self) -> bool {
        self.get().flags & 4 != 0
    }

    /// Whether upstream's types leave an empty value out: a Go field that is no pointer and has `omitempty`, or one
    /// with `omitzero`.
    pub fn omits_empty(self) -> bool {
        self.get().flags & 8 != 0
    }

    /// Its number in Protocol Buffers; 0 if it has none. Where it lies in messages that JSON does not have, as those
    /// of `VolumeSource` do in `Volume`, their numbers stand in the bytes above, the outermost the highest.
    pub fn number(self) -> u32 {
        self.get().number
    }

    /// The value that counts where it is missing, if the schema knows one.
    pub fn default(self) -> Option<serde_json::Value> {
        serde_json::from_str(self.tree.text(self.get().default)).ok()
    }
}
