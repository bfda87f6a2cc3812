//! Counts of objects by what holds them, as fine as anybody may want to sum them up.

use std::collections::HashMap;
use std::hash::Hash;

use keystead_core::OwnedRecord;

use crate::stored::{Kms, Plugin, Stored};

/// What an object is under, which many objects share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// `plaintext`, `aescbc`, `aesgcm`, `secretbox`, `kms:v1`, `kms:v2` or `damaged`.
    pub kind: &'static str,
    /// The provider's name, or for the API server's own keys the key's; else empty.
    pub name: String,
    /// The `key_id` beside a KMS v2 value, or inside of one of ours of v1; else empty.
    pub key_id: String,
    /// The KEK record of a value of ours.
    pub record: Option<OwnedRecord>,
    /// Why the value cannot be what it seems to be; else empty.
    pub problem: &'static str,
}

/// Which objects were counted together. All but `holder` are indices too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Index of the folder in etcd, which stands for the resource.
    pub resource: u32,
    /// Index of the namespace.
    pub namespace: u32,
    /// Index of the holder.
    pub holder: u32,
    /// Number of the seed or DEK; 0 without one.
    pub seed: u32,
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Objects.
    pub objects: u64,
    /// The lowest revision that wrote one.
    pub oldest: u64,
    /// The highest one.
    pub newest: u64,
}

/// The counts of one store.
#[derive(Debug)]
pub struct Tally {
    prefix: Vec<u8>,
    resources: Names<String>,
    namespaces: Names<String>,
    holders: Names<Holder>,
    /// The index of a holder by the bytes that it is made of, so that it is made and checked once.
    known: HashMap<Vec<u8>, u32>,
    seeds: HashMap<Box<[u8]>, u32>,
    rows: HashMap<Row, Count>,
    outside: u64,
}

impl Tally {
    /// Count what is below a prefix, `/registry/` unless the API servers have another.
    #[must_use]
    pub fn new(prefix: Vec<u8>) -> Self {
        Self {
            prefix,
            resources: Names::default(),
            namespaces: Names::default(),
            holders: Names::default(),
            known: HashMap::new(),
            seeds: HashMap::new(),
            rows: HashMap::new(),
            outside: 0,
        }
    }

    /// Count one object.
    pub fn add(&mut self, key: &[u8], value: &[u8], revision: u64) {
        let Some(path) = key.strip_prefix(self.prefix.as_slice()) else {
            self.outside += 1;
            return;
        };
        let (resource, namespace) = split(path);
        let stored = Stored::parse(value);
        let seed = match stored {
            Stored::Kms(kms) if !kms.source.is_empty() => self.seed(kms.seed()),
            _ => 0,
        };
        let row = Row {
            resource: self.resources.index(&resource),
            namespace: self.namespaces.index(&namespace),
            holder: self.holder(&stored),
            seed,
        };
        let count = self.rows.entry(row).or_insert(Count { objects: 0, oldest: revision, newest: revision });
        count.objects += 1;
        count.oldest = count.oldest.min(revision);
        count.newest = count.newest.max(revision);
    }

    /// The folders, by their index: `secrets`, `services/specs`, `awesome.bears.example/pandas`.
    #[must_use]
    pub fn resources(&self) -> &[String] {
        &self.resources.all
    }

    /// The namespaces, by their index; the empty one for what has none.
    #[must_use]
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces.all
    }

    /// The holders, by their index.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders.all
    }

    /// The counts, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (Row, Count)> + '_ {
        self.rows.iter().map(|(row, count)| (*row, *count))
    }

    /// How many keys are not below the prefix.
    #[must_use]
    pub fn outside(&self) -> u64 {
        self.outside
    }

    fn seed(&mut self, seed: &[u8]) -> u32 {
        if let Some(number) = self.seeds.get(seed) {
            return *number;
        }
        let number = next_index(self.seeds.len() + 1);
        self.seeds.insert(seed.into(), number);
        number
    }

    fn holder(&mut self, stored: &Stored<'_>) -> u32 {
        let identity = identity(stored);
        if let Some(index) = self.known.get(&identity) {
            return *index;
        }
        let index = self.holders.index(&Holder::of(stored));
        self.known.insert(identity, index);
        index
    }
}

