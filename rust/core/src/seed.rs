//! A sealed seed, which is a KMS v2 ciphertext, and the KMS v1 ciphertext around it.

use zeroize::Zeroizing;

use crate::aead::{self, NONCE_SIZE, OVERHEAD};
use crate::bytes::{Reader, put_lp8, put_lp16};
use crate::error::{Error, Result};
use crate::key_id::KeyId;
use crate::record::Record;
use crate::secret::{KekId, Keys};

/// The most bytes that Encrypt takes: what kube-apiserver's limit of 1 KiB for a v2 ciphertext leaves.
pub const MAX_PLAINTEXT: usize = MAX_SEED - HEADER_SIZE - OVERHEAD;

/// What a sealed seed begins with, whatever the version of its format.
pub(crate) const TAG: &[u8] = b"KSD";
/// What a v1 ciphertext begins with, whatever the version of its format.
pub(crate) const V1_TAG: &[u8] = b"KS1";

const MAX_SEED: usize = 1024;
const MAGIC: &[u8; 4] = b"KSD\x01";
const SUITE: u8 = 1;
const HEADER_SIZE: usize = 37;
const AAD_DOMAIN: &[u8] = b"keystead.dev/seed/v1\0";
const V1_MAGIC: &[u8; 4] = b"KS1\x01";

/// Which of kube-apiserver's two interfaces a seed belongs to; a seed of one does not open in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// v1beta1.
    V1,
    /// v2.
    V2,
}

/// A parsed sealed seed that borrows its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a> {
    header: &'a [u8; HEADER_SIZE],
    kek_id: &'a KekId,
    nonce: &'a [u8; NONCE_SIZE],
    sealed: &'a [u8],
}

impl<'a> Seed<'a> {
    /// Parse strictly.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        const SIZE: Error =
            Error::Malformed("the ciphertext is not 78 to 1024 bytes long: Keystead did not write it");
        if !bytes.starts_with(MAGIC) {
            return Err(Error::Malformed(
                "this ciphertext was not written by Keystead: check which provider name of the EncryptionConfiguration \
                 belongs to this socket",
            ));
        }
        if !(HEADER_SIZE + OVERHEAD + 1..=MAX_SEED).contains(&bytes.len()) {
            return Err(SIZE);
        }
        let header = bytes.first_chunk().ok_or(SIZE)?;
        let mut reader = Reader::new(&bytes[MAGIC.len()..]);
        if reader.u8("the ciphertext ends before the suite")? != SUITE {
            return Err(Error::Malformed(
                "the ciphertext uses an unknown cipher suite: a newer Keystead may have made it",
            ));
        }
        let kek_id = reader.array("the ciphertext ends within the kek_id")?;
        let nonce = reader.array("the ciphertext ends within the nonce")?;
        Ok(Self { header, kek_id, nonce, sealed: reader.rest() })
    }

    /// The KEK that sealed it.
    #[must_use]
    pub fn kek_id(&self) -> &'a KekId {
        self.kek_id
    }

    /// Bytes in the plaintext.
    #[must_use]
    pub fn plaintext_size(&self) -> usize {
        self.sealed.len() - aead::TAG_SIZE
    }

    /// Open, for the interface and the key_id that it was sealed for.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`].
    pub fn open(&self, keys: &Keys, api: Api, key_id: KeyId<'_>) -> Result<Zeroizing<Vec<u8>>> {
        if self.kek_id != keys.kek_id() {
            return Err(Error::NotAuthentic("the ciphertext was sealed under another local KEK"));
        }
        let mut plaintext = Zeroizing::new(vec![0; self.plaintext_size()]);
        aead::open(keys.aead_key(), self.nonce, &aad(api, self.header, key_id), self.sealed, &mut plaintext)?;
        Ok(plaintext)
    }
}

/// Seal 1 to [`MAX_PLAINTEXT`] bytes, open what was sealed and compare.
///
/// # Errors
/// [`Error::Malformed`] for another size, [`Error::Unsafe`] without randomness or if the own output does not open.
pub fn seal(keys: &Keys, api: Api, key_id: KeyId<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
    seal_using(aead::seal, keys, api, key_id, plaintext)
}

/// How a message is sealed: the nonce is in-out.
type SealFn = fn(&[u8; 32], &mut [u8; NONCE_SIZE], &[u8], &[u8], &mut [u8]) -> Result<()>;

fn seal_using(with: SealFn, keys: &Keys, api: Api, key_id: KeyId<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
    const SIZE: Error = Error::Unsafe("a buffer has the wrong size");
    if !(1..=MAX_PLAINTEXT).contains(&plaintext.len()) {
        return Err(Error::Malformed("the plaintext is not 1 to 947 bytes long"));
    }
    let mut out = vec![0; HEADER_SIZE + OVERHEAD + plaintext.len()];
    let (header, rest) = out.split_first_chunk_mut::<HEADER_SIZE>().ok_or(SIZE)?;
    header[..4].copy_from_slice(MAGIC);
    header[4] = SUITE;
    header[5..].copy_from_slice(keys.kek_id());
    let (nonce, sealed) = rest.split_first_chunk_mut().ok_or(SIZE)?;
    with(keys.aead_key(), nonce, &aad(api, header, key_id), plaintext, sealed)?;

    match Seed::parse(&out).and_then(|seed| seed.open(keys, api, key_id)) {
        Ok(opened) if *opened == plaintext => Ok(out),
        _ => Err(Error::Unsafe("what was just sealed does not open: this process must not write")),
    }
}

fn aad(api: Api, header: &[u8; HEADER_SIZE], key_id: KeyId<'_>) -> Vec<u8> {
    let mut out = AAD_DOMAIN.to_vec();
    out.push(match api {
        Api::V1 => 1,
        Api::V2 => 2,
    });
    out.extend_from_slice(header);
    put_lp16(&mut out, key_id.as_str().as_bytes(), "the key_id is too long")
        .expect("a parsed key_id is short");
    out
}

/// A parsed KMS v1 ciphertext: all that v2 spreads over three fields in one.
#[derive(Clone, Copy, Debug)]
pub struct V1Cipher<'a> {
    /// The name under which the seed was sealed.
    pub key_id: KeyId<'a>,
    /// The record of the KEK.
    pub record: Record<'a>,
    /// The sealed seed.
    pub seed: Seed<'a>,
}

impl<'a> V1Cipher<'a> {
    /// Parse strictly.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.array("the v1 ciphertext is too short: Keystead did not write it")? != V1_MAGIC {
            return Err(Error::Malformed(
                "this v1 ciphertext was not written by Keystead: check which provider name of the \
                 EncryptionConfiguration belongs to this socket",
            ));
        }
        let key_id = KeyId::parse_bytes(reader.lp8("the v1 ciphertext ends within the key_id")?)?;
        let record = Record::parse(reader.lp16("the v1 ciphertext ends within the KEK record")?)?;
        let seed = Seed::parse(reader.rest())?;
        Ok(Self { key_id, record, seed })
    }
}

/// Encode a v1 ciphertext around a sealed seed.
///
/// # Errors
/// [`Error::Malformed`] if something does not fit its length field, which parsed values do.
pub fn encode_v1(key_id: KeyId<'_>, record: &[u8], seed: &[u8]) -> Result<Vec<u8>> {
    let mut out = V1_MAGIC.to_vec();
    put_lp8(&mut out, key_id.as_str().as_bytes(), "the key_id is too long")?;
    put_lp16(&mut out, record, "the KEK record is too long")?;
    out.extend_from_slice(seed);
    Ok(out)
}

#[cfg(test)]
mod tests;
