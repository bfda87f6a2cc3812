//! Snapshots of etcd, what their values are under, and opening them for a recovery.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keystead_core::{Error as CoreError, Recovery as CoreRecovery};
use keystead_etcd::{Error, Plugin, Stored};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{MalformedRequest, to_py};
use crate::record::Record;
use crate::secrets::take;

const FOREIGN: &str = "another KMS plugin holds the key of this value";

create_exception!(keystead._core, SnapshotError, PyException);

fn failed(error: Error) -> PyErr {
    match error {
        Error::Io(error) => error.into(),
        other => SnapshotError::new_err(other.to_string()),
    }
}

/// No panic leaves what these locks protect in a state that a later call could not use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of etcd. `latest` hands it over.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Snapshot {
    #[pyo3(get)]
    size: u64,
    #[pyo3(get)]
    has_checksum: bool,
    #[pyo3(get)]
    may_lack_a_transaction: bool,
    inner: Mutex<Option<keystead_etcd::Snapshot<File>>>,
}

impl Snapshot {
    fn gone() -> PyErr {
        PyRuntimeError::new_err("this snapshot was handed over by latest()")
    }
}

#[pymethods]
impl Snapshot {
    /// Look at the size and the first two pages.
    #[new]
    fn new(path: std::path::PathBuf) -> PyResult<Self> {
        let snapshot = File::open(path).map_err(Error::from).and_then(keystead_etcd::Snapshot::open);
        let snapshot = snapshot.map_err(failed)?;
        Ok(Self {
            size: snapshot.size(),
            has_checksum: snapshot.has_checksum(),
            may_lack_a_transaction: snapshot.may_lack_a_transaction(),
            inner: Mutex::new(Some(snapshot)),
        })
    }

    /// Compute the checksum over up to so many more bytes; return how many are done.
    fn check(&self, py: Python<'_>, size: u64) -> PyResult<u64> {
        py.detach(|| lock(&self.inner).as_mut().map(|snapshot| snapshot.check(size)))
            .ok_or_else(Self::gone)?
            .map_err(failed)
    }

    /// Iterate over what etcd would answer, after the rest of the checksum.
    fn latest(&self, py: Python<'_>) -> PyResult<Latest> {
        let snapshot = lock(&self.inner).take().ok_or_else(Self::gone)?;
        py.detach(|| snapshot.latest()).map(|latest| Latest(Mutex::new(latest))).map_err(failed)
    }
}

type Entry<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64, u64);

/// The keys of a snapshot that are not deleted, from the latest revision to the oldest.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Latest(Mutex<keystead_etcd::Latest<File>>);

#[pymethods]
impl Latest {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Key, value, and the revisions that wrote this value and that made the key.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Entry<'py>>> {
        let entry = py.detach(|| lock(&self.0).next()).transpose().map_err(failed)?;
        Ok(entry.map(|entry| {
            let (key, value) = (PyBytes::new(py, &entry.key), PyBytes::new(py, &entry.value));
            (key, value, entry.mod_revision, entry.create_revision)
        }))
    }

    /// Count up to so many entries, and return how many there were: fewer at the end only.
    fn count_into(&self, py: Python<'_>, tally: &Tally, entries: usize) -> PyResult<usize> {
        py.detach(|| {
            let (mut latest, mut tally) = (lock(&self.0), lock(&tally.0));
            let mut counted = 0;
            for entry in latest.by_ref().take(entries) {
                let entry = entry?;
                tally.add(&entry.key, &entry.value, entry.mod_revision);
                counted += 1;
            }
            Ok(counted)
        })
        .map_err(failed)
    }

    /// The revision of the store, once the first entry was read.
    #[getter]
    fn revision(&self) -> u64 {
        lock(&self.0).revision()
    }

    /// How many revisions were read, the outdated and deleted ones included.
    #[getter]
    fn revisions(&self) -> u64 {
        lock(&self.0).revisions()
    }

    /// How many bytes of the file were read.
    #[getter]
    fn done(&self) -> u64 {
        lock(&self.0).progress().0
    }
}

