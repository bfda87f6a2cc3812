use std::collections::HashSet;

use keystead_core::wire::Fields;

use crate::error::{Error, Result};
use crate::meta::Metas;
use crate::source::Source;
use crate::walk::{Found, Walk};

/// A key as etcd would answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision that wrote this value.
    pub mod_revision: u64,
    /// The revision that made the key.
    pub create_revision: u64,
}

/// The keys of a snapshot that are not deleted, each with its latest value, from the latest revision to the oldest.
///
/// In that order the first revision of a key that is met is the one that counts, so nothing is kept but the names of
/// the keys. An error ends the iteration, and what came before it must not be taken for the whole.
#[derive(Debug)]
pub struct Latest<S> {
    source: S,
    size: u64,
    metas: Metas,
    walk: Walk,
    seen: HashSet<Box<[u8]>>,
    revision: u64,
    revisions: u64,
    done: bool,
}

impl<S: Source> Latest<S> {
    pub(crate) fn new(source: S, size: u64, metas: Metas, walk: Walk) -> Self {
        Self { source, size, metas, walk, seen: HashSet::new(), revision: 0, revisions: 0, done: false }
    }

    /// The latest revision that was met, which after the first entry is the one of the whole store.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many revisions were read, the outdated and deleted ones included.
    #[must_use]
    pub fn revisions(&self) -> u64 {
        self.revisions
    }

    /// How many bytes of the file were read, of how many.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.walk.pages() * u64::from(self.metas.current.page_size), self.size)
    }

    fn find(&mut self) -> Result<Option<Entry>> {
        while let Some(found) = self.walk.step(&self.source)? {
            let revision = Revision::parse(&found)?;
            self.revisions += 1;
            self.revision = self.revision.max(revision.main);
            if !self.seen.contains(revision.key) {
                self.seen.insert(revision.key.into());
                if let Some(entry) = revision.entry() {
                    return Ok(Some(entry));
                }
            }
        }
        if Metas::read(&self.source, self.size)? == self.metas {
            Ok(None)
        } else {
            Err(Error::damaged(
                "it was changed while it was read: take a snapshot of the running etcd instead",
            ))
        }
    }
}

impl<S: Source> Iterator for Latest<S> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let found = self.find().transpose();
        self.done = !matches!(found, Some(Ok(_)));
        found
    }
}

/// One element of the bucket `key`: the revision as 8 bytes, `_` and 8 bytes, `t` if it is a deletion; and etcd's
/// message `KeyValue`.
struct Revision<'a> {
    main: u64,
    is_deletion: bool,
    key: &'a [u8],
    value: &'a [u8],
    created: u64,
}

impl<'a> Revision<'a> {
    fn parse(found: &Found<'a>) -> Result<Self> {
        let damaged = |what| Error::in_page(found.page, what);
        let (main, is_deletion) = parse_key(found.key)
            .filter(|_| !found.is_bucket)
            .ok_or_else(|| damaged("a key in it is not a revision"))?;
        let (mut key, mut value) = (&[][..], &[][..]);
        let (mut created, mut modified, mut version) = (0, 0, 0);
        let mut read = || {
            for field in Fields::of(found.value) {
                match field? {
                    (1, bytes) => key = bytes.bytes()?,
                    (2, number) => created = number.number()?,
                    (3, number) => modified = number.number()?,
                    (4, number) => version = number.number()?,
                    (5, bytes) => value = bytes.bytes()?,
                    _ => {}
                }
            }
            Ok::<_, keystead_core::Error>(())
        };
        read().map_err(|_| damaged("a value in it is not a KeyValue of etcd"))?;
        let agrees = if is_deletion {
            (created, modified, version) == (0, 0, 0)
        } else {
            modified == main && (1..=main).contains(&created) && version > 0
        };
        if key.is_empty() || !agrees {
            return Err(damaged("a value in it belongs to another revision"));
        }
        Ok(Self { main, is_deletion, key, value, created })
    }

    fn entry(&self) -> Option<Entry> {
        (!self.is_deletion).then(|| Entry {
            key: self.key.to_vec(),
            value: self.value.to_vec(),
            mod_revision: self.main,
            create_revision: self.created,
        })
    }
}

fn parse_key(key: &[u8]) -> Option<(u64, bool)> {
    let (main, rest) = key.split_first_chunk()?;
    let (b'_', rest) = rest.split_first().map(|(mark, rest)| (*mark, rest))? else { return None };
    let (sub, mark) = rest.split_first_chunk()?;
    let is_deletion = match mark {
        b"" => false,
        b"t" => true,
        _ => return None,
    };
    let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
    (sub >= 0).then_some((u64::try_from(main).ok()?, is_deletion))
}
