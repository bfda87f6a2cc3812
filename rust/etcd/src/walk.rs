//! A tree of bbolt from its last key to its first.

use crate::error::{Error, Result};
use crate::meta::Meta;
use crate::page::{self, Kind, Page};
use crate::source::Source;

/// A tree of 2^64 pages of two children each is not deeper.
const DEEPEST: usize = 64;

/// The pages that were read already. None belongs to two places, so a tree cannot run in circles, and what is read in
/// all is never more than the file.
#[derive(Debug)]
pub(crate) struct Visited {
    bits: Vec<u64>,
    count: u64,
}

impl Visited {
    pub(crate) fn new(meta: &Meta) -> Self {
        Self { bits: vec![0; usize::try_from(meta.end / 64 + 1).unwrap_or_default()], count: 0 }
    }

    /// Note a page; false if it was noted before.
    fn insert(&mut self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|index| self.bits.get_mut(index));
        let Some(word) = word else { return false };
        let bit = 1 << (page % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        self.count += 1;
        fresh
    }
}

/// The position in a tree, as the pages from its root down to the present leaf.
#[derive(Debug)]
pub(crate) struct Walk {
    meta: Meta,
    visited: Visited,
    stack: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    page: Page,
    /// How many elements are still to come; the next one is the last of these.
    left: usize,
    /// The first key that is not below this page.
    high: Option<Vec<u8>>,
}

/// One element of a leaf.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) page: u64,
    pub(crate) is_bucket: bool,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Walk {
    /// Begin at a page.
    pub(crate) fn from_root(meta: Meta, visited: Visited, source: &impl Source, root: u64) -> Result<Self> {
        let mut walk = Self { meta, visited, stack: Vec::new() };
        let page = walk.read(source, root)?;
        walk.push(page, None, None)?;
        Ok(walk)
    }

    /// Begin at a page that is not one of the file: a small bucket is in the value that stands for it.
    pub(crate) fn inline(meta: Meta, visited: Visited, bytes: Vec<u8>) -> Result<Self> {
        let mut walk = Self { meta, visited, stack: Vec::new() };
        let page = Page::parse(0, bytes)?;
        if page.kind() == Kind::Branch {
            return Err(Error::damaged("a small bucket is not a leaf"));
        }
        walk.push(page, None, None)?;
        Ok(walk)
    }

    /// Go to the element before, or return none at the beginning of the tree.
    pub(crate) fn step(&mut self, source: &impl Source) -> Result<Option<Found<'_>>> {
        loop {
            let Some(frame) = self.stack.last_mut() else { return Ok(None) };
            if frame.left == 0 {
                self.stack.pop();
                continue;
            }
            frame.left -= 1;
            if frame.page.kind() == Kind::Leaf {
                break;
            }
            let Below { child, low, high } = frame.below()?;
            let page = self.read(source, child)?;
            self.push(page, Some(&low), high)?;
        }
        Ok(self.stack.last().and_then(Frame::found))
    }

    /// How many pages were read so far.
    pub(crate) fn pages(&self) -> u64 {
        self.visited.count
    }

    /// Give the pages that were visited to the walk of another tree in the same file.
    pub(crate) fn into_visited(self) -> Visited {
        self.visited
    }

    fn push(&mut self, page: Page, low: Option<&[u8]>, high: Option<Vec<u8>>) -> Result<()> {
        let damaged = |what| Err(Error::in_page(page.id(), what));
        let is_root = self.stack.is_empty();
        let count = page.count();
        if count == 0 && !(is_root && page.kind() == Kind::Leaf) {
            return damaged("it is empty");
        }
        if self.stack.len() == DEEPEST {
            return damaged("the tree is deeper than any");
        }
        let (first, last) = (page.key(0), page.key(count.saturating_sub(1)));
        if low.is_some_and(|low| first.is_some_and(|first| first < low))
            || high.as_deref().is_some_and(|high| last.is_some_and(|last| last >= high))
        {
            return damaged("it has keys that belong to another page");
        }
        self.stack.push(Frame { page, left: count, high });
        Ok(())
    }

    fn read(&mut self, source: &impl Source, id: u64) -> Result<Page> {
        if !(2..self.meta.end).contains(&id) {
            return Err(Error::in_page(id, "there is no such page"));
        }
        let page_size = u64::from(self.meta.page_size);
        let mut bytes = vec![0; self.meta.page_size as usize];
        source.read_at(&mut bytes, id * page_size)?;
        let pages = 1 + u64::from(page::overflow(&bytes));
        if id + pages > self.meta.end {
            return Err(Error::in_page(id, "it goes on beyond the end"));
        }
        for part in id..id + pages {
            if !self.visited.insert(part) {
                return Err(Error::in_page(part, "it belongs to two places"));
            }
        }
        let first = bytes.len();
        let size = usize::try_from(pages * page_size).map_err(|_| Error::in_page(id, "it is too large"))?;
        bytes.resize(size, 0);
        source.read_at(&mut bytes[first..], (id + 1) * page_size)?;
        Page::parse(id, bytes)
    }
}

/// Where a branch goes on.
struct Below {
    child: u64,
    /// The first key that may be there.
    low: Vec<u8>,
    /// The first key that may not be there any more.
    high: Option<Vec<u8>>,
}

impl Frame {
    /// The child at the present element, with the keys between that element and the next one.
    fn below(&self) -> Result<Below> {
        let damaged = || Error::in_page(self.page.id(), "an element leads nowhere");
        let child = self.page.child(self.left).ok_or_else(damaged)?;
        let low = self.page.key(self.left).ok_or_else(damaged)?.to_vec();
        let high = if self.left + 1 < self.page.count() {
            self.page.key(self.left + 1).map(<[u8]>::to_vec)
        } else {
            self.high.clone()
        };
        Ok(Below { child, low, high })
    }

    fn found(&self) -> Option<Found<'_>> {
        let leaf = self.page.leaf(self.left)?;
        Some(Found {
            page: self.page.id(),
            is_bucket: leaf.flags == page::BUCKET,
            key: self.page.slice(leaf.key),
            value: self.page.slice(leaf.value),
        })
    }
}
