//! The local KEK and the keys that are derived from it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use keystead_locked::{Arena, Slot};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::aead;
use crate::error::{Error, Result};

/// Bytes in a local KEK.
pub const KEK_SIZE: usize = 32;

/// The public name of a local KEK. It commits to it: nobody can find two KEKs with one id.
pub type KekId = [u8; 32];

/// Bytes of a record's MAC.
pub const MAC_SIZE: usize = 32;

const AEAD_LABEL: &[u8] = b"keystead.dev/seed-aead/v1";
const MAC_LABEL: &[u8] = b"keystead.dev/kek-record-mac/v1";
const ID_LABEL: &[u8] = b"keystead.dev/kek-id/v1";

/// A local KEK itself, needed while it is being wrapped. What is kept afterwards is [`Keys`].
#[derive(Debug)]
pub struct Kek {
    raw: Slot,
    keys: Arc<Keys>,
}

impl Kek {
    /// Make one from the operating system's generator.
    ///
    /// # Errors
    /// [`Error::Unsafe`] if there is no randomness.
    pub fn generate() -> Result<Self> {
        let mut kek = Zeroizing::new([0; KEK_SIZE]);
        aead::random(&mut *kek)?;
        Self::from_bytes(&kek)
    }

    /// Take known bytes.
    ///
    /// # Errors
    /// [`Error::Unsafe`] if the cryptographic library fails.
    pub fn from_bytes(kek: &[u8; KEK_SIZE]) -> Result<Self> {
        Ok(Self { raw: store_key(kek)?, keys: Arc::new(Keys::derive(kek)?) })
    }

    /// The bytes, for a wrap and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.raw.expose()[..KEK_SIZE]
    }

    /// Compare in constant time.
    #[must_use]
    pub fn equals(&self, candidate: &[u8]) -> bool {
        self.reveal().ct_eq(candidate).into()
    }

    /// The derived keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }
}

/// What is derived from a local KEK, without the KEK: a key for the AEAD, a key for the record's MAC, and the id.
pub struct Keys {
    aead_and_mac: Slot,
    kek_id: KekId,
}

impl Keys {
    /// Derive by HKDF-Expand-SHA256, with the KEK as pseudo-random key.
    ///
    /// # Errors
    /// [`Error::Unsafe`] if the cryptographic library fails.
    pub fn derive(kek: &[u8; KEK_SIZE]) -> Result<Self> {
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, kek);
        let mut kek_id = [0; 32];
        expand(&prk, ID_LABEL, &mut kek_id)?;
        let aead_and_mac = Arena::global().store(|bytes| {
            let (aead_key, mac_key) = bytes.split_at_mut(aead::KEY_SIZE);
            expand(&prk, AEAD_LABEL, aead_key)?;
            expand(&prk, MAC_LABEL, mac_key)
        })?;
        Ok(Self { aead_and_mac, kek_id })
    }

    /// The public name of the KEK.
    #[must_use]
    pub fn kek_id(&self) -> &KekId {
        &self.kek_id
    }

    pub(crate) fn aead_key(&self) -> &[u8; aead::KEY_SIZE] {
        first_half(&self.aead_and_mac)
    }

    /// The MAC of a record's bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; MAC_SIZE] {
        let mut mac = [0; MAC_SIZE];
        mac.copy_from_slice(hmac::sign(&self.mac_key(), bytes).as_ref());
        mac
    }

    /// Compare the MAC of a record's bytes in constant time.
    pub(crate) fn verify(&self, bytes: &[u8], mac: &[u8; MAC_SIZE]) -> Result<()> {
        hmac::verify(&self.mac_key(), bytes, mac).map_err(|_| {
            Error::NotAuthentic("the MAC of the KEK record is wrong: the record was changed or damaged")
        })
    }

    fn mac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.aead_and_mac.expose()[aead::KEY_SIZE..])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// A key for [`aead`] alone: the `local` provider's remote key.
#[derive(Debug)]
pub struct AeadKey(Slot);

