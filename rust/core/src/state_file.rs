//! The file in which an endpoint keeps its current record over a restart. It holds no secret.

use crate::bytes::{Reader, put_lp8, put_lp16};
use crate::error::{Error, Result};
use crate::key_id::KeyId;
use crate::record::Record;

const MAGIC: &[u8; 4] = b"KSS\x01";

/// A parsed state file that borrows its bytes.
#[derive(Clone, Copy, Debug)]
pub struct StateFile<'a> {
    key_id: KeyId<'a>,
    record: Record<'a>,
}

impl<'a> StateFile<'a> {
    /// Join a record and the name that it is advertised under.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the name does not belong to the record's members.
    pub fn new(key_id: KeyId<'a>, record: Record<'a>) -> Result<Self> {
        // The file is not authenticated as a whole, but the name is a function of the record and the epoch.
        if record.key_id(key_id.epoch())? != key_id.as_str() {
            return Err(Error::Malformed("the key_id does not belong to the KEK record"));
        }
        Ok(Self { key_id, record })
    }

    /// Parse strictly.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.array("the state file is too short")? != MAGIC {
            return Err(Error::Malformed("this is not a state file of Keystead, or one of a newer format"));
        }
        let key_id = KeyId::parse_bytes(reader.lp8("the state file ends within the key_id")?)?;
        let record = Record::parse(reader.lp16("the state file ends within the KEK record")?)?;
        reader.end("there are bytes after the state")?;
        Self::new(key_id, record)
    }

    /// Encode.
    ///
    /// # Errors
    /// [`Error::Malformed`] if something does not fit its length field, which parsed values do.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = MAGIC.to_vec();
        put_lp8(&mut out, self.key_id.as_str().as_bytes(), "the key_id is too long")?;
        put_lp16(&mut out, self.record.bytes(), "the KEK record is too long")?;
        Ok(out)
    }

    /// The name that Status advertised.
    #[must_use]
    pub fn key_id(&self) -> KeyId<'a> {
        self.key_id
    }

    /// The record of the current KEK.
    #[must_use]
    pub fn record(&self) -> &Record<'a> {
        &self.record
    }
}
