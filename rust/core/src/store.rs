//! The unwrapped local KEKs of one endpoint, and the one it encrypts under.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key_id::KeyId;
use crate::messages::{self, DecryptV2, EncryptV2};
use crate::record::{OwnedRecord, Record, Role};
use crate::secret::{KEK_SIZE, Kek, KekId, Keys};
use crate::seed::{self, Api, Seed, V1Cipher};

/// What Decrypt came to.
#[derive(Debug)]
pub enum Decrypted {
    /// An encoded answer with the plaintext.
    Answer(Zeroizing<Vec<u8>>),
    /// The KEK is not here: unwrap this record, admit it, and ask again.
    Missing(OwnedRecord),
}

/// A bounded store. Hits share a read lock; beyond the capacity the KEK that was used least recently gives way, but
/// never the one that the endpoint encrypts under.
#[derive(Debug)]
pub struct Store {
    capacity: usize,
    clock: AtomicU64,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    clusters: Vec<String>,
    entries: HashMap<KekId, Entry>,
    current: Option<KekId>,
}

#[derive(Debug)]
struct Entry {
    keys: Arc<Keys>,
    record: OwnedRecord,
    used: AtomicU64,
}

impl Entry {
    /// A record that names this KEK belongs to it if it is the admitted one byte for byte, or else by its MAC: the
    /// kek_id is public, so anybody can write it into a record.
    fn check(&self, record: &Record<'_>) -> Result<()> {
        if self.record.bytes() == record.bytes() { Ok(()) } else { record.verify(&self.keys) }
    }

    fn has_online_wrap(&self, members: &[(String, String)]) -> bool {
        self.record.view().wraps().iter().any(|wrap| {
            wrap.role == Role::Online
                && members
                    .iter()
                    .any(|(scheme, reference)| scheme == wrap.scheme && reference == wrap.reference)
        })
    }
}

impl Store {
    /// Make an empty store that accepts records with one of these cluster labels.
    #[must_use]
    pub fn new(clusters: Vec<String>, capacity: usize) -> Self {
        let inner = Inner { clusters, entries: HashMap::new(), current: None };
        Self { capacity, clock: AtomicU64::new(0), inner: RwLock::new(inner) }
    }

    /// Replace the cluster labels that records may carry.
    pub fn accept(&self, clusters: Vec<String>) {
        self.write().clusters = clusters;
    }

    /// Answer a `v2.DecryptRequest`.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::ClusterNotAccepted`] or [`Error::NotAuthentic`], in this order.
    pub fn decrypt_v2(&self, request: &[u8]) -> Result<Decrypted> {
        let request = DecryptV2::parse(request)?;
        let seed = Seed::parse(request.ciphertext)?;
        let key_id = KeyId::parse(request.key_id)?;
        let record = Record::parse(request.record)?;
        self.decrypt(Api::V2, &seed, key_id, &record)
    }

    /// Answer a `v1beta1.DecryptRequest`.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::ClusterNotAccepted`] or [`Error::NotAuthentic`], in this order.
    pub fn decrypt_v1(&self, request: &[u8]) -> Result<Decrypted> {
        let cipher = V1Cipher::parse(messages::parse_decrypt_v1(request)?)?;
        self.decrypt(Api::V1, &cipher.seed, cipher.key_id, &cipher.record)
    }

    fn decrypt(
        &self,
        api: Api,
        seed: &Seed<'_>,
        key_id: KeyId<'_>,
        record: &Record<'_>,
    ) -> Result<Decrypted> {
        let inner = self.read();
        if !inner.clusters.iter().any(|accepted| accepted == record.cluster()) {
            return Err(Error::ClusterNotAccepted);
        }
        if seed.kek_id() != record.kek_id() {
            return Err(Error::NotAuthentic("the ciphertext and its KEK record name different local KEKs"));
        }
        let Some(entry) = inner.entries.get(record.kek_id()) else {
            return Ok(Decrypted::Missing(OwnedRecord::new(record)));
        };
        entry.check(record)?;
        let plaintext = seed.open(&entry.keys, api, key_id)?;
        entry.used.store(self.tick(), Ordering::Relaxed);
        Ok(Decrypted::Answer(messages::encode_decrypt(&plaintext)))
    }

    /// Check what a remote unwrapped, and keep it: length, key commitment, MAC.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`].
    pub fn admit(&self, record: &OwnedRecord, kek: &[u8]) -> Result<()> {
        let kek: &[u8; KEK_SIZE] = kek
            .try_into()
            .map_err(|_| Error::NotAuthentic("the unwrapped local KEK is not 32 bytes long"))?;
        self.admit_keys(record, Arc::new(Keys::derive(kek)?))
    }

