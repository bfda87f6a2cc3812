//! The KEK record: a local KEK wrapped under its members. Public data, authenticated by the KEK itself.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::bytes::{Reader, put_lp8, put_lp16};
use crate::error::{Error, Result};
use crate::key_id;
use crate::secret::{KekId, Keys, MAC_SIZE};

/// The annotation that carries a record in KMS v2.
pub const ANNOTATION: &str = "kek.keystead.dev";

/// The most bytes in a record. kube-apiserver refuses annotations of more than 32 KiB in names and values together;
/// the rest is left free for the name.
pub const MAX_RECORD: usize = 32_000;

/// The most wraps in a record.
pub const MAX_WRAPS: usize = 8;

const MAGIC: &[u8; 4] = b"KSK\x01";
const SUITE: u8 = 1;
const THRESHOLD: u8 = 1;
const CREATED_END: u64 = 1 << 40;
const WRAP_DOMAIN: &[u8] = b"keystead.dev/wrap/v1\0";

/// What a wrap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Unwrapped by the running plugin.
    Online,
    /// Unwrapped only by hand, after a loss.
    Recovery,
}

impl Role {
    /// The byte in a record.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Online => 1,
            Self::Recovery => 2,
        }
    }

    /// The role of a byte.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(Self::Online),
            2 => Ok(Self::Recovery),
            _ => Err(Error::Malformed("the role of a wrap is neither online nor recovery")),
        }
    }
}

/// The local KEK under one remote key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrap<'a> {
    /// The provider's name.
    pub scheme: &'a str,
    /// The remote key; never an address.
    pub reference: &'a str,
    /// The remote key's version; empty if it has none.
    pub version: &'a str,
    /// What the wrap is for.
    pub role: Role,
    /// The wrapped KEK.
    pub blob: &'a [u8],
}

impl<'a> Wrap<'a> {
    const EMPTY: Self = Self { scheme: "", reference: "", version: "", role: Role::Recovery, blob: &[] };

    /// Records are ordered by this, byte by byte.
    fn order(&self) -> (&'a str, &'a str, &'a str) {
        (self.scheme, self.reference, self.version)
    }

    fn parse(reader: &mut Reader<'a>) -> Result<Self> {
        let wrap = Self {
            scheme: text(reader.lp8("the record ends within a scheme")?)?,
            reference: text(reader.lp16("the record ends within a ref")?)?,
            version: text(reader.lp8("the record ends within a version")?)?,
            role: Role::from_byte(reader.u8("the record ends before a role")?)?,
            blob: reader.lp16("the record ends within a wrapped key")?,
        };
        if !(1..=4096).contains(&wrap.blob.len()) {
            return Err(Error::Malformed("a wrapped key is not 1 to 4096 bytes long"));
        }
        Ok(wrap)
    }
}

/// A parsed record that borrows its bytes. Whoever holds one need not check any limit of the format.
///
/// The MAC is not checked by parsing: that needs the KEK, see [`Record::verify`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
    body: &'a [u8],
    mac: &'a [u8; MAC_SIZE],
    created: u64,
    cluster: &'a str,
    kek_id: &'a KekId,
    wraps: [Wrap<'a>; MAX_WRAPS],
    count: usize,
}

impl<'a> Record<'a> {
    /// Parse strictly: one byte string for one record, so what is accepted encodes to itself.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > MAX_RECORD {
            return Err(Error::Malformed("the KEK record is larger than kube-apiserver stores"));
        }
        let mut reader = Reader::new(bytes);
        if reader.array("the KEK record is too short")? != MAGIC {
            return Err(Error::Malformed("the KEK record is not one of Keystead, or of a newer format"));
        }
        if reader.u8("the record ends before the suite")? != SUITE {
            return Err(Error::Malformed(
                "the KEK record uses an unknown cipher suite: a newer Keystead may have made it",
            ));
        }
        if reader.u8("the record ends before the threshold")? != THRESHOLD {
            return Err(Error::Malformed("the KEK record asks for a threshold other than 1"));
        }
        let count = usize::from(reader.u8("the record ends before the number of wraps")?);
        let created = reader.u64("the record ends within its time")?;
        if created >= CREATED_END {
            return Err(Error::Malformed("the time in the KEK record is out of range"));
        }
        let cluster = text(reader.lp8("the record ends within the cluster label")?)?;
        let kek_id = reader.array("the record ends within the kek_id")?;
        let mut wraps = [Wrap::EMPTY; MAX_WRAPS];
        for wrap in wraps.get_mut(..count).ok_or(TOO_MANY)? {
            *wrap = Wrap::parse(&mut reader)?;
        }
        let body = &bytes[..bytes.len() - reader.rest().len()];
        let mac = reader.array("the record ends within the MAC")?;
        reader.end("there are bytes after the KEK record")?;
        check_members(cluster, &wraps[..count])?;
        Ok(Self { bytes, body, mac, created, cluster, kek_id, wraps, count })
    }

    /// Check the MAC, and that the record belongs to these keys.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`].
    pub fn verify(&self, keys: &Keys) -> Result<()> {
        if self.kek_id != keys.kek_id() {
            return Err(Error::NotAuthentic("the local KEK is not the one that the record commits to"));
        }
        keys.verify(self.body, self.mac)
    }

    /// The encoding.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The MAC that the record carries.
    #[must_use]
    pub fn mac(&self) -> &'a [u8; MAC_SIZE] {
        self.mac
    }

    /// Unix seconds, for information.
    #[must_use]
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The cluster's label.
    #[must_use]
    pub fn cluster(&self) -> &'a str {
        self.cluster
    }

    /// The KEK's public name.
    #[must_use]
    pub fn kek_id(&self) -> &'a KekId {
        self.kek_id
    }

    /// The wraps, in order.
    #[must_use]
    pub fn wraps(&self) -> &[Wrap<'a>] {
        &self.wraps[..self.count]
    }

    /// What a remote KMS that takes additional data binds each wrap to.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the parser saw that the label fits its length field")]
    pub fn remote_aad(&self) -> Vec<u8> {
        let mut aad = WRAP_DOMAIN.to_vec();
        aad.extend_from_slice(self.kek_id);
        put_lp8(&mut aad, self.cluster.as_bytes(), "the cluster label is too long")
            .expect("a parsed label is short");
        aad
    }

    /// The public name of this record's members at an epoch.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an epoch of 0.
    pub fn key_id(&self, epoch: u32) -> Result<String> {
        key_id::compute(self.cluster, epoch, self.wraps())
    }
}

