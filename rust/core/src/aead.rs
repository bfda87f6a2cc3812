//! XAES-256-GCM (C2SP), composed of AES-CMAC and AES-256-GCM. The only file that names a cipher.
//!
//! A 192-bit random nonce can be drawn for every message without keeping count, so one key may be used by several
//! processes and across restarts. The first half of the nonce derives a key for AES-256-GCM by two CMACs (the counter
//! mode of SP 800-108), the second half is the nonce of AES-256-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cmac;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// Bytes in a key.
pub const KEY_SIZE: usize = 32;
/// Bytes in a nonce.
pub const NONCE_SIZE: usize = 24;
/// Bytes in a tag.
pub const TAG_SIZE: usize = 16;
/// Bytes that sealing adds: the nonce in front and the tag behind.
pub const OVERHEAD: usize = NONCE_SIZE + TAG_SIZE;

const FAULT: Error =
    Error::Unsafe("the cipher of the cryptographic library failed: this process must not write");
const NOT_AUTHENTIC: Error = Error::NotAuthentic(
    "the ciphertext does not authenticate: it was changed, or sealed for another key_id, KMS version or key",
);
const NO_RANDOMNESS: Error =
    Error::Unsafe("the operating system gives no randomness: nothing can be encrypted");

/// Seal under a fresh random nonce, which is written to `nonce`; the ciphertext and then the tag go to `out`, which is
/// `TAG_SIZE` longer than `plaintext`.
pub(crate) fn seal(
    key: &[u8; KEY_SIZE],
    nonce: &mut [u8; NONCE_SIZE],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<()> {
    random(nonce)?;
    seal_with_nonce(key, nonce, aad, plaintext, out)
}

/// Fill with bytes from the operating system's generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| NO_RANDOMNESS)
}

/// Seal under a given nonce: for `seal`, and for vectors in tests. Using a nonce twice gives the plaintexts away.
pub(crate) fn seal_with_nonce(
    key: &[u8; KEY_SIZE],
    nonce: &[u8; NONCE_SIZE],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let (ciphertext, tag_out) = out.split_at_mut_checked(plaintext.len()).ok_or(FAULT)?;
    ciphertext.copy_from_slice(plaintext);
    let (inner, inner_nonce) = derive(key, nonce)?;
    match inner.seal_in_place_separate_tag(inner_nonce, Aad::from(aad), ciphertext) {
        Ok(tag) if tag.as_ref().len() == tag_out.len() => {
            tag_out.copy_from_slice(tag.as_ref());
            Ok(())
        }
        _ => {
            out.zeroize();
            Err(FAULT)
        }
    }
}

/// Open `sealed` (ciphertext and tag) into `out`, which has exactly the plaintext's length.
///
/// `out` is zeros after a failure: no byte that did not authenticate is left in it.
pub(crate) fn open(
    key: &[u8; KEY_SIZE],
    nonce: &[u8; NONCE_SIZE],
    aad: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let (ciphertext, tag) = sealed.split_at_checked(out.len()).ok_or(FAULT)?;
    let (inner, inner_nonce) = derive(key, nonce)?;
    inner.open_separate_gather(inner_nonce, Aad::from(aad), ciphertext, tag, out).map_err(|_| {
        out.zeroize();
        NOT_AUTHENTIC
    })
}

/// Open what kube-apiserver sealed with plain AES-256-GCM; `out` is as in [`open`].
pub(crate) fn open_gcm(
    key: &[u8; KEY_SIZE],
    nonce: &[u8; NONCE_SIZE / 2],
    aad: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let (ciphertext, tag) = sealed.split_at_checked(out.len()).ok_or(FAULT)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| FAULT)?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| FAULT)?;
    key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, out).map_err(|_| {
        out.zeroize();
        Error::NotAuthentic(
            "the object does not authenticate: it was changed, or moved to another key in etcd",
        )
    })
}

fn derive(key: &[u8; KEY_SIZE], nonce: &[u8; NONCE_SIZE]) -> Result<(LessSafeKey, Nonce)> {
    let (left, right) = nonce.split_at(NONCE_SIZE / 2);
    let prf = cmac::Key::new(cmac::AES_256, key).map_err(|_| FAULT)?;
    let mut derived = Zeroizing::new([0; KEY_SIZE]);
    let mut block = [0, 0, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    block[4..].copy_from_slice(left);
    for (counter, half) in (1..).zip(derived.chunks_exact_mut(16)) {
        block[1] = counter;
        cmac::sign_to_buffer(&prf, &block, half).map_err(|_| FAULT)?;
    }
    let inner = UnboundKey::new(&AES_256_GCM, &*derived).map_err(|_| FAULT)?;
    let inner_nonce = Nonce::try_assume_unique_for_key(right).map_err(|_| FAULT)?;
    Ok((LessSafeKey::new(inner), inner_nonce))
}

#[cfg(test)]
mod tests;
