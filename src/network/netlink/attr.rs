//! Netlink attributes: type, length, value, padded to four bytes.

/// Bit of an attribute's type that says it holds attributes.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's type that are its number.
const TYPE_MASK: u16 = 0x3fff;

/// Appends attributes to a message.
pub trait Attrs {
    /// An attribute with these bytes.
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self;
    /// An attribute that holds what `fill` writes.
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self;

    /// A 32-bit number in network order.
    fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A 64-bit number in network order.
    fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text with its terminating zero.
    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }
}

impl Attrs for Vec<u8> {
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).expect("callers keep an attribute under 64 KiB");
        self.extend_from_slice(&len.to_ne_bytes());
        self.extend_from_slice(&kind.to_ne_bytes());
        self.extend_from_slice(value);
        self.resize(self.len().next_multiple_of(4), 0);
        self
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.len();
        self.extend_from_slice(&[0; 2]);
        self.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.len() - start).expect("callers keep an attribute under 64 KiB");
        self[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// The attributes of `bytes`, as number and value. Ends at the first one that is cut off.
pub fn parse(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_at_checked(4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute `kind` in `bytes`.
pub fn nested(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    parse(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A 32-bit number in network order.
pub fn value_be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A text without its terminating zero; empty if it is not UTF-8.
pub fn value_text(value: &[u8]) -> &str {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_attributes_are_read_back() {
        let mut out = Vec::new();
        out.text(1, "kedge").nest(4, |n| {
            n.be32(1, 7).bytes(2, &[1, 2, 3]);
        });
        assert_eq!(out.len() % 4, 0);
        assert_eq!(nested(&out, 1).map(value_text), Some("kedge"));
        let inner = nested(&out, 4).expect("written");
        assert_eq!(nested(inner, 1).and_then(value_be32), Some(7));
        assert_eq!(nested(inner, 2), Some(&[1, 2, 3][..]));
        assert_eq!(nested(inner, 3), None);
    }

    proptest! {
        #[test]
        fn any_list_is_read_back(list in prop::collection::vec((1u16..500, prop::collection::vec(any::<u8>(), 0..40)), 0..20)) {
            let mut out = Vec::new();
            for (kind, value) in &list {
                out.bytes(*kind, value);
            }
            let back: Vec<_> = parse(&out).map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(back, list);
        }

        #[test]
        fn any_garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