/// A record that owns its bytes; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnedRecord(Arc<[u8]>);

impl OwnedRecord {
    /// Copy a parsed record.
    #[must_use]
    pub fn new(record: &Record<'_>) -> Self {
        Self(record.bytes.into())
    }

    /// Parse strictly, and copy.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Record::parse(bytes).map(|record| Self::new(&record))
    }

    /// Sort the wraps, encode, sign with the KEK that they wrap, and parse what was encoded.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what the format refuses.
    pub fn sign(keys: &Keys, created: u64, cluster: &str, wraps: &[Wrap<'_>]) -> Result<Self> {
        let mut wraps = wraps.to_vec();
        sort(&mut wraps);
        let mut bytes = encode_body(created, cluster, keys.kek_id(), &wraps)?;
        let mac = keys.sign(&bytes);
        bytes.extend_from_slice(&mac);
        Ok(Self::new(&Record::parse(&bytes)?))
    }

    /// The encoding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parsed form.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "only parsed bytes are kept")]
    pub fn view(&self) -> Record<'_> {
        Record::parse(&self.0).expect("only parsed bytes are kept")
    }

    /// SHA-256 of the encoding.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }
}

/// Encode all but the MAC, in the order given. Limits other than those of the length fields are left to the parser.
///
/// # Errors
/// [`Error::Malformed`] if something does not fit its length field.
pub fn encode_body(created: u64, cluster: &str, kek_id: &KekId, wraps: &[Wrap<'_>]) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[SUITE, THRESHOLD, u8::try_from(wraps.len()).map_err(|_| TOO_MANY)?]);
    out.extend_from_slice(&created.to_be_bytes());
    put_lp8(&mut out, cluster.as_bytes(), CLUSTER_FORM)?;
    out.extend_from_slice(kek_id);
    for wrap in wraps {
        put_lp8(&mut out, wrap.scheme.as_bytes(), SCHEME_FORM)?;
        put_lp16(&mut out, wrap.reference.as_bytes(), REF_FORM)?;
        put_lp8(&mut out, wrap.version.as_bytes(), VERSION_FORM)?;
        out.push(wrap.role.to_byte());
        put_lp16(&mut out, wrap.blob, "a wrapped key is not 1 to 4096 bytes long")?;
    }
    Ok(out)
}

/// Sort as a record does.
pub(crate) fn sort(wraps: &mut [Wrap<'_>]) {
    wraps.sort_by_key(Wrap::order);
}

/// Check all that a record and a key_id have in common.
pub(crate) fn check_members(cluster: &str, members: &[Wrap<'_>]) -> Result<()> {
    check(is_cluster(cluster), CLUSTER_FORM)?;
    check(!members.is_empty(), "a KEK record has at least one wrap")?;
    check(members.len() <= MAX_WRAPS, "a KEK record has at most 8 wraps")?;
    for member in members {
        check(
            matches!(member.scheme.len(), 1..=32) && member.scheme.bytes().all(is_scheme_char),
            SCHEME_FORM,
        )?;
        check(
            matches!(member.reference.len(), 1..=512) && member.reference.bytes().all(is_visible),
            REF_FORM,
        )?;
        check(member.version.len() <= 64 && member.version.bytes().all(is_visible), VERSION_FORM)?;
    }
    for pair in members.windows(2) {
        check(
            pair[0].order() < pair[1].order(),
            "the wraps are not sorted, or one key and version occurs twice",
        )?;
    }
    check(
        members.iter().any(|member| member.role == Role::Online),
        "no wrap of the KEK record is for online use",
    )
}

const TOO_MANY: Error = Error::Malformed("a KEK record has at most 8 wraps");
const CLUSTER_FORM: &str =
    "the cluster label is not 0 to 63 characters of a-z, 0-9, dot and dash with alphanumeric ends";
const SCHEME_FORM: &str = "the scheme of a wrap is not 1 to 32 characters of a-z, 0-9 and dash";
const REF_FORM: &str = "the ref of a wrap is not 1 to 512 visible ASCII characters";
const VERSION_FORM: &str = "the version of a wrap is not up to 64 visible ASCII characters";

fn check(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Malformed(otherwise)) }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::Malformed("a text in the KEK record is not ASCII"))
}

fn is_cluster(label: &str) -> bool {
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|c| alphanumeric(c) || matches!(c, b'.' | b'-'))
        && bytes.first().is_none_or(alphanumeric)
        && bytes.last().is_none_or(alphanumeric)
}

fn is_scheme_char(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'
}

fn is_visible(c: u8) -> bool {
    (0x21..=0x7e).contains(&c)
}

#[cfg(test)]
mod tests;
