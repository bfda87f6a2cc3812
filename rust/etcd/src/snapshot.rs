use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use crate::error::{Error, Result};
use crate::latest::Latest;
use crate::meta::{Metas, u64_at};
use crate::source::Source;
use crate::walk::{Visited, Walk};

/// The bucket in which etcd keeps every revision of every key.
const BUCKET: &[u8] = b"key";
const BUCKET_HEADER: usize = 16;
const CHUNK: usize = 1 << 20;

/// A file of etcd: what `etcdctl snapshot save` wrote, or a copy of a member's `snap/db`.
///
/// `snapshot save` appends the SHA-256 of all that is before it, so no change of such a file goes unnoticed. Pages have
/// no checksums of their own. In a file without those 32 bytes a damaged page, pointer or revision is noticed, but not
/// a changed name or value; and a copy that was made while etcd ran may mix two states.
#[derive(Debug)]
pub struct Snapshot<S> {
    source: S,
    /// Bytes of pages; the checksum is behind them.
    size: u64,
    metas: Metas,
    pending: Option<Pending>,
    has_checksum: bool,
}

/// The checksum, as far as it is computed.
struct Pending {
    context: Context,
    done: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("done", &self.done).finish_non_exhaustive()
    }
}

impl<S: Source> Snapshot<S> {
    /// Look at the size and the first two pages.
    ///
    /// # Errors
    /// [`Error::NotEtcd`]; [`Error::Damaged`] if the file is shorter than it says; [`Error::Io`].
    pub fn open(source: S) -> Result<Self> {
        let whole = source.size()?;
        // Pages have sizes that 512 divides. This is how etcd itself tells whether there is a checksum.
        let has_checksum = whole % 512 == SHA256_OUTPUT_LEN as u64;
        let size = if has_checksum { whole - SHA256_OUTPUT_LEN as u64 } else { whole };
        if size == 0 {
            return Err(Error::NotEtcd("it is empty"));
        }
        let metas = Metas::read(&source, size)?;
        let needed = metas.current.end.checked_mul(u64::from(metas.current.page_size));
        if needed.is_none_or(|needed| needed > size) {
            return Err(Error::damaged("it is shorter than its first page says: the copy was cut off"));
        }
        let pending = has_checksum.then(|| Pending { context: Context::new(&SHA256), done: 0 });
        Ok(Self { source, size, metas, pending, has_checksum })
    }

    /// Whether the file ends with a checksum. If not, `snapshot save` did not write it.
    #[must_use]
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    /// Whether one of the first two pages is damaged, so that the last transaction before the copy may be missing.
    #[must_use]
    pub fn may_lack_a_transaction(&self) -> bool {
        !self.metas.both
    }

    /// Bytes of pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Compute the checksum over up to `bytes` more bytes, and compare it at the end. Return how many bytes are done.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the checksum is wrong; [`Error::Io`].
    pub fn check(&mut self, bytes: u64) -> Result<u64> {
        let Some(pending) = &mut self.pending else { return Ok(self.size) };
        let end = self.size.min(pending.done.saturating_add(bytes));
        let mut buffer = vec![0; CHUNK];
        while pending.done < end {
            let length = CHUNK.min(usize::try_from(end - pending.done).unwrap_or(CHUNK));
            let part = &mut buffer[..length];
            self.source.read_at(part, pending.done)?;
            pending.context.update(part);
            pending.done += length as u64;
        }
        let done = pending.done;
        let finished = if done == self.size { self.pending.take() } else { None };
        if let Some(Pending { context, .. }) = finished {
            let mut stated = [0; SHA256_OUTPUT_LEN];
            self.source.read_at(&mut stated, self.size)?;
            if context.finish().as_ref() != stated {
                return Err(Error::damaged(
                    "its SHA-256 is not the one at its end: it was changed, or not copied completely",
                ));
            }
        }
        Ok(done)
    }

    /// Iterate over what etcd would answer, from the latest revision to the oldest. The checksum is checked first.
    ///
    /// The pages must form one tree with its keys in order, in which no page occurs twice and every revision says the
    /// same about itself as the place where it is.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::NotEtcd`] for the database of another program; [`Error::Io`].
    pub fn latest(mut self) -> Result<Latest<S>> {
        self.check(u64::MAX)?;
        let meta = self.metas.current;
        let mut buckets = Walk::from_root(meta, Visited::new(&meta), &self.source, meta.root)?;
        let bucket = loop {
            match buckets.step(&self.source)? {
                None => return Err(Error::NotEtcd("it is a bbolt file without etcd's bucket 'key'")),
                Some(found) if found.key == BUCKET && found.is_bucket => break found.value.to_vec(),
                Some(_) => {}
            }
        };
        let visited = buckets.into_visited();
        let walk = match (u64_at(&bucket, 0), bucket.get(BUCKET_HEADER..)) {
            (Some(0), Some(page)) => Walk::inline(meta, visited, page.to_vec())?,
            (Some(root), Some(_)) => Walk::from_root(meta, visited, &self.source, root)?,
            _ => return Err(Error::damaged("the bucket 'key' has no header")),
        };
        Ok(Latest::new(self.source, self.size, self.metas, walk))
    }
}
