//! A million damaged inputs of each kind, built from a good one: none makes a parser panic, none authenticates.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use common::{AWS, CLUSTER, Endpoint, Sealed, VAULT};
use keystead_core::Error;

/// A million per kind in an optimised build, fewer in a debug build so that it stays quick.
const COUNT: usize = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };

/// xorshift64*: the same mutants in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(bits).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Change `bytes` in one to three places: set, flip, drop, insert, repeat, cut, or copy a part elsewhere.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(3) {
            if out.is_empty() {
                break;
            }
            let at = self.below(out.len());
            let until = at + 1 + self.below(usize::min(40, out.len() - at));
            match self.below(8) {
                0 => out[at] = self.byte(),
                1 | 2 => out[at] ^= 1 << self.below(8),
                3 => out[at] = out[at].wrapping_add(1),
                4 => drop(out.drain(at..until)),
                5 => out.insert(at, self.byte()),
                6 => {
                    let part = out[at..until].to_vec();
                    let to = self.below(out.len());
                    out.splice(to..to, part);
                }
                _ => {
                    let part = out[at..until].to_vec();
                    let to = self.below(out.len() - part.len() + 1);
                    out[to..to + part.len()].copy_from_slice(&part);
                }
            }
        }
        out
    }
}

/// How the mutants were refused.
#[derive(Default)]
struct Tally {
    malformed: usize,
    not_authentic: usize,
    cluster: usize,
    missing: usize,
    unchanged: usize,
}

impl Tally {
    fn count(&mut self, outcome: Result<Option<Vec<u8>>, Error>) {
        match outcome {
            Err(Error::Malformed(_)) => self.malformed += 1,
            Err(Error::NotAuthentic(_)) => self.not_authentic += 1,
            Err(Error::ClusterNotAccepted) => self.cluster += 1,
            Ok(None) => self.missing += 1,
            other => panic!("a damaged input came to {other:?}"),
        }
    }

    fn total(&self) -> usize {
        self.malformed + self.not_authentic + self.cluster + self.missing + self.unchanged
    }
}

/// Mutate `good` and try each mutant; `share` is the least part of them, in percent, that must pass the parser.
fn attack(seed: u64, share: usize, good: &[u8], attempt: impl Fn(Vec<u8>) -> Result<Option<Vec<u8>>, Error>) {
    let (mut random, mut tally) = (Random(seed), Tally::default());
    for _ in 0..COUNT {
        let mutant = random.mutate(good);
        if mutant == good {
            tally.unchanged += 1;
        } else {
            tally.count(attempt(mutant));
        }
    }
    assert_eq!(tally.total(), COUNT);
    let parsed = tally.total() - tally.malformed - tally.unchanged;
    assert!(
        parsed > tally.total() * share / 100,
        "only {parsed} of {} mutants got past the parser",
        tally.total()
    );
}

fn endpoint() -> Endpoint {
    Endpoint::new([7; 32], CLUSTER, 3, &[AWS, VAULT])
}

#[test]
fn no_mutant_of_a_record_is_accepted() {
    let endpoint = endpoint();
    let sealed = endpoint.encrypt(&[5; 32]);
    attack(1, 15, &sealed.record, |record| endpoint.decrypt(&Sealed { record, ..sealed.clone() }));
}

#[test]
fn no_mutant_of_a_seed_is_accepted() {
    let endpoint = endpoint();
    let sealed = endpoint.encrypt(&[5; 32]);
    attack(2, 15, &sealed.ciphertext, |ciphertext| {
        endpoint.decrypt(&Sealed { ciphertext, ..sealed.clone() })
    });
}

#[test]
fn no_mutant_of_a_v1_ciphertext_is_accepted() {
    let endpoint = endpoint();
    attack(3, 15, &endpoint.encrypt_v1(&[5; 32]), |cipher| endpoint.decrypt_v1(&cipher));
}

#[test]
fn no_mutant_of_a_record_admits_a_kek() {
    let endpoint = endpoint();
    let store = keystead_core::Store::new(vec![], 8);
    attack(4, 15, endpoint.record.bytes(), |bytes| {
        let record = keystead_core::Record::parse(&bytes)?;
        store.admit(&keystead_core::OwnedRecord::new(&record), &[7; 32]).map(|()| Some(vec![]))
    });
}