impl Holder {
    /// What holds a value.
    #[must_use]
    pub fn of(stored: &Stored<'_>) -> Self {
        let plain =
            Self { kind: "plaintext", name: String::new(), key_id: String::new(), record: None, problem: "" };
        match stored {
            Stored::Plaintext => plain,
            Stored::Damaged(problem) => Self { kind: "damaged", problem, ..plain },
            Stored::Static { kind, key } => Self { kind, name: (*key).to_owned(), ..plain },
            Stored::Kms(kms) => {
                let (record, problem) = match kms.plugin {
                    Plugin::Foreign => (None, ""),
                    Plugin::Damaged(problem) => (None, problem),
                    Plugin::Keystead(record) => (OwnedRecord::parse(record).ok(), disagreement(kms)),
                };
                let kind = if kms.version == 1 { "kms:v1" } else { "kms:v2" };
                Self { kind, name: kms.provider.to_owned(), key_id: kms.key_id.to_owned(), record, problem }
            }
        }
    }
}

fn disagreement(kms: &Kms<'_>) -> &'static str {
    if kms.key_id_agrees() { "" } else { "the key_id is not the name of the keys in the KEK record" }
}

/// Bytes that are the same for the values of one holder, and differ between two.
fn identity(stored: &Stored<'_>) -> Vec<u8> {
    match stored {
        Stored::Plaintext => vec![0],
        Stored::Damaged(problem) => [&[1], problem.as_bytes()].concat(),
        Stored::Static { kind, key } => [&[2], kind.as_bytes(), b":", key.as_bytes()].concat(),
        Stored::Kms(kms) => {
            let (tag, rest) = match kms.plugin {
                Plugin::Foreign => (0, &[][..]),
                Plugin::Damaged(problem) => (1, problem.as_bytes()),
                Plugin::Keystead(record) => (2, record),
            };
            // A provider's name has no colon, and a key_id's length is written.
            let size = u64::try_from(kms.key_id.len()).unwrap_or(u64::MAX).to_be_bytes();
            let parts = [
                &[3, kms.version, tag][..],
                kms.provider.as_bytes(),
                b":",
                &size,
                kms.key_id.as_bytes(),
                rest,
            ];
            parts.concat()
        }
    }
}

/// Split a key below the prefix into the folder of its resource and its namespace.
///
/// A folder with a dot is the group of a custom resource, whose name is the next folder; `services` has two below it.
fn split(path: &[u8]) -> (String, String) {
    let path = String::from_utf8_lossy(path);
    let first = path.split('/').next().unwrap_or_default();
    let folders = if first.contains('.') || first == "services" { 2 } else { 1 };
    let mut places = path.match_indices('/').map(|(at, _)| at);
    let Some(end) = places.nth(folders - 1) else { return (path.into_owned(), String::new()) };
    let (resource, rest) = path.split_at(end);
    let namespace = match rest[1..].split_once('/') {
        Some((namespace, name)) if !name.contains('/') => namespace,
        _ => "",
    };
    (resource.to_owned(), namespace.to_owned())
}

/// Values with an index each.
#[derive(Debug)]
struct Names<T> {
    all: Vec<T>,
    index: HashMap<T, u32>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { all: Vec::new(), index: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn index(&mut self, value: &T) -> u32 {
        if let Some(index) = self.index.get(value) {
            return *index;
        }
        let index = next_index(self.all.len());
        self.all.push(value.clone());
        self.index.insert(value.clone(), index);
        index
    }
}

/// More than 2^32 different ones do not fit into any etcd.
fn next_index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
