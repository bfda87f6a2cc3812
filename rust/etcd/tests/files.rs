//! Snapshots of real etcds: read, cut, and changed in every byte.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use keystead_etcd::{Error, Snapshot};

/// As in a file `.table`: of each key the revision that wrote it, the one that made it, and its value's SHA-256.
type Table = BTreeMap<Vec<u8>, (u64, u64, Vec<u8>)>;

const CHECKSUM: usize = 32;

fn read(bytes: &[u8]) -> Result<Table, Error> {
    let mut table = Table::new();
    for entry in Snapshot::open(bytes)?.latest()? {
        let entry = entry?;
        let hash = digest(&SHA256, &entry.value).as_ref().to_vec();
        let before = table.insert(entry.key, (entry.mod_revision, entry.create_revision, hash));
        assert!(before.is_none(), "a key came twice");
    }
    Ok(table)
}

fn files() -> Vec<(String, Vec<u8>, Table)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/snapshots");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "db") {
            let table = fs::read_to_string(path.with_extension("table")).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read(path).unwrap(), table.lines().map(line).collect()));
        }
    }
    assert!(files.len() >= 6, "only {} snapshots", files.len());
    files
}

fn line(line: &str) -> (Vec<u8>, (u64, u64, Vec<u8>)) {
    let parts: Vec<&str> = line.split(' ').collect();
    let [key, modified, created, hash] = parts[..] else { panic!("{line}") };
    (unhex(key), (modified.parse().unwrap(), created.parse().unwrap(), unhex(hash)))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn every_release_is_read_as_its_own_etcd_answered() {
    for (name, bytes, expected) in files() {
        let snapshot = Snapshot::open(bytes.as_slice()).unwrap();
        assert!(snapshot.has_checksum() && !snapshot.may_lack_a_transaction(), "{name}");
        assert!(expected.len() >= 2, "{name}");
        assert_eq!(read(&bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_copy_without_the_checksum_is_told_apart_and_reads_the_same() {
    for (name, mut bytes, expected) in files() {
        bytes.truncate(bytes.len() - CHECKSUM);
        assert!(!Snapshot::open(bytes.as_slice()).unwrap().has_checksum(), "{name}");
        assert_eq!(read(&bytes).unwrap(), expected, "{name}");
        // A member's own database is longer than what is in use.
        bytes.resize(bytes.len() + 7 * 4096, 0);
        assert_eq!(read(&bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_unless_only_the_checksum_is_gone() {
    for (name, bytes, expected) in files() {
        let pages = bytes.len() - CHECKSUM;
        let mut cuts: Vec<usize> = (0..bytes.len()).step_by(1024).collect();
        cuts.extend((0..bytes.len()).step_by(4096).map(|at| at + CHECKSUM));
        cuts.extend([1, 15, 79, 4095, 4097, pages - 1, pages + 1, bytes.len() - 1]);
        for cut in cuts.into_iter().filter(|cut| *cut < bytes.len()) {
            match read(&bytes[..cut]) {
                Err(Error::Damaged { .. } | Error::NotEtcd(_)) => assert!(cut != pages, "{name} at {cut}"),
                Err(Error::Io(error)) => panic!("{name} at {cut}: {error}"),
                Ok(table) => {
                    assert!(cut >= pages, "{name} at {cut}");
                    assert_eq!(table, expected, "{name} at {cut}");
                }
            }
        }
    }
}

#[test]
fn no_changed_byte_goes_unnoticed_in_a_file_with_a_checksum() {
    for (name, mut bytes, _) in files().into_iter().filter(|(name, ..)| name.ends_with("few.db")) {
        let mut tried = 0;
        for at in 0..bytes.len() {
            bytes[at] ^= 1 << (at % 8);
            assert!(matches!(read(&bytes), Err(Error::Damaged { .. } | Error::NotEtcd(_))), "{name} at {at}");
            bytes[at] ^= 1 << (at % 8);
            tried += 1;
        }
        assert_eq!(tried, bytes.len());
        read(&bytes).unwrap();
    }
}

#[test]
fn without_a_checksum_a_changed_byte_is_refused_or_changes_one_name_or_value_and_never_panics() {
    for (name, mut bytes, expected) in files() {
        bytes.truncate(bytes.len() - CHECKSUM);
        let (mut refused, mut without_effect, mut changed) = (0, 0, 0);
        for at in (0..bytes.len()).step_by(if name.ends_with("few.db") { 1 } else { 17 }) {
            for mask in [1 << (at % 8), 0xff] {
                bytes[at] ^= mask;
                match read(&bytes) {
                    Err(_) => refused += 1,
                    Ok(table) if table == expected => without_effect += 1,
                    Ok(table) => {
                        // Another name may uncover what was overwritten under the true one.
                        let same =
                            table.iter().filter(|(key, value)| expected.get(*key) == Some(value)).count();
                        assert!(same + 1 >= expected.len(), "{name} at {at}: {same} are the same");
                        assert!(table.len() <= same + 2, "{name} at {at}: {} keys", table.len());
                        changed += 1;
                    }
                }
                bytes[at] ^= mask;
            }
        }
        println!("{name}: {refused} refused, {without_effect} without effect, {changed} changed");
        assert!(refused > 100 && changed > 100, "{name}: {refused} {without_effect} {changed}");
    }
}
