//! A seed that the parser accepts has the parts that its bytes say, and opens only if it is the genuine one.
#![no_main]

use std::sync::LazyLock;

use keystead_core::{Api, Kek, KeyId, Seed};
use libfuzzer_sys::fuzz_target;

static KEK: LazyLock<Kek> = LazyLock::new(|| Kek::from_bytes(&[0x5a; 32]).expect("a KEK"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(seed) = Seed::parse(bytes) else { return };
    let encoded = [b"KSD\x01\x01", &seed.kek_id()[..], &bytes[37..]].concat();
    assert_eq!(encoded, bytes);
    assert_eq!(seed.plaintext_size(), bytes.len() - 77);
    let key_id = KeyId::parse("ks1.e7.a6jblazfncg7zxuutyl6joq5teqjrwo5").expect("a key_id");
    assert!(seed.open(KEK.keys(), Api::V2, key_id).is_err());
});
