//! A record that the parser accepts encodes to itself, and verifies only if it is the genuine one.
#![no_main]

use std::sync::LazyLock;

use keystead_core::{Kek, Record, encode_body};
use libfuzzer_sys::fuzz_target;

static KEK: LazyLock<Kek> = LazyLock::new(|| Kek::from_bytes(&[0x5a; 32]).expect("a KEK"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::parse(bytes) else { return };
    let mut encoded = encode_body(record.created(), record.cluster(), record.kek_id(), record.wraps())
        .expect("what was parsed fits");
    encoded.extend_from_slice(record.mac());
    assert_eq!(encoded, bytes);
    // No vector was made with this KEK, and nobody can guess its MAC key.
    assert!(record.verify(KEK.keys()).is_err());
    let key_id = record.key_id(1).expect("the members of a record have a name");
    assert_eq!(key_id.len(), 39);
});
