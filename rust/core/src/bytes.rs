//! The integers and length prefixes that every layout of `docs/spec/format.md` is made of.

use crate::error::{Error, Result};

/// What is left to parse. Each method takes something off the front or fails with the caller's text.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_be_bytes(*self.array(what)?))
    }

    /// Bytes behind a length of one byte.
    pub(crate) fn lp8(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let length = self.u8(what)?;
        self.take(usize::from(length), what)
    }

    /// Bytes behind a length of two bytes.
    pub(crate) fn lp16(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let length = u16::from_be_bytes(*self.array(what)?);
        self.take(usize::from(length), what)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self, what: &'static str) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed(what)) }
    }
}

/// Append `bytes` behind a length of one byte.
pub(crate) fn put_lp8(out: &mut Vec<u8>, bytes: &[u8], what: &'static str) -> Result<()> {
    out.push(u8::try_from(bytes.len()).map_err(|_| Error::Malformed(what))?);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Append `bytes` behind a length of two bytes.
pub(crate) fn put_lp16(out: &mut Vec<u8>, bytes: &[u8], what: &'static str) -> Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| Error::Malformed(what))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
