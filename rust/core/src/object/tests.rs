use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use super::*;
use crate::example;
use crate::seed;

const KEY: &[u8] = b"/registry/secrets/default/s1";
const OBJECT: &[u8] = b"k8s\0an object";
const SOURCE: [u8; 32] = [0x5e; 32];

/// What the API server does, with HKDF-Expand spelled out: one block is HMAC(seed, info, 1).
fn seal(kind: SourceType, etcd_key: &[u8], object: &[u8]) -> Vec<u8> {
    let (key, info) = match kind {
        SourceType::Key => (SOURCE.to_vec(), &[][..]),
        SourceType::Seed => {
            let prf = hmac::Key::new(hmac::HMAC_SHA256, &SOURCE);
            (hmac::sign(&prf, &[&[7; INFO_SIZE][..], &[1]].concat()).as_ref().to_vec(), &[7; INFO_SIZE][..])
        }
    };
    let nonce = [9; NONCE_SIZE];
    let mut sealed = object.to_vec();
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap())
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(etcd_key), &mut sealed)
        .unwrap();
    [info, &nonce, &sealed].concat()
}

fn recovery() -> Recovery {
    let mut recovery = Recovery::default();
    recovery.admit(&example::record(), &example::counting(0)).unwrap();
    recovery
}

fn sealed_source(api: Api) -> Vec<u8> {
    seed::seal(example::kek().keys(), api, example::key_id(), &SOURCE).unwrap()
}

fn open_v2(recovery: &Recovery, etcd_key: &[u8], kind: SourceType, data: &[u8]) -> Result<Vec<u8>> {
    let record = example::record();
    let source = sealed_source(Api::V2);
    let value =
        ValueV2 { key_id: example::KEY_ID, source: &source, source_type: kind, record: record.bytes(), data };
    recovery.open_v2(etcd_key, &value).map(|object| object.to_vec())
}

#[test]
fn both_kinds_of_v2_objects_open_at_their_own_key_in_etcd_only() {
    let recovery = recovery();
    for kind in [SourceType::Seed, SourceType::Key] {
        for object in [OBJECT, b""] {
            let data = seal(kind, KEY, object);
            assert_eq!(open_v2(&recovery, KEY, kind, &data).unwrap(), object);
            for elsewhere in [&b"/registry/secrets/default/s2"[..], b"/kubernetes.io/secrets/default/s1", b""]
            {
                assert!(matches!(open_v2(&recovery, elsewhere, kind, &data), Err(Error::NotAuthentic(_))));
            }
        }
    }
    let derived = seal(SourceType::Seed, KEY, OBJECT);
    assert!(matches!(open_v2(&recovery, KEY, SourceType::Key, &derived), Err(Error::NotAuthentic(_))));
}

#[test]
fn no_changed_or_shortened_object_opens() {
    let recovery = recovery();
    for kind in [SourceType::Seed, SourceType::Key] {
        let data = seal(kind, KEY, OBJECT);
        for index in 0..data.len() {
            let mut changed = data.clone();
            changed[index] ^= 1;
            assert!(
                matches!(open_v2(&recovery, KEY, kind, &changed), Err(Error::NotAuthentic(_))),
                "{index}"
            );
            assert!(open_v2(&recovery, KEY, kind, &data[..index]).is_err(), "{index}");
        }
    }
}

#[test]
fn a_v1_object_opens_and_its_refusal_names_old_releases() {
    let recovery = recovery();
    let record = example::record();
    let cipher = seed::encode_v1(example::key_id(), record.bytes(), &sealed_source(Api::V1)).unwrap();
    let data = seal(SourceType::Key, KEY, OBJECT);
    assert_eq!(*recovery.open_v1(KEY, &cipher, &data).unwrap(), OBJECT);
    let Err(Error::NotAuthentic(text)) = recovery.open_v1(b"/registry/other", &cipher, &data) else {
        panic!("opened elsewhere")
    };
    assert!(text.contains("1.24"), "{text}");
    let of_v2 = seed::encode_v1(example::key_id(), record.bytes(), &sealed_source(Api::V2)).unwrap();
    assert!(matches!(recovery.open_v1(KEY, &of_v2, &data), Err(Error::NotAuthentic(_))));
}

#[test]
fn only_the_kek_that_the_record_commits_to_is_admitted() {
    let record = example::record();
    let mut recovery = Recovery::default();
    for wrong in [&[1; 32][..], &[0; 31], b""] {
        assert!(matches!(recovery.admit(&record, wrong), Err(Error::NotAuthentic(_))));
    }
    assert!(!recovery.holds(&record));
    let data = seal(SourceType::Seed, KEY, OBJECT);
    assert_eq!(open_v2(&recovery, KEY, SourceType::Seed, &data), Err(Error::NotHeld));

    let mut changed = record.bytes().to_vec();
    changed[10] ^= 1; // the time, which only the MAC covers
    let changed = OwnedRecord::new(&Record::parse(&changed).unwrap());
    assert!(matches!(recovery.admit(&changed, &example::counting(0)), Err(Error::NotAuthentic(_))));
    recovery.admit(&record, &example::counting(0)).unwrap();
    assert!(recovery.holds(&record));
    assert!(!recovery.holds(&changed));
}

#[test]
fn a_source_of_another_length_than_an_api_servers_is_refused() {
    for length in [31, 33] {
        let source = seed::seal(example::kek().keys(), Api::V2, example::key_id(), &vec![1; length]).unwrap();
        let record = example::record();
        let value = ValueV2 {
            key_id: example::KEY_ID,
            source: &source,
            source_type: SourceType::Seed,
            record: record.bytes(),
            data: &seal(SourceType::Seed, KEY, OBJECT),
        };
        assert!(matches!(recovery().open_v2(KEY, &value), Err(Error::Malformed(_))));
    }
}
