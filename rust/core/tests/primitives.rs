//! Project Wycheproof's vectors for the primitives that Keystead composes. The wrappers around them are private, so
//! these run against the library in the way that the wrappers call it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{cmac, hkdf, hmac};
use wycheproof::TestResult;

#[test]
fn aes_256_gcm_holds_wycheproofs_vectors() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &test.key).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let aad = || Aad::from(&test.aad[..]);
            let mut opened = vec![0; test.ct.len()];
            let authentic =
                key.open_separate_gather(nonce(), aad(), &test.ct, &test.tag, &mut opened).is_ok();
            assert_eq!(authentic, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            if authentic {
                assert_eq!(opened, &test.pt[..], "case {}", test.tc_id);
                let mut sealed = test.pt.to_vec();
                let tag = key.seal_in_place_separate_tag(nonce(), aad(), &mut sealed).unwrap();
                assert_eq!((&sealed[..], tag.as_ref()), (&test.ct[..], &test.tag[..]), "case {}", test.tc_id);
                valid += 1;
            } else {
                invalid += 1;
            }
        }
    }
    assert_eq!((valid, invalid), (39, 27));
}

#[test]
fn aes_256_cmac_holds_wycheproofs_vectors() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::AesCmac).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        if (group.key_size, group.tag_size) != (256, 128) {
            continue;
        }
        for test in group.tests {
            let key = cmac::Key::new(cmac::AES_256, &test.key).unwrap();
            let mut tag = [0; 16];
            cmac::sign_to_buffer(&key, &test.msg, &mut tag).unwrap();
            let equal = tag == test.tag[..];
            assert_eq!(equal, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            *if equal { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert_eq!((valid, invalid), (21, 81));
}

#[test]
fn hmac_sha256_holds_wycheproofs_vectors() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        for test in group.tests {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &test.key);
            let tag = hmac::sign(&key, &test.msg);
            let equal = tag.as_ref()[..group.tag_size / 8] == test.tag[..];
            assert_eq!(equal, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            if group.tag_size == 256 {
                assert_eq!(hmac::verify(&key, &test.msg, &test.tag).is_ok(), equal, "case {}", test.tc_id);
            }
            *if equal { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert_eq!((valid, invalid), (66, 108));
}

/// The length that HKDF is asked for.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[test]
fn hkdf_sha256_holds_wycheproofs_vectors() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        for test in group.tests {
            // Extract is HMAC keyed by the salt; Keystead uses Expand alone, with the KEK as pseudo-random key.
            let salt = if test.salt.is_empty() { &[0; 32][..] } else { &test.salt };
            let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), &test.ikm);
            let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, extracted.as_ref());
            let mut okm = vec![0; test.size];
            let filled =
                prk.expand(&[&test.info], Length(test.size)).and_then(|okm_of| okm_of.fill(&mut okm));
            let equal = filled.is_ok() && okm == test.okm[..];
            assert_eq!(equal, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            *if equal { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert_eq!((valid, invalid), (83, 3));
}
