//! One page of a bbolt tree, checked as a whole before anything of it is used.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::meta::{PAGE_HEADER, u16_at, u32_at, u64_at};

const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;

/// The flag of a leaf element whose value is a bucket.
pub(crate) const BUCKET: u32 = 1;

/// Whether a page leads to others or holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
}

/// A page with its overflow pages. Its elements are where it says, and their keys in order.
#[derive(Debug)]
pub(crate) struct Page {
    id: u64,
    bytes: Vec<u8>,
    kind: Kind,
    count: usize,
}

/// An element of a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) flags: u32,
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// The number of pages that follow this one and belong to it.
pub(crate) fn overflow(page: &[u8]) -> u32 {
    u32_at(page, 12).unwrap_or_default()
}

impl Page {
    /// Check the bytes of page `id`.
    pub(crate) fn parse(id: u64, bytes: Vec<u8>) -> Result<Self> {
        let damaged = |what| Error::in_page(id, what);
        let (Some(stated), Some(flags), Some(count)) =
            (u64_at(&bytes, 0), u16_at(&bytes, 8), u16_at(&bytes, 10))
        else {
            return Err(damaged("it is too short for a page"));
        };
        if stated != id {
            return Err(damaged("it says that it is another page"));
        }
        let kind = match flags {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            _ => return Err(damaged("it is neither a branch nor a leaf of a tree")),
        };
        let page = Self { id, bytes, kind, count: usize::from(count) };
        page.check().map_err(damaged)?;
        Ok(page)
    }

    /// bbolt writes the keys and values of a page one after the other behind its elements. Where one begins is thus
    /// known, and an element that says otherwise is not bbolt's.
    fn check(&self) -> std::result::Result<(), &'static str> {
        const FORM: &str = "an element is not as bbolt writes it";
        let mut at = PAGE_HEADER + ELEMENT * self.count;
        let mut previous: Option<&[u8]> = None;
        for index in 0..self.count {
            let (key, end) = match self.kind {
                Kind::Branch => self.branch_key(index).map(|key| (key.clone(), key.end)),
                Kind::Leaf => self.leaf(index).map(|leaf| (leaf.key, leaf.value.end)),
            }
            .ok_or(FORM)?;
            if key.start != at {
                return Err(FORM);
            }
            at = end;
            let key = self.bytes.get(key).ok_or(FORM)?;
            if end > self.bytes.len() {
                return Err(FORM);
            }
            if previous.is_some_and(|previous| previous >= key) {
                return Err("its keys are not in order");
            }
            previous = Some(key);
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The bytes of a key or a value.
    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// The key of an element of either kind.
    pub(crate) fn key(&self, index: usize) -> Option<&[u8]> {
        let range = match self.kind {
            Kind::Branch => self.branch_key(index)?,
            Kind::Leaf => self.leaf(index)?.key,
        };
        self.bytes.get(range)
    }

    /// The page that an element of a branch leads to.
    pub(crate) fn child(&self, index: usize) -> Option<u64> {
        u64_at(&self.bytes, PAGE_HEADER + ELEMENT * index + 8)
    }

    /// An element of a leaf.
    pub(crate) fn leaf(&self, index: usize) -> Option<Leaf> {
        let element = PAGE_HEADER + ELEMENT * index;
        let start = element.checked_add(self.size_at(element + 4)?)?;
        let middle = start.checked_add(self.size_at(element + 8)?)?;
        let end = middle.checked_add(self.size_at(element + 12)?)?;
        let flags = u32_at(&self.bytes, element).filter(|flags| matches!(*flags, 0 | BUCKET))?;
        Some(Leaf { flags, key: start..middle, value: middle..end })
    }

    fn branch_key(&self, index: usize) -> Option<Range<usize>> {
        let element = PAGE_HEADER + ELEMENT * index;
        let start = element.checked_add(self.size_at(element)?)?;
        Some(start..start.checked_add(self.size_at(element + 4)?)?)
    }

    fn size_at(&self, offset: usize) -> Option<usize> {
        usize::try_from(u32_at(&self.bytes, offset)?).ok()
    }
}
