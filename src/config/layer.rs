//! One place settings come from, and the stack of them.

use std::collections::BTreeMap;

/// Settings from one place, unparsed: name without dashes → values.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Where they come from, for error messages: `flag`, `environment`, a file's path.
    pub origin: String,
    /// The values; several for a setting that may be repeated.
    pub values: BTreeMap<String, Vec<String>>,
    /// Settings whose values are added to those of lower layers instead of replacing them.
    pub append: BTreeMap<String, Vec<String>>,
}

/// Layers from the weakest to the strongest.
#[derive(Clone, Debug, Default)]
pub struct Layers(Vec<Layer>);

/// The values of one setting, with the place they come from.
pub(super) struct Found<'a> {
    pub(super) values: Vec<&'a str>,
    pub(super) origin: &'a str,
}

impl Layers {
    /// Puts `layer` above all others.
    pub fn push(&mut self, layer: Layer) {
        self.0.push(layer);
    }

    /// The strongest layer's values for a setting, with what lower layers append to it.
    pub(super) fn find(&self, setting: &str) -> Option<Found<'_>> {
        let mut found: Option<Found<'_>> = None;
        for layer in &self.0 {
            if let Some(values) = layer.values.get(setting) {
                let values = values.iter().map(String::as_str).collect();
                found = Some(Found { values, origin: &layer.origin });
            }
            if let Some(more) = layer.append.get(setting) {
                let entry = found.get_or_insert(Found { values: Vec::new(), origin: &layer.origin });
                entry.values.extend(more.iter().map(String::as_str));
            }
        }
        found
    }

    /// The last value of a setting: a flag given twice means the second.
    pub fn last(&self, setting: &str) -> Option<&str> {
        self.find(setting).and_then(|f| f.values.last().copied())
    }
}
