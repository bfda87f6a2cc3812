//! What holds for all inputs; the numbers are those of the invariants in `docs/spec/format.md`.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use common::{AWS, CLUSTER, CREATED, Endpoint, Sealed, VAULT};
use keystead_core::{Error, Kek, MAX_RECORD, OwnedRecord, Record, Role, Seed, StateFile, V1Cipher, Wrap};
use keystead_core::{KeyId, encode_body, encode_v1};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// What a wrap owns, by the order of a record.
type Wraps = std::collections::BTreeMap<(String, String, String), (bool, Vec<u8>)>;

fn wraps() -> impl Strategy<Value = Wraps> {
    let name = ("[a-z0-9-]{1,32}", "[!-~]{1,512}", "[!-~]{0,64}");
    btree_map(name, (any::<bool>(), vec(any::<u8>(), 1..3000)), 1..=8)
        .prop_filter("a record has an online wrap", |wraps| wraps.values().any(|(online, _)| *online))
}

fn cluster() -> impl Strategy<Value = String> {
    "([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)?"
}

fn view(wraps: &Wraps) -> Vec<Wrap<'_>> {
    wraps
        .iter()
        .map(|((scheme, reference, version), (online, blob))| Wrap {
            scheme,
            reference,
            version,
            role: if *online { Role::Online } else { Role::Recovery },
            blob,
        })
        .collect()
}

