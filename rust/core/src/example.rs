//! The example of `docs/spec/format.md`, which an independent implementation computed as well.

use crate::key_id::KeyId;
use crate::record::{OwnedRecord, Role, Wrap};
use crate::secret::Kek;

pub(crate) const CLUSTER: &str = "prod-eu-1";
pub(crate) const EPOCH: u32 = 7;
pub(crate) const CREATED: u64 = 1_790_000_000;
pub(crate) const KEY_ID: &str = "ks1.e7.a6jblazfncg7zxuutyl6joq5teqjrwo5";

pub(crate) const VAULT: Wrap<'_> = Wrap {
    scheme: "vault-transit",
    reference: "prod/transit/k8s",
    version: "3",
    role: Role::Online,
    blob: b"vault:v3:AAAA",
};
pub(crate) const AWS: Wrap<'_> = Wrap {
    scheme: "aws-kms",
    reference: "arn:aws:kms:eu-central-1:111122223333:key/k1",
    version: "",
    role: Role::Online,
    blob: &[0; 8],
};

/// 32 consecutive bytes from `first` on.
pub(crate) fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|index| first + u8::try_from(index).unwrap())
}

pub(crate) fn kek() -> Kek {
    Kek::from_bytes(&counting(0)).unwrap()
}

pub(crate) fn record() -> OwnedRecord {
    OwnedRecord::sign(kek().keys(), CREATED, CLUSTER, &[VAULT, AWS]).unwrap()
}

pub(crate) fn key_id() -> KeyId<'static> {
    KeyId::parse(KEY_ID).unwrap()
}
