use super::*;
use crate::messages::{self, DecryptV2, EncryptV2};

fn varint(bytes: &[u8]) -> Result<(u64, usize)> {
    let mut fields = Fields::of(bytes);
    let value = fields.varint()?;
    Ok((value, bytes.len() - fields.0.len()))
}

#[test]
fn every_value_has_one_varint() {
    for (bytes, value) in [
        (&[0x00][..], 0),
        (&[0x7f], 127),
        (&[0x80, 0x01], 128),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], u64::MAX),
    ] {
        assert_eq!(varint(bytes), Ok((value, bytes.len())));
    }
    for wrong in [
        &[0x80, 0x00][..],
        &[0xff, 0x80, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00],
    ] {
        assert_eq!(varint(wrong), Err(VARINT), "{wrong:02x?}");
    }
    for cut in [&[][..], &[0x80], &[0xff, 0xff]] {
        assert_eq!(varint(cut), Err(TRUNCATED), "{cut:02x?}");
    }
}

#[test]
fn written_fields_are_read_back_at_every_size_of_the_length() {
    for length in [1, 127, 128, 16_383, 16_384, 70_000] {
        let mut out = Vec::new();
        put(&mut out, 15, &vec![7; length]);
        assert_eq!(out.len(), field_size(length));
        let fields: Vec<_> = Fields::of(&out).collect::<Result<_>>().unwrap();
        let [(15, Value::Bytes(bytes))] = fields[..] else { panic!("{length}") };
        assert_eq!(bytes, vec![7; length]);
    }
}

#[test]
fn the_last_one_of_a_repeated_field_wins() {
    let message = EncryptV2::parse(b"\x0a\x01a\x12\x01u\x0a\x02bc\x12\x02uv").unwrap();
    assert_eq!((message.plaintext, message.uid), (&b"bc"[..], "uv"));
}

#[test]
fn unknown_fields_of_every_wire_type_are_skipped() {
    let unknown = b"\x28\x96\x01\x31\0\0\0\0\0\0\0\0\x3a\x02xy\x45\0\0\0\0\xf8\x7f\x01";
    let request = [unknown, &b"\x0a\x04seed\x12\x03uid"[..], unknown].concat();
    let message = EncryptV2::parse(&request).unwrap();
    assert_eq!((message.plaintext, message.uid), (&b"seed"[..], "uid"));
}

#[test]
fn what_is_not_a_message_is_refused() {
    for (wrong, error) in [
        (&b"\x08\x01"[..], WIRE_TYPE),         // the plaintext as a number
        (b"\x0d\0\0\0\0", WIRE_TYPE),          // the plaintext as fixed32
        (b"\x0b\x0c", WIRE_TYPE),              // a group
        (b"\x2b\x2c", WIRE_TYPE),              // an unknown group
        (b"\x0e", WIRE_TYPE),                  // wire type 6
        (b"\x0f", WIRE_TYPE),                  // wire type 7
        (b"\x02\x01a", FIELD),                 // field 0
        (b"\x82\x80\x80\x80\x10\x01a", FIELD), // field 2^29
        (b"\x0a\x05seed", TRUNCATED),          // cut within the value
        (b"\x0a", TRUNCATED),                  // cut before the length
        (b"\x31\0\0\0", TRUNCATED),            // cut within fixed64
        (b"\x12\x02\xc3\x28", UTF8),           // a uid that is not UTF-8
        (b"\x8a\x00\x04seed", VARINT),         // a tag with a superfluous byte
        (b"\x0a\x84\x00seed", VARINT),         // a length with a superfluous byte
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", TRUNCATED), // a length of 2^64 - 1
    ] {
        assert_eq!(EncryptV2::parse(wrong).err(), Some(error), "{wrong:02x?}");
    }
}

#[test]
fn a_request_of_64_kib_is_read_and_a_larger_one_is_refused() {
    let mut request = Vec::new();
    put(&mut request, 1, &vec![7; messages::MAX_REQUEST - 4]);
    assert_eq!(request.len(), messages::MAX_REQUEST);
    assert!(EncryptV2::parse(&request).is_ok());
    request.extend_from_slice(b"\x12\0");
    assert_eq!(EncryptV2::parse(&request).err(), Some(Error::Malformed("the request is larger than 64 KiB")));
    assert_eq!(messages::request_uid(&request), "");
}

