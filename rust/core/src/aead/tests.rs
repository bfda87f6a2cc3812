use super::*;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};
use xaes_256_gcm::Xaes256Gcm;
use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

const NONCE: &[u8; NONCE_SIZE] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

fn sealed(key: &[u8; KEY_SIZE], nonce: &[u8; NONCE_SIZE], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plaintext.len() + TAG_SIZE];
    seal_with_nonce(key, nonce, aad, plaintext, &mut out).unwrap();
    out
}

fn opened(key: &[u8; KEY_SIZE], nonce: &[u8; NONCE_SIZE], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xEE; sealed.len() - TAG_SIZE];
    match open(key, nonce, aad, sealed, &mut out) {
        Ok(()) => Some(out),
        Err(error) => {
            assert!(matches!(error, Error::NotAuthentic(_)));
            assert!(out.iter().all(|byte| *byte == 0), "bytes that do not authenticate are wiped");
            None
        }
    }
}

#[test]
fn the_two_vectors_of_the_specification_hold() {
    let vectors: [([u8; 32], &[u8], &str); 2] = [
        ([1; 32], b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        ([3; 32], b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ];
    for (key, aad, expected) in vectors {
        let ciphertext = sealed(&key, NONCE, aad, b"XAES-256-GCM");
        assert_eq!(hex::encode(&ciphertext), expected);
        assert_eq!(opened(&key, NONCE, aad, &ciphertext).unwrap(), b"XAES-256-GCM");
    }
}

/// The specification's accumulated test: inputs come from SHAKE128, all ciphertexts go into one hash.
#[test]
fn the_accumulated_vector_of_the_specification_holds() {
    let (iterations, expected) = if cfg!(debug_assertions) {
        (10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939")
    } else {
        (1_000_000, "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15")
    };
    let mut source = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    for _ in 0..iterations {
        let (mut key, mut nonce) = ([0; KEY_SIZE], [0; NONCE_SIZE]);
        source.read(&mut key);
        source.read(&mut nonce);
        let (plaintext, aad) = (short(&mut source), short(&mut source));
        let ciphertext = sealed(&key, &nonce, &aad, &plaintext);
        assert_eq!(opened(&key, &nonce, &aad, &ciphertext).unwrap(), plaintext);
        hash.update(&ciphertext);
    }
    let mut digest = [0; 32];
    hash.finalize_xof().read(&mut digest);
    assert_eq!(hex::encode(digest), expected);
}

fn short(source: &mut impl XofReader) -> Vec<u8> {
    let mut length = [0];
    source.read(&mut length);
    let mut bytes = vec![0; usize::from(length[0])];
    source.read(&mut bytes);
    bytes
}

#[test]
fn another_implementation_agrees_at_every_length() {
    for length in 0..1100_u16 {
        let (mut key, mut nonce) = ([0; KEY_SIZE], [0; NONCE_SIZE]);
        random(&mut key).unwrap();
        random(&mut nonce).unwrap();
        let mut plaintext = vec![0; usize::from(length)];
        random(&mut plaintext).unwrap();
        let aad = &plaintext[..usize::from(length / 3)];
        let theirs = Xaes256Gcm::new(&key.into());
        let payload = Payload { msg: &plaintext, aad };
        assert_eq!(theirs.encrypt(&nonce.into(), payload).unwrap(), sealed(&key, &nonce, aad, &plaintext));
    }
}

#[test]
fn any_flipped_bit_is_refused_and_leaves_no_plaintext() {
    let (key, aad) = ([7; KEY_SIZE], *b"additional data");
    let ciphertext = sealed(&key, NONCE, &aad, b"a seed of the API server");
    let mut refused = 0;
    for bit in 0..8 * ciphertext.len() {
        refused += usize::from(opened(&key, NONCE, &aad, &flip(&ciphertext, bit)).is_none());
    }
    for bit in 0..8 * KEY_SIZE {
        let key = flip(&key, bit).try_into().unwrap();
        refused += usize::from(opened(&key, NONCE, &aad, &ciphertext).is_none());
    }
    for bit in 0..8 * NONCE_SIZE {
        let nonce = flip(NONCE, bit).try_into().unwrap();
        refused += usize::from(opened(&key, &nonce, &aad, &ciphertext).is_none());
    }
    for bit in 0..8 * aad.len() {
        refused += usize::from(opened(&key, NONCE, &flip(&aad, bit), &ciphertext).is_none());
    }
    assert_eq!(refused, 8 * (ciphertext.len() + KEY_SIZE + NONCE_SIZE + aad.len()));
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

#[test]
fn sealing_draws_a_fresh_nonce_each_time() {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let (mut nonce, mut out) = ([0; NONCE_SIZE], [0; TAG_SIZE + 1]);
        seal(&[7; KEY_SIZE], &mut nonce, b"", b"x", &mut out).unwrap();
        seen.insert(nonce);
    }
    assert_eq!(seen.len(), 1000);
}