/// Re-encode a parsed record from its parts.
fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = encode_body(record.created(), record.cluster(), record.kek_id(), record.wraps()).unwrap();
    bytes.extend_from_slice(record.mac());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// P1
    #[test]
    fn what_is_encrypted_decrypts_to_the_same(
        kek: [u8; 32],
        epoch in 1..=u32::MAX,
        plaintext in vec(any::<u8>(), 1..=947),
    ) {
        let endpoint = Endpoint::new(kek, CLUSTER, epoch, &[AWS, VAULT]);
        let sealed = endpoint.encrypt(&plaintext);
        prop_assert_eq!(sealed.ciphertext.len(), plaintext.len() + 77);
        prop_assert_eq!(&sealed.key_id, endpoint.state.key_id());
        prop_assert_eq!(endpoint.decrypt(&sealed), Ok(Some(plaintext.clone())));
        prop_assert_eq!(endpoint.decrypt_v1(&endpoint.encrypt_v1(&plaintext)), Ok(Some(plaintext)));
    }

    /// P3
    #[test]
    fn a_record_parses_to_what_was_encoded(
        kek: [u8; 32],
        created in 0..1_u64 << 40,
        cluster in cluster(),
        wraps in wraps(),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let kek = Kek::from_bytes(&kek).unwrap();
        let wraps = view(&wraps);
        let mut shuffled = wraps.clone();
        shuffled.rotate_left(shuffle.index(wraps.len()));
        match OwnedRecord::sign(kek.keys(), created, &cluster, &shuffled) {
            Ok(record) => {
                let view = record.view();
                prop_assert!(record.bytes().len() <= MAX_RECORD);
                prop_assert_eq!(view.created(), created);
                prop_assert_eq!(view.cluster(), &*cluster);
                prop_assert_eq!(view.kek_id(), kek.keys().kek_id());
                prop_assert_eq!(view.wraps(), &wraps[..]);
                prop_assert_eq!(view.verify(kek.keys()), Ok(()));
                prop_assert_eq!(encode(&view), record.bytes());
            }
            Err(error) => {
                prop_assert!(wraps.iter().map(|wrap| wrap.blob.len()).sum::<usize>() > MAX_RECORD / 2, "{}", error);
            }
        }
    }

    /// P3
    #[test]
    fn no_input_makes_a_parser_panic_and_what_it_accepts_encodes_to_itself(
        magic in prop::sample::select(vec![&b"KSK\x01\x01\x01"[..], b"KSD\x01\x01", b"KS1\x01", b"KSS\x01", b""]),
        rest in vec(any::<u8>(), 0..2000),
    ) {
        let bytes = [magic, &rest].concat();
        if let Ok(record) = Record::parse(&bytes) {
            prop_assert_eq!(encode(&record), &bytes[..]);
        }
        if let Ok(seed) = Seed::parse(&bytes) {
            prop_assert_eq!(seed.plaintext_size() + 77, bytes.len());
        }
        prop_assert!(V1Cipher::parse(&bytes).is_err());
        prop_assert!(StateFile::parse(&bytes).is_err());
    }

    /// P2
    #[test]
    fn a_flipped_bit_in_any_field_is_never_answered(
        plaintext in vec(any::<u8>(), 1..=64),
        field in 0..4,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let endpoint = Endpoint::new([7; 32], CLUSTER, 3, &[AWS, VAULT]);
        let flip = |bytes: &mut [u8]| bytes[at.index(bytes.len())] ^= 1 << bit;
        let outcome = if field == 3 {
            let mut cipher = endpoint.encrypt_v1(&plaintext);
            flip(&mut cipher);
            endpoint.decrypt_v1(&cipher)
        } else {
            let mut sealed = endpoint.encrypt(&plaintext);
            match field {
                0 => flip(&mut sealed.ciphertext),
                1 => flip(&mut sealed.record),
                _ => {
                    let mut key_id = sealed.key_id.into_bytes();
                    flip(&mut key_id);
                    // A key_id that is not UTF-8 cannot be in a request's string field.
                    sealed.key_id = String::from_utf8(key_id).unwrap_or_default();
                }
            }
            endpoint.decrypt(&sealed)
        };
        prop_assert!(!matches!(outcome, Ok(Some(_))), "{:?}", outcome);
    }

    /// P4
    #[test]
    fn a_ciphertext_opens_under_its_own_epoch_cluster_and_record_only(
        plaintext in vec(any::<u8>(), 1..=64),
        epochs in (1..100_u32, 100..200_u32),
    ) {
        let endpoint = Endpoint::new([7; 32], CLUSTER, epochs.0, &[AWS]);
        let sealed = endpoint.encrypt(&plaintext);

        let relabelled = endpoint.record.view().key_id(epochs.1).unwrap();
        let outcome = endpoint.decrypt(&Sealed { key_id: relabelled, ..sealed.clone() });
        prop_assert!(matches!(outcome, Err(Error::NotAuthentic(_))));

        let elsewhere = Endpoint::new([7; 32], "elsewhere", epochs.0, &[AWS]);
        prop_assert_eq!(elsewhere.decrypt(&sealed), Err(Error::ClusterNotAccepted));

        let other_kek = Endpoint::new([8; 32], CLUSTER, epochs.0, &[AWS]);
        let record = other_kek.record.bytes().to_vec();
        other_kek.store.admit_fresh(&endpoint.record, &endpoint.kek).unwrap();
        let outcome = other_kek.decrypt(&Sealed { record, ..sealed.clone() });
        prop_assert!(matches!(outcome, Err(Error::NotAuthentic(_))));

        let v1 = encode_v1(KeyId::parse(&sealed.key_id).unwrap(), &sealed.record, &sealed.ciphertext).unwrap();
        prop_assert!(matches!(endpoint.decrypt_v1(&v1), Err(Error::NotAuthentic(_))));
        prop_assert_eq!(endpoint.decrypt(&sealed), Ok(Some(plaintext)));
    }

    /// P5
    #[test]
    fn no_record_admits_two_keks(one: [u8; 32], two: [u8; 32]) {
        prop_assume!(one != two);
        let (first, second) = (Kek::from_bytes(&one).unwrap(), Kek::from_bytes(&two).unwrap());
        prop_assert_ne!(first.keys().kek_id(), second.keys().kek_id());
        let record = OwnedRecord::sign(first.keys(), CREATED, CLUSTER, &[AWS]).unwrap();
        let store = keystead_core::Store::new(vec![], 8);
        prop_assert!(matches!(store.admit(&record, &two), Err(Error::NotAuthentic(_))));
        prop_assert_eq!(store.admit(&record, &one), Ok(()));
    }
}

/// P2, exhaustively for one ciphertext of each interface.
#[test]
fn every_single_bit_flip_of_a_seed_and_of_a_v1_ciphertext_is_refused() {
    let endpoint = Endpoint::new([7; 32], CLUSTER, 3, &[AWS, VAULT]);
    let sealed = endpoint.encrypt(&[5; 32]);
    let mut refused = 0;
    for bit in 0..8 * sealed.ciphertext.len() {
        let mut flipped = sealed.clone();
        flipped.ciphertext[bit / 8] ^= 1 << (bit % 8);
        refused += usize::from(endpoint.decrypt(&flipped).is_err());
    }
    assert_eq!(refused, 8 * 109);

    let cipher = endpoint.encrypt_v1(&[5; 32]);
    let mut refused = 0;
    for bit in 0..8 * cipher.len() {
        let mut flipped = cipher.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused += usize::from(!matches!(endpoint.decrypt_v1(&flipped), Ok(Some(_))));
    }
    assert_eq!(refused, 8 * cipher.len());
}