fn decrypt_request(annotations: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    put(&mut request, 1, b"sealed");
    put(&mut request, 2, b"uid-1");
    put(&mut request, 3, b"name");
    for entry in annotations {
        put(&mut request, 4, entry);
    }
    request
}

#[test]
fn a_decrypt_request_has_exactly_our_annotation() {
    let ours = b"\x0a\x10kek.keystead.dev\x12\x06record";
    let request = decrypt_request(&[ours]);
    let message = DecryptV2::parse(&request).unwrap();
    assert_eq!(
        (message.ciphertext, message.uid, message.key_id, message.record),
        (&b"sealed"[..], "uid-1", "name", &b"record"[..])
    );
    let foreign = b"\x0a\x0bexample.com\x12\x06record";
    let unnamed = b"\x12\x06record";
    for (wrong, text) in [
        (&[][..], "is missing"),
        (&[&foreign[..]][..], "does not write"),
        (&[&ours[..], foreign], "does not write"),
        (&[&foreign[..], ours], "does not write"),
        (&[&unnamed[..]], "does not write"),
    ] {
        let error = DecryptV2::parse(&decrypt_request(wrong)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn the_last_one_of_a_repeated_annotation_wins() {
    let request = decrypt_request(&[
        b"\x0a\x10kek.keystead.dev\x12\x05first",
        b"\x12\x03old\x0a\x10kek.keystead.dev\x12\x04last",
    ]);
    assert_eq!(DecryptV2::parse(&request).unwrap().record, b"last");
}

#[test]
fn the_uid_is_found_in_either_v2_request_and_never_an_error() {
    assert_eq!(messages::request_uid(&decrypt_request(&[])), "uid-1");
    assert_eq!(messages::request_uid(b"\x0a\x04seed\x12\x03uid"), "uid");
    for without in [&b""[..], b"\x0a\x04seed", b"\x12\x05cut", b"\x12\x02\xc3\x28", b"\x10\x01"] {
        assert_eq!(messages::request_uid(without), "");
    }
}

#[test]
fn a_v1_request_names_its_version_and_ping_is_recognised() {
    let request = b"\x0a\x07v1beta1\x12\x04ping";
    assert_eq!(messages::parse_encrypt_v1(request), Ok(&b"ping"[..]));
    assert_eq!(messages::parse_decrypt_v1(request), Ok(&b"ping"[..]));
    assert!(messages::is_ping(request));
    assert!(!messages::is_ping(b"\x0a\x07v1beta1\x12\x05pings"));
    for wrong in [&b"\x12\x04ping"[..], b"\x0a\x02v1\x12\x04ping", b"\x0a\x07V1beta1\x12\x04ping"] {
        assert!(matches!(messages::parse_encrypt_v1(wrong), Err(Error::Malformed(_))));
        assert!(!messages::is_ping(wrong));
    }
}

#[test]
fn answers_have_the_bytes_of_the_protocol() {
    assert_eq!(messages::encode_status("v2", "ok", "k"), b"\x0a\x02v2\x12\x02ok\x1a\x01k");
    assert_eq!(messages::encode_status("v2", "starting: x", ""), b"\x0a\x02v2\x12\x0bstarting: x");
    assert_eq!(messages::encode_version("v1beta1", "n", "1"), b"\x0a\x07v1beta1\x12\x01n\x1a\x011");
    assert_eq!(*messages::encode_decrypt(b"seed"), b"\x0a\x04seed");
    assert_eq!(messages::encode_encrypt_v1(b"c"), b"\x0a\x01c");
    assert_eq!(
        messages::encode_encrypt_v2(b"c", "k", b"r"),
        b"\x0a\x01c\x12\x01k\x1a\x15\x0a\x10kek.keystead.dev\x12\x01r"
    );
}

#[test]
fn the_buffer_of_a_plaintext_never_grows() {
    for length in [1, 127, 128, 947] {
        let answer = messages::encode_decrypt(&vec![7; length]);
        assert_eq!(answer.len(), answer.capacity());
    }
}
