use super::*;
use crate::example::{self, counting};
use crate::secret::Kek;
use aws_lc_rs::digest;

/// Seal the example's plaintext with the example's nonce.
fn example_seed(api: Api) -> Vec<u8> {
    let with: SealFn = |key, nonce, aad, plaintext, out| {
        nonce.copy_from_slice(&counting(0x40)[..NONCE_SIZE]);
        aead::seal_with_nonce(key, nonce, aad, plaintext, out)
    };
    seal_using(with, example::kek().keys(), api, example::key_id(), &counting(0x80)).unwrap()
}

#[test]
fn the_example_of_the_format_is_reproduced_byte_for_byte() {
    let ciphertext = "84ce635509e790d3cb9df0d3931c6ec2313e2bd9482b5a29cc7d0d1edbd097dd";
    for (api, tag) in
        [(Api::V2, "efd29dcce07386e1ab5b31f24abe2604"), (Api::V1, "5b385cd20d5d88d1c334a875160a692d")]
    {
        let expected = format!(
            "4b53440101{}{}{ciphertext}{tag}",
            hex::encode(example::kek().keys().kek_id()),
            hex::encode(&counting(0x40)[..NONCE_SIZE])
        );
        assert_eq!(hex::encode(example_seed(api)), expected);
        assert_eq!(expected.len(), 2 * 109);
    }
}

#[test]
fn the_v1_ciphertext_of_the_example_is_reproduced_byte_for_byte() {
    let record = example::record();
    let cipher = encode_v1(example::key_id(), record.bytes(), &example_seed(Api::V1)).unwrap();
    assert_eq!(cipher.len(), 360);
    let hash = digest::digest(&digest::SHA256, &cipher);
    assert_eq!(hex::encode(hash), "968a4756f2854e1deefdf3cb007b7cb3bbffa42bc694cd49f505045727105038");

    let parsed = V1Cipher::parse(&cipher).unwrap();
    assert_eq!(parsed.key_id, example::key_id());
    assert_eq!(parsed.record.bytes(), record.bytes());
    let plaintext = parsed.seed.open(example::kek().keys(), Api::V1, parsed.key_id).unwrap();
    assert_eq!(*plaintext, counting(0x80));
}

#[test]
fn a_seed_opens_only_for_its_own_interface_key_id_and_kek() {
    let (kek, other) = (example::kek(), Kek::from_bytes(&counting(1)).unwrap());
    let relabelled = KeyId::parse("ks1.e8.a6jblazfncg7zxuutyl6joq5teqjrwo5").unwrap();
    let bytes = example_seed(Api::V2);
    let seed = Seed::parse(&bytes).unwrap();
    assert_eq!(*seed.open(kek.keys(), Api::V2, example::key_id()).unwrap(), counting(0x80));
    for (keys, api, key_id) in [
        (kek.keys(), Api::V1, example::key_id()),
        (kek.keys(), Api::V2, relabelled),
        (other.keys(), Api::V2, example::key_id()),
    ] {
        assert!(matches!(seed.open(keys, api, key_id), Err(Error::NotAuthentic(_))));
    }
}

#[test]
fn every_size_from_1_to_947_bytes_is_sealed_and_no_other() {
    let kek = example::kek();
    for size in [1, 2, 31, 32, 33, 946, 947] {
        let sealed = seal(kek.keys(), Api::V2, example::key_id(), &vec![5; size]).unwrap();
        assert_eq!(Seed::parse(&sealed).unwrap().plaintext_size(), size);
    }
    for size in [0, 948, 4096] {
        let refused = seal(kek.keys(), Api::V2, example::key_id(), &vec![5; size]);
        assert_eq!(refused, Err(Error::Malformed("the plaintext is not 1 to 947 bytes long")));
    }
}

#[test]
fn sealing_without_randomness_is_refused() {
    let with: SealFn = |_, _, _, _, _| Err(Error::Unsafe("no randomness"));
    let refused = seal_using(with, example::kek().keys(), Api::V2, example::key_id(), b"seed");
    assert_eq!(refused, Err(Error::Unsafe("no randomness")));
}

#[test]
fn what_does_not_open_after_sealing_is_never_handed_out() {
    let other_plaintext: SealFn =
        |key, nonce, aad, plaintext, out| aead::seal(key, nonce, aad, &vec![0; plaintext.len()], out);
    let broken_tag: SealFn = |key, nonce, aad, plaintext, out| {
        aead::seal(key, nonce, aad, plaintext, out)?;
        out[plaintext.len()] ^= 1;
        Ok(())
    };
    let nothing: SealFn = |_, _, _, _, _| Ok(());
    for with in [other_plaintext, broken_tag, nothing] {
        let refused = seal_using(with, example::kek().keys(), Api::V2, example::key_id(), b"seed");
        assert!(matches!(refused, Err(Error::Unsafe(_))));
    }
}
