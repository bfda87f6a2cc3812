//! The files of `tests/vectors`, one scenario each; the README there explains them.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::{Sealed, fields, message, plaintext};
use keystead_core::{Error, OwnedRecord, Record, Result, Seed, StateFile, Store, V1Cipher, WriteState};

struct Vector {
    fields: HashMap<String, String>,
    input: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (head, hex_lines) = text.split_once("\n\n").unwrap();
        let fields = head.lines().map(|line| {
            let (field, value) = line.split_once(':').unwrap();
            (field.to_owned(), value.trim().to_owned())
        });
        let input = hex::decode(hex_lines.split_whitespace().collect::<String>()).unwrap();
        Self { fields: fields.collect(), input }
    }

    fn text(&self, field: &str) -> &str {
        &self.fields[field]
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap()
    }

    /// The store that the vector describes, and the record by which it holds the KEK.
    fn store(&self) -> (Store, OwnedRecord) {
        let record = OwnedRecord::new(&Record::parse(&self.bytes("record")).unwrap());
        let store = Store::new(vec![self.text("cluster").to_owned()], 8);
        store.admit(&record, &self.bytes("kek")).unwrap();
        (store, record)
    }

    /// Give the input to what the vector is about; return a plaintext where there is one.
    fn run(&self) -> Result<Option<Vec<u8>>> {
        match self.text("kind") {
            "record" => {
                let record = OwnedRecord::new(&Record::parse(&self.input)?);
                if self.fields.contains_key("kek") {
                    Store::new(vec![], 8).admit(&record, &self.bytes("kek"))?;
                }
                Ok(None)
            }
            "seed" => Seed::parse(&self.input).map(|_| None),
            "v1-cipher" => V1Cipher::parse(&self.input).map(|_| None),
            "state-file" => {
                assert_eq!(StateFile::parse(&self.input)?.encode()?, self.input);
                Ok(None)
            }
            "decrypt-v2" => self.store().0.decrypt_v2(&self.input).map(plaintext),
            "decrypt-v1" => self.store().0.decrypt_v1(&self.input).map(plaintext),
            "encrypt-v2" => {
                let (store, state) = self.write_state();
                let answer = Sealed::from_answer(&state.encrypt_v2(&self.input)?);
                store.decrypt_v2(&answer.to_request()).map(plaintext)
            }
            "encrypt-v1" => {
                let (store, state) = self.write_state();
                let cipher = fields(&state.encrypt_v1(&self.input)?)[0].1.clone();
                store.decrypt_v1(&message(&[(1, b"v1beta1"), (2, &cipher)])).map(plaintext)
            }
            kind => panic!("unknown kind {kind}"),
        }
    }

    fn write_state(&self) -> (Store, WriteState) {
        let (store, record) = self.store();
        let state = store.write_state(&record, self.text("key_id")).unwrap();
        (store, state)
    }
}

/// Run every vector of a folder, and return how many were read by what they expect.
fn run_all(folder: &str) -> HashMap<String, usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && !path.to_string_lossy().ends_with(".py"));
    paths.retain(|path| path.file_name().unwrap() != "README.md");
    paths.sort();
    let mut counts = HashMap::new();
    for path in paths {
        let vector = Vector::read(&path);
        let outcome = vector.run();
        let came_to = match &outcome {
            Ok(_) => "ok",
            Err(Error::Malformed(_)) => "malformed",
            Err(Error::NotAuthentic(_)) => "not-authentic",
            Err(Error::ClusterNotAccepted) => "cluster-not-accepted",
            Err(_) => "something else",
        };
        assert_eq!(came_to, vector.text("expect"), "{}: {outcome:?}", path.display());
        match outcome {
            Ok(plaintext) => {
                let expected = vector.fields.contains_key("plaintext").then(|| vector.bytes("plaintext"));
                assert_eq!(plaintext, expected, "{}", path.display());
            }
            Err(error) => {
                let (error, reason) = (error.to_string(), vector.text("reason"));
                assert!(error.contains(reason), "{}: {error:?} is not about {reason:?}", path.display());
            }
        }
        *counts.entry(came_to.to_owned()).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> HashMap<String, usize> {
    expected.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn every_vector_comes_to_what_it_expects() {
    let expected = [("ok", 31), ("malformed", 107), ("not-authentic", 34), ("cluster-not-accepted", 3)];
    assert_eq!(run_all("."), counts(expected));
}

#[test]
fn everything_that_a_release_wrote_is_still_opened() {
    assert_eq!(run_all("golden"), counts([("ok", 24)]));
}
