//! Keystead's formats, its AEAD and the store of unwrapped local KEKs: everything that touches key bytes or untrusted
//! bytes on the hot path. It knows no Python, does no I/O and has no clock.
//!
//! The layouts and the cryptography are specified in `docs/spec/format.md`. Bytes from outside go through one of the
//! parsers ([`Record`], [`Seed`], [`V1Cipher`], [`StateFile`], [`messages`]), which borrow, never allocate and accept
//! one encoding only. [`Store`] and [`WriteState`] answer kube-apiserver's requests.

#![forbid(unsafe_code)]

mod aead;
mod bytes;
mod error;
pub mod key_id;
pub mod messages;
mod object;
mod record;
mod secret;
mod seed;
mod state_file;
mod store;
pub mod wire;

#[cfg(test)]
mod example;

pub use error::{Error, Result};
pub use key_id::KeyId;
pub use object::{Recovery, SourceType, ValueV2};
pub use record::{ANNOTATION, MAX_RECORD, MAX_WRAPS, OwnedRecord, Record, Role, Wrap, encode_body};
pub use secret::{AeadKey, KEK_SIZE, Kek, KekId, Keys};
pub use seed::{Api, MAX_PLAINTEXT, Seed, V1Cipher, encode_v1};
pub use state_file::StateFile;
pub use store::{Decrypted, Store, WriteState};
