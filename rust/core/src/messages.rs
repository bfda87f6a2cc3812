//! The messages of `proto/v2` and `proto/v1beta1`.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key_id;
use crate::record::ANNOTATION;
use crate::seed;
use crate::wire::{Fields, field_size, put};

/// The largest request that is looked at; kube-apiserver's limits leave room for about half of it.
pub const MAX_REQUEST: usize = 64 * 1024;

const V1: &str = "v1beta1";

/// A `v2.EncryptRequest`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncryptV2<'a> {
    /// What to seal.
    pub plaintext: &'a [u8],
    /// For logs.
    pub uid: &'a str,
}

impl<'a> EncryptV2<'a> {
    /// Parse.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(request: &'a [u8]) -> Result<Self> {
        let mut message = Self::default();
        for field in fields(request)? {
            match field? {
                (1, value) => message.plaintext = value.bytes()?,
                (2, value) => message.uid = value.text()?,
                _ => {}
            }
        }
        Ok(message)
    }
}

/// A `v2.DecryptRequest` with exactly the annotation that Keystead writes.
#[derive(Clone, Copy, Debug)]
pub struct DecryptV2<'a> {
    /// The sealed seed.
    pub ciphertext: &'a [u8],
    /// For logs.
    pub uid: &'a str,
    /// The name under which it was sealed.
    pub key_id: &'a str,
    /// The value of the annotation.
    pub record: &'a [u8],
}

impl<'a> DecryptV2<'a> {
    /// Parse.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(request: &'a [u8]) -> Result<Self> {
        let (mut ciphertext, mut uid, mut key_id, mut record) = (&[][..], "", "", None);
        for field in fields(request)? {
            match field? {
                (1, value) => ciphertext = value.bytes()?,
                (2, value) => uid = value.text()?,
                (3, value) => key_id = value.text()?,
                (4, value) => record = Some(annotation(value.bytes()?)?),
                _ => {}
            }
        }
        let record = record.ok_or(Error::Malformed(
            "the annotation kek.keystead.dev is missing: Keystead did not write this, or it was removed in etcd",
        ))?;
        Ok(Self { ciphertext, uid, key_id, record })
    }
}

fn annotation(message: &[u8]) -> Result<&[u8]> {
    match entry(message)? {
        (ANNOTATION, value) => Ok(value),
        _ => Err(Error::Malformed("there is an annotation that Keystead does not write")),
    }
}

