//! The descriptions of the built-in types: inflated when a document asks for them, and dropped with it.

use std::io::Read;

use super::load::Reader;
use super::tree::{Definition, Field};

static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin.docs"));

/// Descriptions of the built-in types and their fields.
pub struct Docs {
    text: String,
    spans: Vec<(u32, u32)>,
    /// Which text each definition has, then each field.
    owners: Vec<u32>,
    definitions: usize,
}

impl Docs {
    /// Inflates all of them; `definitions` and `fields` are how many the tree has.
    pub(crate) fn builtin(tree: &super::Tree) -> Self {
        let mut bytes = Vec::new();
        // The build script wrote it: a damaged file would be a damaged executable.
        let _ = flate2::read::DeflateDecoder::new(FILE).read_to_end(&mut bytes);
        let definitions = tree.definitions.len();
        let mut reader = Reader::new(&bytes);
        let mut end = 0;
        let spans = reader.list(|r| {
            let start = end;
            end += r.number();
            (start, end)
        });
        let owners = (0..definitions + tree.fields.len()).map(|_| reader.number()).collect();
        let text = String::from_utf8_lossy(reader.rest()).into_owned();
        Self { text, spans, owners, definitions }
    }

    fn get(&self, owner: usize) -> &str {
        let text = self.owners.get(owner).and_then(|o| self.spans.get(*o as usize));
        text.and_then(|(start, end)| self.text.get(*start as usize..*end as usize)).unwrap_or_default()
    }

    /// What a type is.
    pub fn definition(&self, definition: Definition<'_>) -> &str {
        self.get(definition.index())
    }

    /// What a field is.
    pub fn field(&self, field: Field<'_>) -> &str {
        self.get(self.definitions + field.index())
    }
}
