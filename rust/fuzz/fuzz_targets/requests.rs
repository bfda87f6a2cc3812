//! Requests of kube-apiserver: what is read of one can be written and read again, and a store that holds no KEK never
//! answers with a plaintext.
#![no_main]

use std::sync::LazyLock;

use keystead_core::messages::{self, DecryptV2, EncryptV2, ForeignV2};
use keystead_core::{ANNOTATION, Decrypted, Store};
use libfuzzer_sys::fuzz_target;

static STORE: LazyLock<Store> = LazyLock::new(|| Store::new(vec!["prod-eu-1".to_owned()], 8));

fuzz_target!(|request: &[u8]| {
    if let Ok(read) = EncryptV2::parse(request) {
        assert_eq!(read.uid, messages::request_uid(request));
        let written = message(&[(1, read.plaintext), (2, read.uid.as_bytes())]);
        let again = EncryptV2::parse(&written).expect("a written message is well formed");
        assert_eq!((again.plaintext, again.uid), (read.plaintext, read.uid));
        assert!(written.len() <= request.len());
    }
    if let Ok(read) = DecryptV2::parse(request) {
        assert_eq!(read.uid, messages::request_uid(request));
        let entry = message(&[(1, b"kek.keystead.dev"), (2, read.record)]);
        let fields =
            [(1, read.ciphertext), (2, read.uid.as_bytes()), (3, read.key_id.as_bytes()), (4, &entry)];
        let written = message(&fields);
        let again = DecryptV2::parse(&written).expect("a written message is well formed");
        assert_eq!((again.ciphertext, again.uid), (read.ciphertext, read.uid));
        assert_eq!((again.key_id, again.record), (read.key_id, read.record));
    }
    if let Ok(bytes) = messages::parse_decrypt_v1(request) {
        assert_eq!(messages::parse_encrypt_v1(request), Ok(bytes));
        assert_eq!(messages::is_ping(request), bytes == b"ping");
        let written = message(&[(1, b"v1beta1"), (2, bytes)]);
        assert_eq!(messages::parse_decrypt_v1(&written), Ok(bytes));
    }
    if let Ok(Some(foreign)) = ForeignV2::parse(request) {
        assert!(!foreign.ciphertext.starts_with(b"KSD"), "ours is never shown to a reader of another format");
        assert!(foreign.annotations.iter().all(|(name, _)| *name != ANNOTATION));
        assert!(STORE.decrypt_v2(request).is_err());
    }
    if let Ok(Some(foreign)) = messages::parse_foreign_v1(request) {
        assert!(!foreign.starts_with(b"KS1"));
        assert!(STORE.decrypt_v1(request).is_err());
    }
    assert!(!matches!(STORE.decrypt_v2(request), Ok(Decrypted::Answer(_))));
    assert!(!matches!(STORE.decrypt_v1(request), Ok(Decrypted::Answer(_))));
});

/// A message of length-delimited fields; empty ones are left out, as in proto3.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length > 0x7f {
            out.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        out.push(length.to_le_bytes()[0]);
        out.extend_from_slice(bytes);
    }
    out
}
