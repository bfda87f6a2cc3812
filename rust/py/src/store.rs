//! The hot path. Each call takes about a microsecond, so the interpreter lock is kept: giving it up would cost more.

use keystead_core as core;
use keystead_core::Decrypted;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{argument, to_py};
use crate::record::Record;
use crate::secrets::{Kek, take};

/// The unwrapped KEKs of one endpoint, bounded, in locked memory. Safe to use from many threads.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct KekStore(core::Store);

#[pymethods]
impl KekStore {
    #[new]
    #[pyo3(signature = (clusters, capacity = 4096))]
    fn new(clusters: Vec<String>, capacity: usize) -> PyResult<Self> {
        if capacity == 0 {
            return Err(PyValueError::new_err("a store has room for one KEK at least"));
        }
        Ok(Self(core::Store::new(clusters, capacity)))
    }

    /// Replace the cluster labels that records may carry.
    fn accept(&self, clusters: Vec<String>) {
        self.0.accept(clusters);
    }

    /// Answer a v2 `DecryptRequest`; or, if the KEK is not here, return the record to unwrap.
    fn decrypt_v2<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        decrypted(py, self.0.decrypt_v2(request))
    }

    /// Answer a v1beta1 `DecryptRequest`; or, if the KEK is not here, return the record to unwrap.
    fn decrypt_v1<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        decrypted(py, self.0.decrypt_v1(request))
    }

    /// Check length, key commitment and MAC, and keep the KEK.
    fn admit(&self, record: &Record, kek: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.admit(&record.0, &take(kek)?).map_err(to_py)
    }

    /// Keep a KEK that was just made.
    fn admit_fresh(&self, record: &Record, kek: &Kek) -> PyResult<()> {
        self.0.admit_fresh(&record.0, &kek.0).map_err(to_py)
    }

    /// Whether the KEK of this record is here.
    fn holds(&self, record: &Record) -> bool {
        self.0.holds(&record.0)
    }

    /// Pin an admitted KEK as the one to encrypt under, after a seal and open.
    fn write_state(&self, record: &Record, key_id: &str) -> PyResult<WriteState> {
        self.0.write_state(&record.0, key_id).map(WriteState).map_err(argument)
    }

    /// Drop every KEK with no online wrap of these (scheme, ref); return how many were dropped.
    #[expect(clippy::needless_pass_by_value, reason = "the form that pyo3 extracts a sequence to")]
    fn retain(&self, members: Vec<(String, String)>) -> usize {
        self.0.retain(&members)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

fn decrypted(py: Python<'_>, outcome: core::Result<Decrypted>) -> PyResult<Bound<'_, PyAny>> {
    match outcome.map_err(to_py)? {
        // This copy cannot be wiped: gRPC takes `bytes`.
        Decrypted::Answer(answer) => Ok(PyBytes::new(py, &answer).into_any()),
        Decrypted::Missing(record) => Ok(Bound::new(py, Record(record))?.into_any()),
    }
}

/// What Status advertises and Encrypt uses: one immutable value.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct WriteState(core::WriteState);

#[pymethods]
impl WriteState {
    #[getter]
    fn key_id(&self) -> &str {
        self.0.key_id()
    }

    #[getter]
    fn record(&self) -> Record {
        Record(self.0.record().clone())
    }

    #[getter]
    fn uses(&self) -> u64 {
        self.0.uses()
    }

    /// Seal, open what was sealed, and answer a v2 `EncryptRequest`.
    fn encrypt_v2<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.0.encrypt_v2(request).map(|answer| PyBytes::new(py, &answer)).map_err(to_py)
    }

    /// Seal, open what was sealed, and answer a v1beta1 `EncryptRequest`.
    fn encrypt_v1<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.0.encrypt_v1(request).map(|answer| PyBytes::new(py, &answer)).map_err(to_py)
    }
}
