//! Objects as kube-apiserver seals them with a seed or a DEK, for recovery without an API server.
//!
//! A running plugin never sees an object: this is what the API server does, written down in
//! `docs/spec/format.md#where-the-parts-are`. The additional data is the object's whole key in etcd, so a value that was moved to
//! another place does not open.

use std::collections::HashMap;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::aead;
use crate::error::{Error, Result};
use crate::key_id::KeyId;
use crate::record::{OwnedRecord, Record};
use crate::secret::{KEK_SIZE, KekId, Keys};
use crate::seed::{Api, Seed, V1Cipher};

/// Bytes in front of the nonce from which the key of one object is derived.
const INFO_SIZE: usize = 32;
const NONCE_SIZE: usize = 12;
const KEY_SIZE: usize = 32;

/// What the API server used a decrypted seed or DEK for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceType {
    /// It is the AES-256-GCM key: all of KMS v1, and KMS v2 of Kubernetes 1.27 and 1.28 at first.
    Key,
    /// The key of each object is derived from it by HKDF-Expand-SHA256: KMS v2 since then.
    Seed,
}

/// The parts of a KMS v2 value that Keystead's ciphertext is spread over.
#[derive(Clone, Copy, Debug)]
pub struct ValueV2<'a> {
    /// The name under which the seed was sealed.
    pub key_id: &'a str,
    /// The sealed seed.
    pub source: &'a [u8],
    /// What the seed is used for.
    pub source_type: SourceType,
    /// The annotation with the KEK record.
    pub record: &'a [u8],
    /// The sealed object.
    pub data: &'a [u8],
}

/// The local KEKs that were unwrapped for a recovery; it opens what they seal.
#[derive(Debug, Default)]
pub struct Recovery {
    keks: HashMap<KekId, Keys>,
}

impl Recovery {
    /// Check 32 bytes against the record that they are said to belong to, and keep them.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for another length, another KEK, or a record that was changed.
    pub fn admit(&mut self, record: &OwnedRecord, kek: &[u8]) -> Result<()> {
        let kek: &[u8; KEK_SIZE] =
            kek.try_into().map_err(|_| Error::NotAuthentic("a local KEK is 32 bytes long"))?;
        let keys = Keys::derive(kek)?;
        record.view().verify(&keys)?;
        self.keks.insert(*keys.kek_id(), keys);
        Ok(())
    }

    /// Whether the KEK of this record is here, and the record is the one that belongs to it.
    #[must_use]
    pub fn holds(&self, record: &OwnedRecord) -> bool {
        self.keys(&record.view()).is_ok()
    }

    /// Open an object that was stored under KMS v2 at `etcd_key`.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::NotHeld`] if its KEK was not admitted; [`Error::NotAuthentic`].
    pub fn open_v2(&self, etcd_key: &[u8], value: &ValueV2<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let seed = Seed::parse(value.source)?;
        let record = Record::parse(value.record)?;
        let key_id = KeyId::parse(value.key_id)?;
        let source = self.open_seed(Api::V2, &seed, key_id, &record)?;
        open(&source, value.source_type, etcd_key, value.data)
    }

    /// Open an object that was stored under KMS v1 at `etcd_key`.
    ///
    /// # Errors
    /// As [`Recovery::open_v2`].
    pub fn open_v1(&self, etcd_key: &[u8], cipher: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let cipher = V1Cipher::parse(cipher)?;
        let source = self.open_seed(Api::V1, &cipher.seed, cipher.key_id, &cipher.record)?;
        open(&source, SourceType::Key, etcd_key, data).map_err(|error| match error {
            Error::NotAuthentic(_) => Error::NotAuthentic(
                "the object does not authenticate: it was changed, moved to another key in etcd, or written by \
                 Kubernetes 1.24 or older, whose AES-CBC proves nothing",
            ),
            other => other,
        })
    }

    fn open_seed(
        &self,
        api: Api,
        seed: &Seed<'_>,
        key_id: KeyId<'_>,
        record: &Record<'_>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        if seed.kek_id() != record.kek_id() {
            return Err(Error::NotAuthentic("the ciphertext and its KEK record name different local KEKs"));
        }
        seed.open(self.keys(record)?, api, key_id)
    }

    fn keys(&self, record: &Record<'_>) -> Result<&Keys> {
        let keys = self.keks.get(record.kek_id()).ok_or(Error::NotHeld)?;
        record.verify(keys)?;
        Ok(keys)
    }
}

/// Open one object with a decrypted seed or DEK.
///
/// # Errors
/// [`Error::Malformed`] for a source or an object of an impossible size; [`Error::NotAuthentic`].
fn open(source: &[u8], kind: SourceType, etcd_key: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    const SHORT: Error = Error::Malformed("the object is shorter than what kube-apiserver adds to one");
    let source: &[u8; KEY_SIZE] = source.try_into().map_err(|_| {
        Error::Malformed("what the ciphertext seals is not 32 bytes, so no API server made it")
    })?;
    let mut key = Zeroizing::new(*source);
    let data = match kind {
        SourceType::Key => data,
        SourceType::Seed => {
            let (info, rest) = data.split_first_chunk::<INFO_SIZE>().ok_or(SHORT)?;
            hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, source)
                .expand(&[info], hkdf::HKDF_SHA256)
                .and_then(|derived| derived.fill(&mut *key))
                .map_err(|_| Error::Unsafe("deriving a key failed in the cryptographic library"))?;
            rest
        }
    };
    let (nonce, sealed) = data.split_first_chunk::<NONCE_SIZE>().ok_or(SHORT)?;
    let size = sealed.len().checked_sub(aead::TAG_SIZE).ok_or(SHORT)?;
    let mut plaintext = Zeroizing::new(vec![0; size]);
    aead::open_gcm(&key, nonce, etcd_key, sealed, &mut plaintext)?;
    Ok(plaintext)
}

#[cfg(test)]
mod tests;
