//! What a value in etcd is, as kube-apiserver wrote it. No key is needed to tell.

use keystead_core::wire::Fields;
use keystead_core::{ANNOTATION, KeyId, Record, Seed, SourceType, V1Cipher, ValueV2};

const PREFIX: &[u8] = b"k8s:enc:";
const STATIC: [&str; 3] = ["aescbc", "aesgcm", "secretbox"];
/// The tag with which our v1 ciphertexts begin, whatever the version of their format.
const OURS_V1: &[u8] = b"KS1";

/// A value from etcd.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// No provider encrypted it.
    Plaintext,
    /// A key in the `EncryptionConfiguration` of the API server itself encrypted it: `aescbc`, `aesgcm`, `secretbox`.
    Static {
        /// The kind of provider.
        kind: &'static str,
        /// The name of the key.
        key: &'a str,
    },
    /// A KMS plugin.
    Kms(Kms<'a>),
    /// It has the prefix of an encrypted value, and goes on as none.
    Damaged(&'static str),
}

/// A value under a key that a KMS plugin wrapped.
#[derive(Clone, Copy, Debug)]
pub struct Kms<'a> {
    /// The API: 1 or 2.
    pub version: u8,
    /// The provider's name in the `EncryptionConfiguration`.
    pub provider: &'a str,
    /// The name of the key that Status advertised; empty for a foreign v1 value.
    pub key_id: &'a str,
    /// What the plugin's Encrypt answered: the wrapped seed or DEK.
    pub source: &'a [u8],
    /// What the API server uses it for.
    pub source_type: SourceType,
    /// The object, sealed by the API server.
    pub data: &'a [u8],
    /// Whether Keystead is that plugin.
    pub plugin: Plugin<'a>,
}

/// Whose ciphertext it is.
#[derive(Clone, Copy, Debug)]
pub enum Plugin<'a> {
    /// Ours, with the bytes of the record that says under which keys; they have been parsed.
    Keystead(&'a [u8]),
    /// Ours, but it cannot be what an Encrypt answered.
    Damaged(&'static str),
    /// Another one.
    Foreign,
}

impl<'a> Stored<'a> {
    /// Look at a value.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Self {
        let Some(rest) = value.strip_prefix(PREFIX) else { return Self::Plaintext };
        let Some((kind, rest)) = word(rest) else {
            return Self::Damaged("the value ends before the kind of its provider does");
        };
        let Some((version, rest)) = word(rest) else {
            return Self::Damaged("the value ends before the version of its provider does");
        };
        let Some((name, rest)) = word(rest) else {
            return Self::Damaged("the value ends before the name of its provider does");
        };
        match (kind, version) {
            ("kms", "v1") => parse_v1(name, rest),
            ("kms", "v2") => parse_v2(name, rest),
            (kind, "v1") => match STATIC.iter().find(|known| **known == kind) {
                Some(kind) => Self::Static { kind, key: name },
                None => Self::Damaged("no provider of Kubernetes has this name"),
            },
            _ => Self::Damaged("no provider of Kubernetes has this name and version"),
        }
    }
}

impl<'a> Kms<'a> {
    /// Whether the `key_id` is the name of the keys in the record. Whoever can write to etcd can put any beside it, but
    /// then it does not open.
    #[must_use]
    pub fn key_id_agrees(&self) -> bool {
        let Plugin::Keystead(record) = self.plugin else { return false };
        let name = KeyId::parse(self.key_id)
            .and_then(|key_id| Record::parse(record).and_then(|record| record.key_id(key_id.epoch())));
        name.is_ok_and(|name| name == self.key_id)
    }

    /// What tells one seed, or one DEK of v1, from another.
    #[must_use]
    pub fn seed(&self) -> &'a [u8] {
        match self.plugin {
            Plugin::Keystead(record) if self.version == 1 => {
                // A v1 ciphertext ends with the sealed DEK; the name and the record before it repeat in every object.
                let before = 4 + 1 + self.key_id.len() + 2 + record.len();
                self.source.get(before..).unwrap_or(self.source)
            }
            _ => self.source,
        }
    }

    /// The parts that a recovery needs of a v2 value of ours.
    #[must_use]
    pub fn value_v2(&self) -> Option<ValueV2<'a>> {
        let Plugin::Keystead(record) = self.plugin else { return None };
        (self.version == 2).then_some(ValueV2 {
            key_id: self.key_id,
            source: self.source,
            source_type: self.source_type,
            record,
            data: self.data,
        })
    }
}

