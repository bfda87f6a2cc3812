//! The two pages with which a bbolt file begins. Transactions write them in turn, so one of them is always whole.

use crate::error::{Error, Result};
use crate::source::Source;

/// Bytes of a page before its content.
pub(crate) const PAGE_HEADER: usize = 16;
const META_SIZE: usize = 64;
const META_FLAG: u16 = 4;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// bbolt takes the page size of the operating system: 4 KiB on most machines, 16 or 64 KiB on some.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1024..=1 << 20;

/// What one transaction left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    /// The page where the tree of buckets begins.
    pub(crate) root: u64,
    /// Pages from this one on are not in use.
    pub(crate) end: u64,
    pub(crate) transaction: u64,
}

/// Both meta pages, as far as they are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metas {
    /// The one of the later transaction.
    pub(crate) current: Meta,
    /// Whether the other one is whole too. If not, its transaction may have been a later one.
    pub(crate) both: bool,
}

impl Metas {
    /// Read both from a file with `size` bytes of pages.
    pub(crate) fn read(source: &impl Source, size: u64) -> Result<Self> {
        let first = read_meta(source, size, 0, 0)?;
        let second = match first {
            Some(meta) => read_meta(source, size, 1, u64::from(meta.page_size))?,
            None => find_second(source, size)?,
        };
        match (first, second) {
            (Some(a), Some(b)) if a.page_size == b.page_size => {
                Ok(Self { current: if a.transaction > b.transaction { a } else { b }, both: true })
            }
            (Some(one), None) | (None, Some(one)) => Ok(Self { current: one, both: false }),
            (Some(_), Some(_)) => Err(Error::damaged("its two meta pages disagree about the page size")),
            (None, None) => Err(Error::NotEtcd("neither of its first two pages is a meta page of bbolt")),
        }
    }
}

/// Find the second page without the first one, which would tell where it begins.
fn find_second(source: &impl Source, size: u64) -> Result<Option<Meta>> {
    let mut page_size = *PAGE_SIZES.start();
    while page_size <= *PAGE_SIZES.end() {
        match read_meta(source, size, 1, u64::from(page_size))? {
            Some(meta) if meta.page_size == page_size => return Ok(Some(meta)),
            _ => page_size *= 2,
        }
    }
    Ok(None)
}

fn read_meta(source: &impl Source, size: u64, page: u64, offset: u64) -> Result<Option<Meta>> {
    let mut bytes = [0; PAGE_HEADER + META_SIZE];
    if offset + bytes.len() as u64 > size {
        return Ok(None);
    }
    source.read_at(&mut bytes, offset)?;
    Ok(parse_meta(&bytes).filter(|(id, meta)| *id == page && is_sane(meta)).map(|(_, meta)| meta))
}

fn is_sane(meta: &Meta) -> bool {
    meta.page_size.is_power_of_two()
        && PAGE_SIZES.contains(&meta.page_size)
        && (2..meta.end).contains(&meta.root)
}

fn parse_meta(bytes: &[u8; PAGE_HEADER + META_SIZE]) -> Option<(u64, Meta)> {
    let meta = bytes.get(PAGE_HEADER..)?;
    let whole = u16_at(bytes, 8)? == META_FLAG
        && u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && u64_at(meta, 56)? == fnv_1a(meta.get(..56)?);
    let parsed = Meta {
        page_size: u32_at(meta, 8)?,
        root: u64_at(meta, 16)?,
        end: u64_at(meta, 40)?,
        transaction: u64_at(meta, 48)?,
    };
    whole.then_some((u64_at(bytes, 0)?, parsed))
}

/// The checksum of a meta page: FNV-1a with 64 bits. It finds accidents; nothing here relies on more.
pub(crate) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
