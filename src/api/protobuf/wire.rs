//! The wire format of Protocol Buffers: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are no message, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub fault: Fault,
    /// Where in the body it begins; the first byte is 0.
    pub at: usize,
}

/// What can be wrong with a message, in the words of upstream's decoder where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends within a value.
    #[error("unexpected EOF")]
    Cut,
    /// A number has more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field's number or its type of value does not exist.
    #[error("proto: illegal tag {0} (wire type {1})")]
    Tag(u64, u8),
    /// The end of a group that did not begin.
    #[error("proto: wiretype end group for non-group")]
    EndGroup,
    /// A field has a value of another type than its own.
    #[error("proto: wrong wireType = {0} for field {1}")]
    WireType(u8, String),
    /// A text is no UTF-8.
    #[error("proto: field {0} contains invalid UTF-8")]
    Utf8(String),
    /// A value is none of its type: no JSON, a time out of range, a number that JSON does not have.
    #[error("proto: the value of field {0} cannot be read as {1}")]
    Value(String, &'static str),
    /// Values lie too deeply in each other.
    #[error("proto: exceeded max depth")]
    Depth,
    /// There are more values than a body may have.
    #[error("proto: the object has too many values")]
    Size,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Span<'b>),
    /// A form that is not used any more; what was in it is skipped.
    Group,
    Fixed32(u32),
}

impl Wire<'_> {
    /// The number of the form.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Group => 3,
            Self::Fixed32(_) => 5,
        }
    }
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag<'b> {
    pub(super) number: u32,
    pub(super) wire: Wire<'b>,
    /// Where it begins.
    pub(super) at: usize,
}

/// A part of a body that knows its place in it. Iterates over the fields of the message it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'b> {
    body: &'b [u8],
    at: usize,
    end: usize,
}

impl<'b> Span<'b> {
    /// All of a body from a place on.
    pub(super) fn new(body: &'b [u8], at: usize) -> Self {
        Self { body, at: at.min(body.len()), end: body.len() }
    }

    pub(super) fn bytes(self) -> &'b [u8] {
        &self.body[self.at..self.end]
    }

    /// Nothing, at the same place.
    pub(super) fn empty(self) -> Self {
        Self { end: self.at, ..self }
    }

    /// Where it begins.
    pub(super) fn at(self) -> usize {
        self.at
    }

    pub(super) fn is_empty(self) -> bool {
        self.at == self.end
    }

    fn fail<T>(&self, fault: Fault, at: usize) -> Result<T, Malformed> {
        Err(Malformed { fault, at })
    }

    fn take(&mut self, length: u64) -> Result<Self, Malformed> {
        let left = self.end - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let taken = Self { end: self.at + length, ..*self };
                self.at += length;
                Ok(taken)
            }
            _ => self.fail(Fault::Cut, self.at),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let at = self.at;
        let taken = self.take(N as u64)?;
        taken.bytes().try_into().or_else(|_| self.fail(Fault::Cut, at))
    }

    /// A number in base 128, the least significant part first.
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.fail(Fault::Overflow, start)
    }

    /// The next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Tag<'b>>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let (number, form, at) = self.tag()?;
        let wire = match form {
            3 => self.skip_group()?,
            4 => return self.fail(Fault::EndGroup, at),
            form => self.value(number, form, at)?,
        };
        Ok(Some(Tag { number, wire, at }))
    }

    fn tag(&mut self) -> Result<(u32, u8, usize), Malformed> {
        let at = self.at;
        let tag = self.varint()?;
        let (number, form) = (tag >> 3, (tag & 7) as u8);
        match u32::try_from(number) {
            Ok(small) if small != 0 => Ok((small, form, at)),
            _ => self.fail(Fault::Tag(number, form), at),
        }
    }

    fn value(&mut self, number: u32, form: u8, at: usize) -> Result<Wire<'b>, Malformed> {
        Ok(match form {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return self.fail(Fault::Tag(number.into(), other), at),
        })
    }

    fn skip_group(&mut self) -> Result<Wire<'b>, Malformed> {
        let mut open = 1u32;
        while open > 0 {
            let (number, form, at) = self.tag()?;
            match form {
                3 => open += 1,
                4 => open -= 1,
                form => drop(self.value(number, form, at)?),
            }
        }
        Ok(Wire::Group)
    }
}