    /// Keep a KEK that was just made.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`].
    pub fn admit_fresh(&self, record: &OwnedRecord, kek: &Kek) -> Result<()> {
        self.admit_keys(record, Arc::clone(kek.keys()))
    }

    fn admit_keys(&self, record: &OwnedRecord, keys: Arc<Keys>) -> Result<()> {
        record.view().verify(&keys)?;
        let mut inner = self.write();
        let kek_id = *keys.kek_id();
        if !inner.entries.contains_key(&kek_id) {
            inner.make_room(self.capacity);
        }
        let entry = Entry { keys, record: record.clone(), used: AtomicU64::new(self.tick()) };
        inner.entries.insert(kek_id, entry);
        Ok(())
    }

    /// Whether the KEK of this record is here.
    #[must_use]
    pub fn holds(&self, record: &OwnedRecord) -> bool {
        let record = record.view();
        self.read().entries.get(record.kek_id()).is_some_and(|entry| entry.check(&record).is_ok())
    }

    /// Make an admitted KEK the one to encrypt under, after a seal and open. It stays in the store until another takes
    /// its place.
    ///
    /// # Errors
    /// [`Error::NotHeld`], [`Error::Malformed`] if `key_id` does not belong to the record, [`Error::Unsafe`].
    pub fn write_state(&self, record: &OwnedRecord, key_id: &str) -> Result<WriteState> {
        let name = KeyId::parse(key_id)?;
        let view = record.view();
        if view.key_id(name.epoch())? != key_id {
            return Err(Error::Malformed("the key_id does not belong to the KEK record"));
        }
        let mut inner = self.write();
        let entry = inner.entries.get(view.kek_id()).ok_or(Error::NotHeld)?;
        entry.check(&view)?;
        let keys = Arc::clone(&entry.keys);
        for api in [Api::V1, Api::V2] {
            seed::seal(&keys, api, name, b"self-test")?;
        }
        inner.current = Some(*keys.kek_id());
        Ok(WriteState { keys, record: record.clone(), key_id: key_id.to_owned(), uses: AtomicU64::new(0) })
    }

    /// Drop every KEK, the current one included, whose record has no online wrap of these (scheme, ref). Return how
    /// many were dropped.
    pub fn retain(&self, members: &[(String, String)]) -> usize {
        let mut inner = self.write();
        let before = inner.entries.len();
        inner.entries.retain(|_, entry| entry.has_online_wrap(members));
        before - inner.entries.len()
    }

    /// How many KEKs are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    /// Whether no KEK is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    // No code that holds these locks leaves the store in a state that a later call could not use, even by a panic.

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Leave room for one more. A look at each of a few thousand entries is small beside the remote call before it.
    fn make_room(&mut self, capacity: usize) {
        while self.entries.len() >= capacity {
            let current = self.current;
            let others = self.entries.iter().filter(|(kek_id, _)| Some(**kek_id) != current);
            let Some((oldest, _)) = others.min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed)) else {
                return;
            };
            let oldest = *oldest;
            self.entries.remove(&oldest);
        }
    }
}

/// What Status advertises and Encrypt uses: one immutable value. It keeps its KEK alive, whatever the store does.
#[derive(Debug)]
pub struct WriteState {
    keys: Arc<Keys>,
    record: OwnedRecord,
    key_id: String,
    uses: AtomicU64,
}

impl WriteState {
    /// The name.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The record that every ciphertext carries.
    #[must_use]
    pub fn record(&self) -> &OwnedRecord {
        &self.record
    }

    /// How many seals were begun.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Answer a `v2.EncryptRequest`.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsafe`].
    pub fn encrypt_v2(&self, request: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.seal(Api::V2, EncryptV2::parse(request)?.plaintext)?;
        Ok(messages::encode_encrypt_v2(&sealed, &self.key_id, self.record.bytes()))
    }

    /// Answer a `v1beta1.EncryptRequest`.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsafe`].
    pub fn encrypt_v1(&self, request: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.seal(Api::V1, messages::parse_encrypt_v1(request)?)?;
        let cipher = seed::encode_v1(KeyId::parse(&self.key_id)?, self.record.bytes(), &sealed)?;
        Ok(messages::encode_encrypt_v1(&cipher))
    }

    fn seal(&self, api: Api, plaintext: &[u8]) -> Result<Vec<u8>> {
        self.uses.fetch_add(1, Ordering::Relaxed);
        seed::seal(&self.keys, api, KeyId::parse(&self.key_id)?, plaintext)
    }
}

#[cfg(test)]
mod tests;
