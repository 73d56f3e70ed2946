//! The wire format: <https://protobuf.dev/programming-guides/encoding/>.

use super::Error;

/// A field's value as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Of no type used here; its value is skipped.
    Fixed32,
}

/// Reads the fields of a message one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        let Some(tag) = self.varint_or_end()? else { return Ok(None) };
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Damaged)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint_or_end()?.ok_or(Error::Damaged)?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?))
            }
            2 => {
                let length = self.varint_or_end()?.ok_or(Error::Damaged)?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| Error::Damaged)?)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Error::Damaged),
        };
        Ok(Some((number, wire)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number in base 128, or `None` at the end.
    pub(super) fn varint_or_end(&mut self) -> Result<Option<u64>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(value));
            }
        }
        Err(Error::Damaged)
    }
}

/// Text, which must be UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Damaged)
}