fn entry(message: &[u8]) -> Result<(&str, &[u8])> {
    let (mut name, mut value) = ("", &[][..]);
    for field in Fields::of(message) {
        match field? {
            (1, key) => name = key.text()?,
            (2, content) => value = content.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A `v2.DecryptRequest` for something that Keystead did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignV2<'a> {
    /// What another plugin's Encrypt answered.
    pub ciphertext: &'a [u8],
    /// The name that its Status advertised.
    pub key_id: &'a str,
    /// Its annotations, in the order of the message.
    pub annotations: Vec<(&'a str, &'a [u8])>,
}

impl<'a> ForeignV2<'a> {
    /// Parse. `None` if any part begins as Keystead's do, whatever became of the rest: what is ours and damaged is
    /// never shown to a reader of another format.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(request: &'a [u8]) -> Result<Option<Self>> {
        let mut message = Self { ciphertext: &[], key_id: "", annotations: Vec::new() };
        for field in fields(request)? {
            match field? {
                (1, value) => message.ciphertext = value.bytes()?,
                (2, value) => _ = value.text()?,
                (3, value) => message.key_id = value.text()?,
                (4, value) => message.annotations.push(entry(value.bytes()?)?),
                _ => {}
            }
        }
        let ours = message.ciphertext.starts_with(seed::TAG)
            || message.key_id.starts_with(key_id::PREFIX)
            || message.annotations.iter().any(|(name, _)| *name == ANNOTATION);
        Ok((!ours).then_some(message))
    }
}

/// Parse a `v1beta1.DecryptRequest` for something that Keystead did not write, and return the ciphertext; `None` if it
/// begins as Keystead's do.
///
/// # Errors
/// [`Error::Malformed`].
pub fn parse_foreign_v1(request: &[u8]) -> Result<Option<&[u8]>> {
    let ciphertext = parse_decrypt_v1(request)?;
    let ours = ciphertext.starts_with(seed::V1_TAG) || ciphertext.starts_with(seed::TAG);
    Ok((!ours).then_some(ciphertext))
}

/// The uid of a `v2.EncryptRequest` or `v2.DecryptRequest`, for a log line; empty if there is none or the bytes are
/// not such a message.
#[must_use]
pub fn request_uid(request: &[u8]) -> &str {
    let uid = || {
        let mut uid = "";
        for field in fields(request)? {
            if let (2, value) = field? {
                uid = value.text()?;
            }
        }
        Ok::<_, Error>(uid)
    };
    uid().unwrap_or_default()
}

/// Parse a `v1beta1.EncryptRequest` and return what to seal.
///
/// # Errors
/// [`Error::Malformed`], also for a `version` other than `v1beta1`.
pub fn parse_encrypt_v1(request: &[u8]) -> Result<&[u8]> {
    parse_v1(request)
}

/// Parse a `v1beta1.DecryptRequest` and return the ciphertext.
///
/// # Errors
/// [`Error::Malformed`], also for a `version` other than `v1beta1`.
pub fn parse_decrypt_v1(request: &[u8]) -> Result<&[u8]> {
    parse_v1(request)
}

/// Whether a `v1beta1.EncryptRequest` is the health check of kube-apiserver.
#[must_use]
pub fn is_ping(request: &[u8]) -> bool {
    parse_encrypt_v1(request) == Ok(b"ping")
}

/// Both v1 requests have the same two fields.
fn parse_v1(request: &[u8]) -> Result<&[u8]> {
    let (mut version, mut bytes) = ("", &[][..]);
    for field in fields(request)? {
        match field? {
            (1, value) => version = value.text()?,
            (2, value) => bytes = value.bytes()?,
            _ => {}
        }
    }
    if version == V1 {
        Ok(bytes)
    } else {
        Err(Error::Malformed("the version field of the request is not v1beta1"))
    }
}

fn fields(request: &[u8]) -> Result<Fields<'_>> {
    if request.len() > MAX_REQUEST {
        return Err(Error::Malformed("the request is larger than 64 KiB"));
    }
    Ok(Fields::of(request))
}

/// A `v2.EncryptResponse`.
#[must_use]
pub fn encode_encrypt_v2(ciphertext: &[u8], key_id: &str, record: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(field_size(ANNOTATION.len()) + field_size(record.len()));
    put(&mut entry, 1, ANNOTATION.as_bytes());
    put(&mut entry, 2, record);
    let size = field_size(ciphertext.len()) + field_size(key_id.len()) + field_size(entry.len());
    let mut out = Vec::with_capacity(size);
    put(&mut out, 1, ciphertext);
    put(&mut out, 2, key_id.as_bytes());
    put(&mut out, 3, &entry);
    out
}

/// A `v2.DecryptResponse` or `v1beta1.DecryptResponse`, which look the same. Its one buffer never grows, so the
/// plaintext is in one place, and that place is wiped.
#[must_use]
pub fn encode_decrypt(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(field_size(plaintext.len())));
    put(&mut out, 1, plaintext);
    out
}

/// A `v1beta1.EncryptResponse`.
#[must_use]
pub fn encode_encrypt_v1(cipher: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field_size(cipher.len()));
    put(&mut out, 1, cipher);
    out
}

/// A `v2.StatusResponse`.
#[must_use]
pub fn encode_status(version: &str, healthz: &str, key_id: &str) -> Vec<u8> {
    texts([version, healthz, key_id])
}

/// A `v1beta1.VersionResponse`.
#[must_use]
pub fn encode_version(version: &str, runtime_name: &str, runtime_version: &str) -> Vec<u8> {
    texts([version, runtime_name, runtime_version])
}

fn texts(fields: [&str; 3]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, text) in (1..).zip(fields) {
        put(&mut out, number, text.as_bytes());
    }
    out
}
