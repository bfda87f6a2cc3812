use super::*;
use crate::example::{self, AWS, CLUSTER, CREATED, EPOCH, KEY_ID, VAULT};
use crate::secret::Kek;

fn signed(cluster: &str, wraps: &[Wrap<'_>]) -> Result<OwnedRecord> {
    OwnedRecord::sign(example::kek().keys(), CREATED, cluster, wraps)
}

#[test]
fn the_example_of_the_format_is_reproduced_byte_for_byte() {
    let record = example::record();
    let view = record.view();
    assert_eq!(record.bytes().len(), 205);
    assert_eq!(hex::encode(view.mac()), "a159c74ef5bf0efcf2b57777d365aa77dda4d9b5c1bd59f86197ee57498309b7");
    assert_eq!(
        hex::encode(view.kek_id()),
        "5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25"
    );
    assert_eq!(view.key_id(EPOCH).unwrap(), KEY_ID);
    assert_eq!(
        hex::encode(view.remote_aad()),
        "6b657973746561642e6465762f777261702f763100\
         5c0747f3d18816a8104ef901c9d8328c03fc861657ffee733d31a5188d93df25\
         0970726f642d65752d31"
    );
    assert_eq!((view.created(), view.cluster(), view.wraps()), (CREATED, CLUSTER, &[AWS, VAULT][..]));
}

#[test]
fn wraps_are_ordered_by_their_bytes_and_not_by_their_lengths() {
    let local = Wrap { scheme: "local", reference: "k", version: "1", role: Role::Online, blob: &[] };
    let aws = Wrap { scheme: "aws-kms", reference: "arn:x", version: "", role: Role::Online, blob: &[] };
    for members in [[local, aws], [aws, local]] {
        assert_eq!(key_id::compute(CLUSTER, 7, &members).unwrap(), "ks1.e7.pnyzcrwzeoywp4o3wy3azjerciomoy7e");
    }
}

#[test]
fn a_record_verifies_with_its_own_kek_only() {
    let record = example::record();
    record.view().verify(example::kek().keys()).unwrap();
    let other = Kek::from_bytes(&[9; 32]).unwrap();
    assert!(matches!(record.view().verify(other.keys()), Err(Error::NotAuthentic(_))));
}

#[test]
fn a_record_with_any_bit_flipped_is_malformed_or_fails_its_mac() {
    let (kek, record) = (example::kek(), example::record());
    let (mut malformed, mut not_authentic) = (0, 0);
    for bit in 0..8 * record.bytes().len() {
        let mut bytes = record.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match Record::parse(&bytes).and_then(|record| record.verify(kek.keys())) {
            Err(Error::Malformed(_)) => malformed += 1,
            Err(Error::NotAuthentic(_)) => not_authentic += 1,
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    assert_eq!(malformed + not_authentic, 8 * 205);
    assert!(malformed > 300 && not_authentic > 500, "{malformed} {not_authentic}");
}

#[test]
fn a_record_cut_at_any_length_is_malformed() {
    let record = example::record();
    for length in 0..record.bytes().len() {
        assert!(matches!(Record::parse(&record.bytes()[..length]), Err(Error::Malformed(_))), "{length}");
    }
}

#[test]
fn the_limits_of_the_format_are_accepted_and_one_more_is_refused() {
    let (label, reference) = ("c".repeat(64), "r".repeat(513));
    let (scheme, version, blob) = ("s".repeat(33), "v".repeat(65), vec![1; 4097]);
    let largest = Wrap {
        scheme: &scheme[..32],
        reference: &reference[..512],
        version: &version[..64],
        role: Role::Online,
        blob: &blob[..4096],
    };
    signed(&label[..63], &[largest]).unwrap();
    signed("", &[Wrap { scheme: "s", reference: "r", version: "", role: Role::Online, blob: &[0] }]).unwrap();

    let empty = "";
    for (wrong, text) in [
        (Wrap { scheme: &scheme, ..largest }, SCHEME_FORM),
        (Wrap { scheme: empty, ..largest }, SCHEME_FORM),
        (Wrap { scheme: "AWS", ..largest }, SCHEME_FORM),
        (Wrap { scheme: "aws_kms", ..largest }, SCHEME_FORM),
        (Wrap { reference: &reference, ..largest }, REF_FORM),
        (Wrap { reference: empty, ..largest }, REF_FORM),
        (Wrap { reference: "a b", ..largest }, REF_FORM),
        (Wrap { reference: "a\u{7f}", ..largest }, REF_FORM),
        (Wrap { reference: "schlüssel", ..largest }, REF_FORM),
        (Wrap { version: &version, ..largest }, VERSION_FORM),
        (Wrap { version: "1 ", ..largest }, VERSION_FORM),
        (Wrap { blob: &blob, ..largest }, "a wrapped key is not 1 to 4096 bytes long"),
        (Wrap { blob: &[], ..largest }, "a wrapped key is not 1 to 4096 bytes long"),
        (Wrap { role: Role::Recovery, ..largest }, "no wrap of the KEK record is for online use"),
    ] {
        assert_eq!(signed(CLUSTER, &[wrong]), Err(Error::Malformed(text)));
    }
    for wrong in [&label, "-a", "a-", ".a", "a.", "A", "a_b", "ü"] {
        assert_eq!(signed(wrong, &[largest]), Err(Error::Malformed(CLUSTER_FORM)), "{wrong}");
    }
}

#[test]
fn a_record_has_1_to_8_wraps_of_distinct_keys() {
    let names: Vec<String> = (0..9).map(|n| format!("key-{n}")).collect();
    let wraps: Vec<Wrap<'_>> = names.iter().map(|name| Wrap { reference: name, ..AWS }).collect();
    assert_eq!(signed(CLUSTER, &wraps[..8]).unwrap().view().wraps(), &wraps[..8]);
    assert_eq!(signed(CLUSTER, &wraps).unwrap_err(), TOO_MANY);
    assert!(matches!(signed(CLUSTER, &[]), Err(Error::Malformed(_))));
    let twice = [AWS, Wrap { role: Role::Recovery, blob: b"other", ..AWS }];
    assert_eq!(
        signed(CLUSTER, &twice),
        Err(Error::Malformed("the wraps are not sorted, or one key and version occurs twice"))
    );
    let two_versions = [AWS, Wrap { version: "2", ..AWS }];
    assert_eq!(signed(CLUSTER, &two_versions).unwrap().view().wraps(), &two_versions);
}

#[test]
fn a_record_that_kube_apiserver_would_refuse_is_never_made() {
    let names: Vec<String> = (0..8).map(|n| format!("key-{n}")).collect();
    let blob = vec![1; 4096];
    let wraps: Vec<Wrap<'_>> =
        names.iter().map(|name| Wrap { reference: name, blob: &blob, ..AWS }).collect();
    let small = signed(CLUSTER, &wraps[..7]).unwrap().bytes().len();
    let last = Wrap { blob: &blob[..1], ..wraps[7] };
    let wrap =
        signed(CLUSTER, &[AWS, last]).unwrap().bytes().len() - signed(CLUSTER, &[AWS]).unwrap().bytes().len();
    let rest = MAX_RECORD - small - wrap;
    let fitting = |more| {
        let mut wraps = wraps.clone();
        wraps[7].blob = &blob[..1 + rest + more];
        signed(CLUSTER, &wraps)
    };
    assert_eq!(fitting(0).unwrap().bytes().len(), 32_000);
    assert_eq!(fitting(1), Err(Error::Malformed("the KEK record is larger than kube-apiserver stores")));
}

#[test]
fn a_time_beyond_40_bits_is_refused() {
    let keys = example::kek();
    OwnedRecord::sign(keys.keys(), CREATED_END - 1, CLUSTER, &[AWS]).unwrap();
    assert_eq!(
        OwnedRecord::sign(keys.keys(), CREATED_END, CLUSTER, &[AWS]),
        Err(Error::Malformed("the time in the KEK record is out of range"))
    );
}
