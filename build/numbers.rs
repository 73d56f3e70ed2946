//! The numbers that fields have in Protocol Buffers, read from `numbers.txt`.

use std::collections::BTreeMap;
use std::error::Error;

/// What the table says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The field's number; those of the messages around it that JSON does not have stand in the bytes above.
    pub path: u64,
    /// Whether Go leaves an empty value out of JSON.
    pub omits_empty: bool,
}

impl Number {
    /// Of `apiVersion` and `kind` of whole objects, which stand outside of them.
    pub const NONE: Self = Self { path: 0, omits_empty: false };
}

struct Entry<'t> {
    number: u64,
    name: &'t str,
}

/// The table: by package and type.
pub struct Numbers<'t>(BTreeMap<(&'t str, &'t str), Vec<Entry<'t>>>);

impl<'t> Numbers<'t> {
    /// Reads the table.
    pub fn parse(text: &'t str) -> Result<Self, Box<dyn Error>> {
        let mut types = BTreeMap::new();
        let mut package = "";
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            if let Some(name) = line.strip_prefix('@') {
                package = name;
                continue;
            }
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let mut last = 0;
            let mut entries = Vec::new();
            for word in fields.split_ascii_whitespace() {
                let name = word.trim_start_matches(|c: char| c.is_ascii_digit());
                let digits = &word[..word.len() - name.len()];
                last = if digits.is_empty() { last + 1 } else { digits.parse()? };
                if last > 0xff {
                    return Err(format!("numbers.txt: {package}.{line}: a number above 255").into());
                }
                entries.push(Entry { number: last, name });
            }
            types.insert((package, name), entries);
        }
        Ok(Self(types))
    }

    /// The fields of a definition by their JSON names, those of the messages inside it too.
    pub fn of(&self, definition: &str) -> Result<BTreeMap<&'t str, Number>, Box<dyn Error>> {
        let mut fields = BTreeMap::new();
        let (package, name) = definition.rsplit_once('.').ok_or("a definition without a package")?;
        self.collect(package, name, 0, &mut fields)?;
        Ok(fields)
    }

    fn collect(
        &self,
        package: &str,
        name: &str,
        outer: u64,
        fields: &mut BTreeMap<&'t str, Number>,
    ) -> Result<(), Box<dyn Error>> {
        let entries = self
            .0
            .get(&(package, name))
            .ok_or_else(|| format!("build/numbers.txt does not have the type {package}.{name}: add it"))?;
        for Entry { number, name } in entries {
            let path = outer << 8 | number;
            if let Some(inner) = name.strip_prefix('.') {
                self.collect(package, inner, path, fields)?;
                continue;
            }
            let json = name.trim_start_matches('-');
            fields.insert(json, Number { path, omits_empty: json != *name });
        }
        Ok(())
    }
}
