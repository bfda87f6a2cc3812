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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn what_is_encoded_parses_to_the_same() {
        let record = example::record();
        let encoded = StateFile::new(example::key_id(), record.view()).unwrap().encode().unwrap();
        assert_eq!(encoded.len(), 4 + 1 + 39 + 2 + 205);
        let parsed = StateFile::parse(&encoded).unwrap();
        assert_eq!((parsed.key_id(), parsed.record().bytes()), (example::key_id(), record.bytes()));
        assert_eq!(parsed.encode().unwrap(), encoded);
    }

    #[test]
    fn a_file_cut_at_any_length_or_with_more_at_its_end_is_malformed() {
        let record = example::record();
        let mut encoded = StateFile::new(example::key_id(), record.view()).unwrap().encode().unwrap();
        for length in 0..encoded.len() {
            assert!(matches!(StateFile::parse(&encoded[..length]), Err(Error::Malformed(_))), "{length}");
        }
        encoded.push(0);
        assert!(matches!(StateFile::parse(&encoded), Err(Error::Malformed(_))));
    }

    #[test]
    fn a_name_of_other_members_is_refused() {
        let record = example::record();
        let other = KeyId::parse("ks1.e7.pnyzcrwzeoywp4o3wy3azjerciomoy7e").unwrap();
        assert!(matches!(StateFile::new(other, record.view()), Err(Error::Malformed(_))));
        let mut encoded = StateFile::new(example::key_id(), record.view()).unwrap().encode().unwrap();
        encoded[5..44].copy_from_slice(other.as_str().as_bytes());
        assert!(matches!(StateFile::parse(&encoded), Err(Error::Malformed(_))));
    }
}