/// Text up to a colon.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b':')?;
    let (word, rest) = bytes.split_at(end);
    Some((std::str::from_utf8(word).ok()?, &rest[1..]))
}

fn parse_v1<'a>(provider: &'a str, rest: &'a [u8]) -> Stored<'a> {
    const SHORT: Stored<'_> = Stored::Damaged("the value ends before its wrapped key does");
    let Some((size, rest)) = rest.split_first_chunk() else { return SHORT };
    let Some((source, data)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size))) else {
        return SHORT;
    };
    if source.is_empty() {
        return SHORT;
    }
    let (key_id, plugin) = if source.starts_with(OURS_V1) {
        match V1Cipher::parse(source) {
            Ok(cipher) => (cipher.key_id.as_str(), judge(&cipher.record, &cipher.seed)),
            Err(error) => ("", Plugin::Damaged(text(error))),
        }
    } else {
        ("", Plugin::Foreign)
    };
    Stored::Kms(Kms { version: 1, provider, key_id, source, source_type: SourceType::Key, data, plugin })
}

fn parse_v2<'a>(provider: &'a str, rest: &'a [u8]) -> Stored<'a> {
    let mut kms = Kms {
        version: 2,
        provider,
        key_id: "",
        source: &[],
        source_type: SourceType::Key,
        data: &[],
        plugin: Plugin::Foreign,
    };
    let (mut record, mut annotations) = (None, 0);
    let mut read = || {
        for field in Fields::of(rest) {
            match field? {
                (1, value) => kms.data = value.bytes()?,
                (2, value) => kms.key_id = value.text()?,
                (3, value) => kms.source = value.bytes()?,
                (4, value) => {
                    annotations += 1;
                    let (name, content) = annotation(value.bytes()?)?;
                    if name == ANNOTATION {
                        record = Some(content);
                    }
                }
                (5, value) => match value.number()? {
                    0 => kms.source_type = SourceType::Key,
                    1 => kms.source_type = SourceType::Seed,
                    _ => return Err(keystead_core::Error::Malformed("the type of its key is unknown")),
                },
                _ => {}
            }
        }
        Ok(())
    };
    if read().is_err() {
        return Stored::Damaged("what follows its prefix is not the message of KMS v2");
    }
    if let Some(record) = record {
        kms.plugin = judge_v2(&kms, record, annotations).unwrap_or_else(|error| Plugin::Damaged(text(error)));
    }
    Stored::Kms(kms)
}

fn judge_v2<'a>(kms: &Kms<'a>, record: &'a [u8], annotations: usize) -> keystead_core::Result<Plugin<'a>> {
    if annotations != 1 {
        return Ok(Plugin::Damaged("there is an annotation that Keystead does not write"));
    }
    KeyId::parse(kms.key_id)?;
    Ok(judge(&Record::parse(record)?, &Seed::parse(kms.source)?))
}

/// The parts of one ciphertext must belong together.
fn judge<'a>(record: &Record<'a>, seed: &Seed<'_>) -> Plugin<'a> {
    if seed.kek_id() == record.kek_id() {
        Plugin::Keystead(record.bytes())
    } else {
        Plugin::Damaged("the ciphertext and its KEK record name different local KEKs")
    }
}

fn annotation(entry: &[u8]) -> keystead_core::Result<(&str, &[u8])> {
    let (mut name, mut content) = ("", &[][..]);
    for field in Fields::of(entry) {
        match field? {
            (1, value) => name = value.text()?,
            (2, value) => content = value.bytes()?,
            _ => {}
        }
    }
    Ok((name, content))
}

fn text(error: keystead_core::Error) -> &'static str {
    match error {
        keystead_core::Error::Malformed(text)
        | keystead_core::Error::NotAuthentic(text)
        | keystead_core::Error::Unsafe(text) => text,
        _ => "it cannot be parsed",
    }
}
