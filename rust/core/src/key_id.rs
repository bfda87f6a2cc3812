//! The name that Status advertises: a hash of the cluster, the epoch and the members, the same on every node.

use std::fmt;

use aws_lc_rs::digest;

use crate::bytes::{put_lp8, put_lp16};
use crate::error::{Error, Result};
use crate::record::{self, Wrap};

const DOMAIN: &[u8] = b"keystead.dev/key-id/v1\0";
/// What every key_id begins with.
pub(crate) const PREFIX: &str = "ks1.e";
const HASH_CHARS: usize = 32;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const FORM: Error = Error::Malformed("the key_id is not one that Keystead makes (ks1.e<epoch>.<hash>)");

/// A key_id of the right form: `ks1.e`, the epoch without leading zeros, a dot, 32 characters of base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId<'a>(&'a str);

impl<'a> KeyId<'a> {
    /// Parse strictly.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self> {
        let (epoch, hash) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(FORM)?;
        let hash_ok = hash.len() == HASH_CHARS && hash.bytes().all(|c| ALPHABET.contains(&c));
        if !hash_ok || parse_epoch(epoch).is_none() {
            return Err(FORM);
        }
        Ok(Self(text))
    }

    /// Parse bytes that should be such a text.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse_bytes(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| FORM)?)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The epoch.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the parser saw an epoch here")]
    pub fn epoch(&self) -> u32 {
        let digits = &self.0[PREFIX.len()..self.0.len() - HASH_CHARS - 1];
        parse_epoch(digits).expect("parse saw an epoch here")
    }
}

impl fmt::Display for KeyId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Name the members at an epoch; the blobs of the wraps do not matter.
///
/// # Errors
/// [`Error::Malformed`] for an epoch of 0 and for what a record would refuse.
pub fn compute(cluster: &str, epoch: u32, members: &[Wrap<'_>]) -> Result<String> {
    if epoch == 0 {
        return Err(Error::Malformed("epochs begin with 1"));
    }
    let mut members = members.to_vec();
    record::sort(&mut members);
    record::check_members(cluster, &members)?;

    let mut bytes = DOMAIN.to_vec();
    put_lp8(&mut bytes, cluster.as_bytes(), "the cluster label is too long")?;
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.push(u8::try_from(members.len()).map_err(|_| Error::Malformed("too many members"))?);
    for member in &members {
        put_lp8(&mut bytes, member.scheme.as_bytes(), "the scheme is too long")?;
        put_lp16(&mut bytes, member.reference.as_bytes(), "the ref is too long")?;
        put_lp8(&mut bytes, member.version.as_bytes(), "the version is too long")?;
        bytes.push(member.role.to_byte());
    }
    let hash = digest::digest(&digest::SHA256, &bytes);
    Ok(format!("{PREFIX}{epoch}.{}", base32(&hash.as_ref()[..HASH_CHARS * 5 / 8])))
}

fn parse_epoch(digits: &str) -> Option<u32> {
    let canonical = digits.bytes().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

/// RFC 4648 in lower case, for lengths that need no padding.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in (0..40).step_by(5).rev() {
            out.push(char::from(ALPHABET[usize::try_from(bits >> shift & 31).unwrap_or_default()]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, AWS, CLUSTER, KEY_ID, VAULT};

    #[test]
    fn every_input_changes_the_name() {
        let members = [AWS, VAULT];
        assert_eq!(compute(CLUSTER, 7, &members).unwrap(), KEY_ID);
        let mut names = std::collections::HashSet::from([KEY_ID.to_owned()]);
        for (cluster, epoch, members) in [
            ("prod-eu-2", 7, members),
            (CLUSTER, 8, members),
            (CLUSTER, 7, [AWS, Wrap { version: "4", ..VAULT }]),
            (CLUSTER, 7, [AWS, Wrap { reference: "prod/transit/k9", ..VAULT }]),
            (CLUSTER, 7, [AWS, Wrap { scheme: "vault-transit2", ..VAULT }]),
            (CLUSTER, 7, [AWS, Wrap { role: record::Role::Recovery, ..VAULT }]),
        ] {
            assert!(names.insert(compute(cluster, epoch, &members).unwrap()));
        }
        assert!(names.insert(compute(CLUSTER, 7, &[AWS]).unwrap()));
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn blobs_do_not_change_the_name() {
        let members = [AWS, Wrap { blob: b"wrapped again", ..VAULT }];
        assert_eq!(compute(CLUSTER, 7, &members).unwrap(), KEY_ID);
    }

    #[test]
    fn epochs_from_1_to_the_largest_are_read_back() {
        for epoch in [1, 9, 10, u32::MAX] {
            let name = example::record().view().key_id(epoch).unwrap();
            assert_eq!(KeyId::parse(&name).unwrap().epoch(), epoch);
        }
        assert!(matches!(example::record().view().key_id(0), Err(Error::Malformed(_))));
    }

    #[test]
    fn names_of_another_form_are_refused() {
        let hash = &KEY_ID[7..];
        for wrong in [
            String::new(),
            format!("ks1.e0.{hash}"),
            format!("ks1.e07.{hash}"),
            format!("ks1.e+7.{hash}"),
            format!("ks1.e.{hash}"),
            format!("ks1.e4294967296.{hash}"),
            format!("ks1.7.{hash}"),
            format!("ks2.e7.{hash}"),
            format!("ks1.e7.{}", hash.to_uppercase()),
            format!("ks1.e7.{}", &hash[1..]),
            format!("ks1.e7.{hash}a"),
            format!("ks1.e7.{}1", &hash[1..]),
            format!(" {KEY_ID}"),
            format!("{KEY_ID}\n"),
        ] {
            assert_eq!(KeyId::parse(&wrong), Err(FORM), "{wrong:?}");
        }
        assert_eq!(KeyId::parse_bytes(b"ks1.e7.\xff"), Err(FORM));
    }
}
