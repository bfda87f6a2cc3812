//! Requests and answers as kube-apiserver builds and reads them, written independently of `keystead_core::messages`.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use keystead_core::{Decrypted, Error, Kek, OwnedRecord, Role, Store, Wrap, WriteState};

pub const CLUSTER: &str = "prod-eu-1";
pub const CREATED: u64 = 1_790_000_000;
pub const AWS: Wrap<'_> = Wrap {
    scheme: "aws-kms",
    reference: "arn:aws:kms:eu-central-1:111122223333:key/k1",
    version: "",
    role: Role::Online,
    blob: &[0; 8],
};
pub const VAULT: Wrap<'_> = Wrap {
    scheme: "vault-transit",
    reference: "prod/transit/k8s",
    version: "3",
    role: Role::Online,
    blob: b"vault:v3:AAAA",
};

/// A store with one KEK, and the state that encrypts under it.
pub struct Endpoint {
    pub kek: Kek,
    pub record: OwnedRecord,
    pub store: Store,
    pub state: WriteState,
}

impl Endpoint {
    pub fn new(kek: [u8; 32], cluster: &str, epoch: u32, wraps: &[Wrap<'_>]) -> Self {
        let kek = Kek::from_bytes(&kek).unwrap();
        let record = OwnedRecord::sign(kek.keys(), CREATED, cluster, wraps).unwrap();
        let store = Store::new(vec![cluster.to_owned()], 8);
        store.admit_fresh(&record, &kek).unwrap();
        let state = store.write_state(&record, &record.view().key_id(epoch).unwrap()).unwrap();
        Self { kek, record, store, state }
    }

    pub fn encrypt(&self, plaintext: &[u8]) -> Sealed {
        Sealed::from_answer(&self.state.encrypt_v2(&message(&[(1, plaintext)])).unwrap())
    }

    pub fn encrypt_v1(&self, plaintext: &[u8]) -> Vec<u8> {
        let answer = self.state.encrypt_v1(&message(&[(1, b"v1beta1"), (2, plaintext)])).unwrap();
        fields(&answer)[0].1.clone()
    }

    pub fn decrypt(&self, sealed: &Sealed) -> Result<Option<Vec<u8>>, Error> {
        self.store.decrypt_v2(&sealed.to_request()).map(plaintext)
    }

    pub fn decrypt_v1(&self, cipher: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.decrypt_v1(&message(&[(1, b"v1beta1"), (2, cipher)])).map(plaintext)
    }
}

/// The three fields that kube-apiserver keeps of a v2 answer.
#[derive(Clone)]
pub struct Sealed {
    pub ciphertext: Vec<u8>,
    pub key_id: String,
    pub record: Vec<u8>,
}

impl Sealed {
    pub fn from_answer(answer: &[u8]) -> Self {
        let answer = fields(answer);
        let [(1, ciphertext), (2, key_id), (3, entry)] = &answer[..] else { panic!("{answer:?}") };
        let entry = fields(entry);
        let [(1, name), (2, record)] = &entry[..] else { panic!("{entry:?}") };
        assert_eq!(name, b"kek.keystead.dev");
        let key_id = String::from_utf8(key_id.clone()).unwrap();
        Self { ciphertext: ciphertext.clone(), key_id, record: record.clone() }
    }

    pub fn to_request(&self) -> Vec<u8> {
        let entry = message(&[(1, b"kek.keystead.dev"), (2, &self.record)]);
        message(&[(1, &self.ciphertext), (2, b"uid"), (3, self.key_id.as_bytes()), (4, &entry)])
    }
}

/// The plaintext of an answer; `None` if the KEK is missing.
pub fn plaintext(decrypted: Decrypted) -> Option<Vec<u8>> {
    match decrypted {
        Decrypted::Answer(answer) => Some(fields(&answer)[0].1.clone()),
        Decrypted::Missing(_) => None,
    }
}

/// A protobuf message of length-delimited fields.
pub fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length > 127 {
            out.push(u8::try_from(length & 127).unwrap() | 128);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(bytes);
    }
    out
}

/// The fields of a message that has no others.
pub fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    while let [tag, rest @ ..] = message {
        assert_eq!(tag & 7, 2);
        let digits = 1 + rest.iter().take_while(|byte| **byte > 127).count();
        let length =
            rest[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 127));
        out.push((tag >> 3, rest[digits..digits + length].to_vec()));
        message = &rest[digits + length..];
    }
    out
}