impl AeadKey {
    /// Copy a key into locked memory.
    ///
    /// # Errors
    /// None in practice; the signature is that of the arena.
    pub fn new(key: &[u8; aead::KEY_SIZE]) -> Result<Self> {
        Ok(Self(store_key(key)?))
    }

    /// Seal to nonce, ciphertext, tag.
    ///
    /// # Errors
    /// [`Error::Unsafe`] without randomness.
    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; aead::OVERHEAD + plaintext.len()];
        let (nonce, sealed) =
            out.split_first_chunk_mut().ok_or(Error::Unsafe("a buffer has the wrong size"))?;
        aead::seal(first_half(&self.0), nonce, aad, plaintext, sealed)?;
        Ok(out)
    }

    /// Undo `seal`.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`]; [`Error::Malformed`] for fewer bytes than a nonce and a tag.
    pub fn open(&self, blob: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        const SHORT: Error = Error::Malformed("the blob is shorter than a nonce and a tag");
        let size = blob.len().checked_sub(aead::OVERHEAD).ok_or(SHORT)?;
        let (nonce, sealed) = blob.split_first_chunk().ok_or(SHORT)?;
        let mut plaintext = Zeroizing::new(vec![0; size]);
        aead::open(first_half(&self.0), nonce, aad, sealed, &mut plaintext)?;
        Ok(plaintext)
    }
}

fn store_key(key: &[u8; 32]) -> Result<Slot> {
    Arena::global().store(|bytes| {
        bytes[..32].copy_from_slice(key);
        Ok(())
    })
}

fn first_half(slot: &Slot) -> &[u8; 32] {
    let (half, _) = slot.expose().split_first_chunk().expect("a slot holds 64 bytes");
    half
}

fn expand(prk: &hkdf::Prk, label: &[u8], out: &mut [u8]) -> Result<()> {
    prk.expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|key| key.fill(out))
        .map_err(|_| Error::Unsafe("deriving keys failed in the cryptographic library"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn the_derived_keys_are_those_of_the_example() {
        let keys = example::kek().keys;
        assert_eq!(
            hex::encode(keys.kek_id()),
            "5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25"
        );
        assert_eq!(
            hex::encode(keys.aead_and_mac.expose()),
            "e412fb8b392ef6c5364f63aa06825780dcd9a3a0c61f1a1664ef9d0cb4d6126c\
             043cd06e6b32f1c72b6f97cba32e8172a0a9850a168399a0cb9b135e013db226"
        );
    }

    #[test]
    fn two_generated_keks_differ_and_each_equals_itself() {
        let (a, b) = (Kek::generate().unwrap(), Kek::generate().unwrap());
        assert_ne!(a.keys.kek_id(), b.keys.kek_id());
        assert!(a.equals(a.reveal()));
        assert!(!a.equals(b.reveal()));
        assert!(!a.equals(&a.reveal()[..31]));
        assert!(!a.equals(b""));
    }

    #[test]
    fn secrets_do_not_print() {
        let kek = example::kek();
        let key = AeadKey::new(&example::counting(0)).unwrap();
        assert_eq!(format!("{kek:?}"), "Kek { raw: Slot { .. }, keys: Keys { .. } }");
        assert_eq!(format!("{key:?}"), "AeadKey(Slot { .. })");
    }

    #[test]
    fn an_aead_key_opens_what_it_sealed_with_the_same_additional_data_only() {
        let (key, other) = (AeadKey::new(&[1; 32]).unwrap(), AeadKey::new(&[2; 32]).unwrap());
        let blob = key.seal(b"a local KEK", b"context").unwrap();
        assert_eq!(blob.len(), aead::OVERHEAD + 11);
        assert_eq!(*key.open(&blob, b"context").unwrap(), b"a local KEK");
        assert!(matches!(key.open(&blob, b"other"), Err(Error::NotAuthentic(_))));
        assert!(matches!(other.open(&blob, b"context"), Err(Error::NotAuthentic(_))));
        for length in 0..aead::OVERHEAD {
            assert!(matches!(key.open(&blob[..length], b"context"), Err(Error::Malformed(_))));
        }
        assert_eq!(*key.open(&key.seal(b"", b"").unwrap(), b"").unwrap(), b"");
    }
}
