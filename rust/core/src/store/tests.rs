use super::*;
use crate::example::{self, AWS, CLUSTER, CREATED, VAULT};
use crate::record::Wrap;
use crate::secret::Kek;
use crate::wire;

/// A KEK with its record, named by one byte.
struct Made {
    kek: Kek,
    record: OwnedRecord,
    key_id: String,
}

fn make(byte: u8, wraps: &[Wrap<'_>]) -> Made {
    let kek = Kek::from_bytes(&[byte; 32]).unwrap();
    let record = OwnedRecord::sign(kek.keys(), CREATED, CLUSTER, wraps).unwrap();
    let key_id = record.view().key_id(1).unwrap();
    Made { kek, record, key_id }
}

fn store(capacity: usize) -> Store {
    Store::new(vec![CLUSTER.to_owned()], capacity)
}

/// A store that holds these, and a `DecryptRequest` for each.
fn filled(capacity: usize, bytes: impl IntoIterator<Item = u8>) -> (Store, Vec<(Made, Vec<u8>)>) {
    let store = store(capacity);
    let made = bytes.into_iter().map(|byte| {
        let made = make(byte, &[AWS]);
        store.admit(&made.record, &[byte; 32]).unwrap();
        let request = request(&made, &made.record);
        (made, request)
    });
    let made = made.collect();
    (store, made)
}

const SEED: &[u8] = b"the seed of the API server";

/// What kube-apiserver would send back for a seed that `made` sealed, with `record` as its annotation.
fn request(made: &Made, record: &OwnedRecord) -> Vec<u8> {
    let key_id = KeyId::parse(&made.key_id).unwrap();
    let sealed = seed::seal(made.kek.keys(), Api::V2, key_id, SEED).unwrap();
    decrypt_request(&sealed, &made.key_id, record.bytes())
}

fn decrypt_request(ciphertext: &[u8], key_id: &str, record: &[u8]) -> Vec<u8> {
    let (mut entry, mut request) = (Vec::new(), Vec::new());
    wire::put(&mut entry, 1, b"kek.keystead.dev");
    wire::put(&mut entry, 2, record);
    wire::put(&mut request, 1, ciphertext);
    wire::put(&mut request, 3, key_id.as_bytes());
    wire::put(&mut request, 4, &entry);
    request
}

fn hits(store: &Store, request: &[u8]) -> bool {
    match store.decrypt_v2(request).unwrap() {
        Decrypted::Answer(answer) => {
            assert_eq!(*answer, *messages::encode_decrypt(SEED));
            true
        }
        Decrypted::Missing(_) => false,
    }
}

#[test]
fn a_missing_kek_is_asked_for_by_its_record_and_then_found() {
    let (store, made) = (store(8), make(1, &[AWS]));
    let request = request(&made, &made.record);
    let Decrypted::Missing(record) = store.decrypt_v2(&request).unwrap() else { panic!("not admitted yet") };
    assert_eq!(record, made.record);
    assert!(!store.holds(&record));
    store.admit(&record, made.kek.reveal()).unwrap();
    assert!(store.holds(&record));
    assert!(hits(&store, &request));
}

#[test]
fn a_kek_that_the_record_does_not_commit_to_is_never_admitted() {
    let (store, made) = (store(8), make(1, &[AWS]));
    for wrong in [&[2; 32][..], &[1; 31], &[1; 33], &[]] {
        assert!(matches!(store.admit(&made.record, wrong), Err(Error::NotAuthentic(_))));
    }
    let stranger = make(2, &[AWS]);
    assert!(matches!(store.admit_fresh(&made.record, &stranger.kek), Err(Error::NotAuthentic(_))));
    assert!(store.is_empty());
}

#[test]
fn a_record_with_a_wrong_mac_is_never_admitted() {
    let (store, made) = (store(8), make(1, &[AWS]));
    let mut bytes = made.record.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = OwnedRecord::new(&Record::parse(&bytes).unwrap());
    assert!(matches!(store.admit(&forged, &[1; 32]), Err(Error::NotAuthentic(_))));
    assert!(matches!(store.admit_fresh(&forged, &made.kek), Err(Error::NotAuthentic(_))));
    assert!(store.is_empty());
}

#[test]
fn the_least_recently_used_kek_gives_way() {
    let (store, made) = filled(3, 1..=3);
    assert!(hits(&store, &made[0].1));
    let newest = make(4, &[AWS]);
    store.admit(&newest.record, &[4; 32]).unwrap();
    assert_eq!(store.len(), 3);
    assert!(hits(&store, &made[0].1));
    assert!(!hits(&store, &made[1].1), "it was not used since its admission");
    assert!(hits(&store, &made[2].1));
    assert!(hits(&store, &request(&newest, &newest.record)));
}

#[test]
fn a_refused_request_does_not_keep_a_kek_from_giving_way() {
    let (store, made) = filled(2, 1..=2);
    let mut broken = made[0].1.clone();
    let end_of_ciphertext = 2 + usize::from(broken[1]);
    broken[end_of_ciphertext - 1] ^= 1;
    assert!(matches!(store.decrypt_v2(&broken), Err(Error::NotAuthentic(_))));
    store.admit(&make(3, &[AWS]).record, &[3; 32]).unwrap();
    assert!(!hits(&store, &made[0].1));
}

#[test]
fn the_current_kek_never_gives_way() {
    let (store, made) = filled(2, 1..=2);
    store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    for byte in 10..30 {
        store.admit(&make(byte, &[AWS]).record, &[byte; 32]).unwrap();
        assert_eq!(store.len(), 2);
    }
    assert!(hits(&store, &made[0].1));
}

#[test]
fn a_former_current_kek_may_give_way_again() {
    let (store, made) = filled(2, 1..=2);
    for (made, _) in &made {
        store.write_state(&made.record, &made.key_id).unwrap();
    }
    store.admit(&make(3, &[AWS]).record, &[3; 32]).unwrap();
    assert!(!hits(&store, &made[0].1));
    assert!(hits(&store, &made[1].1));
}

#[test]
fn the_smallest_store_still_opens_one_kek_beside_the_current_one() {
    let (store, made) = filled(1, [1]);
    store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    for byte in 2..5 {
        let other = make(byte, &[AWS]);
        store.admit(&other.record, &[byte; 32]).unwrap();
        assert!(hits(&store, &request(&other, &other.record)));
        assert!(hits(&store, &made[0].1));
        assert_eq!(store.len(), 2);
    }
}

#[test]
fn a_write_state_outlives_the_eviction_of_its_kek() {
    let (store, made) = filled(8, [1]);
    let state = store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    assert_eq!(store.retain(&[]), 1);
    let mut request = Vec::new();
    wire::put(&mut request, 1, SEED);
    let answer = state.encrypt_v2(&request).unwrap();
    assert!(answer.len() > 109);
    assert_eq!(state.uses(), 1);
}

#[test]
fn what_one_store_holds_another_does_not_open() {
    let (one, made) = filled(8, [1]);
    let other = store(8);
    assert!(hits(&one, &made[0].1));
    assert!(!hits(&other, &made[0].1));
}

#[test]
fn a_mutilated_record_with_a_live_kek_id_fails_while_the_good_one_succeeds() {
    let (store, made) = filled(8, [1]);
    let (made, good) = &made[0];
    let live = made.record.bytes();
    let mut mutilated = live.to_vec();
    *mutilated.last_mut().unwrap() ^= 1;
    let mut other_time = live.to_vec();
    other_time[14] ^= 1;
    for bytes in [mutilated, other_time] {
        let bad = OwnedRecord::new(&Record::parse(&bytes).unwrap());
        assert_eq!(bad.view().kek_id(), made.record.view().kek_id());
        assert!(matches!(store.decrypt_v2(&request(made, &bad)), Err(Error::NotAuthentic(_))));
        assert!(!store.holds(&bad));
        assert!(hits(&store, good));
    }
}

#[test]
fn a_kek_that_was_wrapped_again_opens_with_either_record() {
    let (store, made) = filled(8, [1]);
    let (made, good) = &made[0];
    let again = OwnedRecord::sign(made.kek.keys(), CREATED + 1, CLUSTER, &[AWS, VAULT]).unwrap();
    assert!(hits(&store, &request(made, &again)));
    assert!(store.holds(&again));
    store.admit(&again, &[1; 32]).unwrap();
    assert_eq!(store.len(), 1);
    assert!(hits(&store, good));
}

#[test]
fn a_cluster_that_is_not_accepted_is_refused_before_anything_else_is_tried() {
    let (store, made) = filled(8, [1]);
    store.accept(vec!["elsewhere".to_owned()]);
    assert_eq!(store.decrypt_v2(&made[0].1).unwrap_err(), Error::ClusterNotAccepted);
    store.accept(vec!["elsewhere".to_owned(), CLUSTER.to_owned()]);
    assert!(hits(&store, &made[0].1));
    store.accept(vec![]);
    assert_eq!(store.decrypt_v2(&made[0].1).unwrap_err(), Error::ClusterNotAccepted);
}

#[test]
fn a_ciphertext_with_the_record_of_another_kek_is_refused() {
    let (store, made) = filled(8, 1..=2);
    let swapped = request(&made[0].0, &made[1].0.record);
    assert!(matches!(store.decrypt_v2(&swapped), Err(Error::NotAuthentic(_))));
}

#[test]
fn only_keks_with_an_online_wrap_of_a_configured_key_are_retained() {
    let store = store(8);
    let recovery = Wrap { role: Role::Recovery, ..VAULT };
    let both = make(1, &[AWS, VAULT]);
    let aws = make(2, &[AWS]);
    let vault_for_recovery = make(3, &[AWS, recovery]);
    for (made, byte) in [(&both, 1), (&aws, 2), (&vault_for_recovery, 3)] {
        store.admit(&made.record, &[byte; 32]).unwrap();
    }
    let member = |wrap: &Wrap<'_>| (wrap.scheme.to_owned(), wrap.reference.to_owned());
    assert_eq!(store.retain(&[member(&VAULT), member(&AWS)]), 0);
    assert_eq!(store.retain(&[member(&VAULT)]), 2);
    assert!(store.holds(&both.record));
    assert_eq!(store.retain(&[("vault-transit".to_owned(), "another".to_owned())]), 1);
    assert!(store.is_empty());
}

#[test]
fn a_write_state_needs_an_admitted_kek_and_the_name_of_its_members() {
    let (store, made) = filled(8, [1]);
    let stranger = make(2, &[AWS]);
    assert_eq!(store.write_state(&stranger.record, &stranger.key_id).unwrap_err(), Error::NotHeld);
    let name_of_other_members = make(1, &[VAULT]).key_id;
    for wrong in ["", "ks1", &name_of_other_members] {
        let error = store.write_state(&made[0].0.record, wrong).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{wrong}");
    }
    let state = store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    assert_eq!((state.key_id(), state.record(), state.uses()), (&*made[0].0.key_id, &made[0].0.record, 0));
}

#[test]
fn what_a_write_state_encrypts_the_store_decrypts_in_both_interfaces() {
    let (store, kek, record) = (store(8), example::kek(), example::record());
    store.admit_fresh(&record, &kek).unwrap();
    let state = store.write_state(&record, example::KEY_ID).unwrap();
    for size in [1, 4, 32, 947] {
        let plaintext = vec![9; size];
        let mut request = Vec::new();
        wire::put(&mut request, 1, &plaintext);
        let answer = state.encrypt_v2(&request).unwrap();
        let fields: Vec<_> = wire::Fields::of(&answer).collect::<Result<_>>().unwrap();
        let [(1, ciphertext), (2, key_id), (3, entry)] = fields[..] else { panic!("{fields:?}") };
        let mut request = Vec::new();
        wire::put(&mut request, 1, ciphertext.bytes().unwrap());
        wire::put(&mut request, 3, key_id.bytes().unwrap());
        wire::put(&mut request, 4, entry.bytes().unwrap());
        let Decrypted::Answer(opened) = store.decrypt_v2(&request).unwrap() else {
            panic!("it was admitted")
        };
        assert_eq!(*opened, *messages::encode_decrypt(&plaintext));

        let v1 = |bytes: &[u8]| {
            let mut request = Vec::new();
            wire::put(&mut request, 1, b"v1beta1");
            wire::put(&mut request, 2, bytes);
            request
        };
        let answer = state.encrypt_v1(&v1(&plaintext)).unwrap();
        let fields: Vec<_> = wire::Fields::of(&answer).collect::<Result<_>>().unwrap();
        let [(1, cipher)] = fields[..] else { panic!("{fields:?}") };
        let cipher = cipher.bytes().unwrap();
        let Decrypted::Answer(opened) = store.decrypt_v1(&v1(cipher)).unwrap() else {
            panic!("it was admitted")
        };
        assert_eq!(*opened, *messages::encode_decrypt(&plaintext));

        let parsed = V1Cipher::parse(cipher).unwrap();
        let seed = &cipher[cipher.len() - size - 77..];
        let offered_to_v2 = decrypt_request(seed, parsed.key_id.as_str(), parsed.record.bytes());
        assert!(matches!(store.decrypt_v2(&offered_to_v2), Err(Error::NotAuthentic(_))));
    }
    assert_eq!(state.uses(), 8);
}

#[test]
fn a_request_of_the_wrong_size_is_refused_by_encrypt() {
    let (store, made) = filled(8, [1]);
    let state = store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    for size in [0, 948] {
        let mut request = Vec::new();
        wire::put(&mut request, 1, &vec![9; size]);
        assert!(matches!(state.encrypt_v2(&request), Err(Error::Malformed(_))));
    }
}

#[test]
fn many_threads_may_decrypt_admit_encrypt_and_retain_at_once() {
    let (store, made) = filled(4, 1..=4);
    let aws = (AWS.scheme.to_owned(), AWS.reference.to_owned());
    let state = store.write_state(&made[0].0.record, &made[0].0.key_id).unwrap();
    let rounds = if cfg!(debug_assertions) { 100 } else { 2000 };
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (store, made, state, aws) = (&store, &made, &state, &aws);
            scope.spawn(move || {
                for round in 0..rounds {
                    for (_, request) in made {
                        hits(store, request);
                    }
                    assert!(hits(store, &made[0].1), "the current KEK stays");
                    let newcomer = 10 + thread * 8 + u8::try_from(round % 8).unwrap();
                    store.admit(&make(newcomer, &[AWS]).record, &[newcomer; 32]).unwrap();
                    let mut request = Vec::new();
                    wire::put(&mut request, 1, SEED);
                    state.encrypt_v2(&request).unwrap();
                    assert_eq!(store.retain(std::slice::from_ref(aws)), 0);
                    assert!(store.len() <= 4);
                }
            });
        }
    });
    assert_eq!(state.uses(), 4 * u64::try_from(rounds).unwrap());
}
