//! Protocol buffers as far as two small services and etcd need them: read without allocating, write, nothing else.
//!
//! Stricter than the usual libraries, which never matters for what kube-apiserver sends: a known field with another
//! wire type, a group, a varint with superfluous bytes, and a string that is not UTF-8 are errors. Unknown fields are
//! skipped and the last one of a repeated scalar wins, as everywhere.

use crate::error::{Error, Result};

const TRUNCATED: Error = Error::Malformed("the request is not a protobuf message: it ends too early");
const VARINT: Error = Error::Malformed("the request is not a protobuf message: a varint is too long");
const FIELD: Error =
    Error::Malformed("the request is not a protobuf message: a field number is out of range");
const WIRE_TYPE: Error =
    Error::Malformed("the request is not the expected protobuf message: a field has another type");
const UTF8: Error = Error::Malformed("a text field of the request is not UTF-8");

const MAX_FIELD: u64 = (1 << 29) - 1;
const LENGTH_DELIMITED: u64 = 2;

/// The value of one field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
    /// A varint.
    Number(u64),
    /// A number of fixed size, which nothing here has.
    Other,
}

impl<'a> Value<'a> {
    /// The bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a field of another type.
    pub fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Other => Err(WIRE_TYPE),
        }
    }

    /// The number.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a field of another type.
    pub fn number(self) -> Result<u64> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Other => Err(WIRE_TYPE),
        }
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a field of another type, or if it is not UTF-8.
    pub fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| UTF8)
    }
}

/// The fields of one message, in the order of their bytes; ends after the first error.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Read a message.
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        if field == 0 || field > MAX_FIELD {
            return Err(FIELD);
        }
        let value = match wire_type {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| TRUNCATED)?)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(WIRE_TYPE),
        };
        Ok((field, value))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            let superfluous = byte == 0 && shift > 0;
            if superfluous || bits << shift >> shift != bits {
                return Err(VARINT);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(VARINT)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Bytes that a field of `length` bytes takes, tag included.
pub(crate) fn field_size(length: usize) -> usize {
    1 + varint_size(length) + length
}

/// Append a field of bytes or text; `field` is below 16, so that its tag is one byte. Empty ones are left out, as in
/// proto3.
pub(crate) fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    debug_assert!(field < 16);
    out.push(field << 3 | 2);
    put_varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn varint_size(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests;