/// Counts of objects by what holds them.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Tally(Mutex<keystead_etcd::Tally>);

#[pymethods]
impl Tally {
    /// Count what is below a prefix.
    #[new]
    fn new(prefix: Vec<u8>) -> Self {
        Self(Mutex::new(keystead_etcd::Tally::new(prefix)))
    }

    /// Count one object.
    fn add(&self, key: &[u8], value: &[u8], revision: u64) {
        lock(&self.0).add(key, value, revision);
    }

    /// The folders, by their index.
    #[getter]
    fn resources(&self) -> Vec<String> {
        lock(&self.0).resources().to_vec()
    }

    /// The namespaces, by their index.
    #[getter]
    fn namespaces(&self) -> Vec<String> {
        lock(&self.0).namespaces().to_vec()
    }

    /// The holders, by their index.
    #[getter]
    fn holders(&self) -> Vec<Holder> {
        lock(&self.0).holders().iter().map(Holder::from_counted).collect()
    }

    /// Resource, namespace, holder, seed; objects, oldest and newest revision.
    #[getter]
    fn rows(&self) -> Vec<(u32, u32, u32, u32, u64, u64, u64)> {
        let inner = lock(&self.0);
        let rows = inner.rows().map(|(row, count)| {
            (row.resource, row.namespace, row.holder, row.seed, count.objects, count.oldest, count.newest)
        });
        rows.collect()
    }

    /// How many keys are not below the prefix.
    #[getter]
    fn outside(&self) -> u64 {
        lock(&self.0).outside()
    }
}

/// What an object is under.
#[pyclass(frozen, get_all, module = "keystead._core")]
pub(crate) struct Holder {
    kind: &'static str,
    name: String,
    key_id: String,
    record: Option<Record>,
    problem: &'static str,
}

impl Holder {
    fn from_counted(holder: &keystead_etcd::Holder) -> Self {
        let keystead_etcd::Holder { kind, name, key_id, record, problem } = holder.clone();
        Self { kind, name, key_id, record: record.map(Record), problem }
    }
}

/// What holds a value from etcd, and the bytes that tell its seed or DEK from others.
#[pyfunction]
pub(crate) fn stored_value<'py>(py: Python<'py>, value: &[u8]) -> (Holder, Bound<'py, PyBytes>) {
    let stored = Stored::parse(value);
    let seed = if let Stored::Kms(kms) = &stored { kms.seed() } else { &[] };
    (Holder::from_counted(&keystead_etcd::Holder::of(&stored)), PyBytes::new(py, seed))
}

/// The local KEKs that were unwrapped for a recovery.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Recovery(Mutex<CoreRecovery>);

#[pymethods]
impl Recovery {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(CoreRecovery::default()))
    }

    /// Check 32 bytes against the record that they are said to belong to, and keep them.
    fn admit(&self, record: &Record, kek: &Bound<'_, PyAny>) -> PyResult<()> {
        lock(&self.0).admit(&record.0, &take(kek)?).map_err(to_py)
    }

    /// Whether the KEK of this record is here.
    fn holds(&self, record: &Record) -> bool {
        lock(&self.0).holds(&record.0)
    }

    /// Open a value of ours that was stored at this key in etcd.
    fn open<'py>(&self, py: Python<'py>, etcd_key: &[u8], value: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let Stored::Kms(kms) = Stored::parse(value) else {
            return Err(MalformedRequest::new_err("the value is not one that a KMS plugin holds the key of"));
        };
        let inner = lock(&self.0);
        let opened = match (kms.plugin, kms.value_v2()) {
            (Plugin::Keystead(_), Some(value)) => inner.open_v2(etcd_key, &value),
            (Plugin::Keystead(_), None) => inner.open_v1(etcd_key, kms.source, kms.data),
            (Plugin::Damaged(problem), _) => Err(CoreError::Malformed(problem)),
            (Plugin::Foreign, _) => Err(CoreError::Malformed(FOREIGN)),
        };
        // This copy cannot be wiped: whoever recovers wants to write it down.
        opened.map(|object| PyBytes::new(py, &object)).map_err(to_py)
    }
}
