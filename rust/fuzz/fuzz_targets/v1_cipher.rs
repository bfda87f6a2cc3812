//! A v1 ciphertext that the parser accepts encodes to itself.
#![no_main]

use keystead_core::{V1Cipher, encode_v1};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(cipher) = V1Cipher::parse(bytes) else { return };
    let seed = &bytes[bytes.len() - cipher.seed.plaintext_size() - 77..];
    let encoded = encode_v1(cipher.key_id, cipher.record.bytes(), seed).expect("what was parsed fits");
    assert_eq!(encoded, bytes);
});
