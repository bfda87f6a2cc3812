//! Public data: records and their wraps, sealed seeds, v1 ciphertexts, state files.

use keystead_core as core;
use keystead_core::{KeyId, OwnedRecord, Role};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors::{argument, to_py};

/// A local KEK under one remote key.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Wrap {
    #[pyo3(get)]
    scheme: String,
    reference: String,
    #[pyo3(get)]
    version: String,
    #[pyo3(get)]
    role: u8,
    blob: Vec<u8>,
}

#[pymethods]
impl Wrap {
    #[new]
    #[pyo3(signature = (scheme, r#ref, version, role, blob))]
    fn new(scheme: String, r#ref: String, version: String, role: u8, blob: &[u8]) -> Self {
        Self { scheme, reference: r#ref, version, role, blob: blob.to_vec() }
    }

    #[getter(r#ref)]
    fn reference(&self) -> &str {
        &self.reference
    }

    #[getter]
    fn blob(&self) -> &[u8] {
        &self.blob
    }
}

impl Wrap {
    fn from_core(wrap: &core::Wrap<'_>) -> Self {
        Self {
            scheme: wrap.scheme.to_owned(),
            reference: wrap.reference.to_owned(),
            version: wrap.version.to_owned(),
            role: wrap.role.to_byte(),
            blob: wrap.blob.to_vec(),
        }
    }

    fn to_core(&self) -> PyResult<core::Wrap<'_>> {
        Ok(core::Wrap {
            scheme: &self.scheme,
            reference: &self.reference,
            version: &self.version,
            role: Role::from_byte(self.role).map_err(argument)?,
            blob: &self.blob,
        })
    }
}

/// A parsed KEK record: public data. Equal and hashable by its bytes.
#[pyclass(frozen, eq, hash, module = "keystead._core")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record(pub(crate) OwnedRecord);

impl Record {
    pub(crate) fn sign(
        kek: &core::Kek,
        created: u64,
        cluster: &str,
        wraps: &[PyRef<'_, Wrap>],
    ) -> PyResult<Self> {
        let wraps = wraps.iter().map(|wrap| wrap.to_core()).collect::<PyResult<Vec<_>>>()?;
        OwnedRecord::sign(kek.keys(), created, cluster, &wraps).map(Self).map_err(argument)
    }

    fn from_view(record: &core::Record<'_>) -> Self {
        Self(OwnedRecord::new(record))
    }
}

#[pymethods]
impl Record {
    /// Parse strictly. The MAC is not checked: that needs the KEK.
    #[staticmethod]
    fn parse(encoded: &[u8]) -> PyResult<Self> {
        core::Record::parse(encoded).map(|record| Self::from_view(&record)).map_err(to_py)
    }

    #[getter]
    fn encoded(&self) -> &[u8] {
        self.0.bytes()
    }

    /// SHA-256 of the encoding.
    #[getter]
    fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }

    /// Unix seconds, for information.
    #[getter]
    fn created(&self) -> u64 {
        self.0.view().created()
    }

    #[getter]
    fn cluster(&self) -> String {
        self.0.view().cluster().to_owned()
    }

    #[getter]
    fn kek_id(&self) -> [u8; 32] {
        *self.0.view().kek_id()
    }

    #[getter]
    fn wraps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let wraps: Vec<Wrap> = self.0.view().wraps().iter().map(Wrap::from_core).collect();
        PyTuple::new(py, wraps)
    }

    #[getter]
    fn remote_aad(&self) -> Vec<u8> {
        self.0.view().remote_aad()
    }

    /// The public name that Status advertises for this record's wraps at `epoch`.
    fn key_id(&self, epoch: u32) -> PyResult<String> {
        self.0.view().key_id(epoch).map_err(argument)
    }
}

/// The header of a sealed seed.
#[pyclass(frozen, module = "keystead._core")]
#[derive(Clone)]
pub(crate) struct Seed {
    kek_id: [u8; 32],
    #[pyo3(get)]
    plaintext_size: usize,
}

impl Seed {
    fn from_view(seed: &core::Seed<'_>) -> Self {
        Self { kek_id: *seed.kek_id(), plaintext_size: seed.plaintext_size() }
    }
}

#[pymethods]
impl Seed {
    /// Parse strictly.
    #[staticmethod]
    fn parse(encoded: &[u8]) -> PyResult<Self> {
        core::Seed::parse(encoded).map(|seed| Self::from_view(&seed)).map_err(to_py)
    }

    #[getter]
    fn kek_id(&self) -> &[u8] {
        &self.kek_id
    }
}

/// A parsed KMS v1 ciphertext.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct V1Cipher {
    #[pyo3(get)]
    key_id: String,
    record: Record,
    seed: Seed,
}

#[pymethods]
impl V1Cipher {
    /// Parse strictly.
    #[staticmethod]
    fn parse(encoded: &[u8]) -> PyResult<Self> {
        let cipher = core::V1Cipher::parse(encoded).map_err(to_py)?;
        Ok(Self {
            key_id: cipher.key_id.to_string(),
            record: Record::from_view(&cipher.record),
            seed: Seed::from_view(&cipher.seed),
        })
    }

    #[getter]
    fn record(&self) -> Record {
        self.record.clone()
    }

    #[getter]
    fn seed(&self) -> Seed {
        self.seed.clone()
    }
}

/// The content of an endpoint's state file.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct StateFile {
    encoded: Vec<u8>,
    #[pyo3(get)]
    key_id: String,
    record: Record,
}

impl StateFile {
    fn from_view(state: &core::StateFile<'_>) -> core::Result<Self> {
        Ok(Self {
            encoded: state.encode()?,
            key_id: state.key_id().to_string(),
            record: Record::from_view(state.record()),
        })
    }
}

#[pymethods]
impl StateFile {
    #[new]
    fn new(key_id: &str, record: &Record) -> PyResult<Self> {
        KeyId::parse(key_id)
            .and_then(|key_id| core::StateFile::new(key_id, record.0.view()))
            .and_then(|state| Self::from_view(&state))
            .map_err(argument)
    }

    /// Parse strictly.
    #[staticmethod]
    fn parse(encoded: &[u8]) -> PyResult<Self> {
        core::StateFile::parse(encoded).and_then(|state| Self::from_view(&state)).map_err(to_py)
    }

    #[getter]
    fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    #[getter]
    fn record(&self) -> Record {
        self.record.clone()
    }
}

/// The key_id of (scheme, ref, version, role) members, sorted as a record sorts them.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "the form that pyo3 extracts a sequence to")]
pub(crate) fn key_id(
    cluster: &str,
    epoch: u32,
    members: Vec<(String, String, String, u8)>,
) -> PyResult<String> {
    let mut wraps = Vec::with_capacity(members.len());
    for (scheme, reference, version, role) in &members {
        let role = Role::from_byte(*role).map_err(argument)?;
        wraps.push(core::Wrap { scheme, reference, version, role, blob: &[] });
    }
    core::key_id::compute(cluster, epoch, &wraps).map_err(argument)
}

/// The epoch inside a key_id.
#[pyfunction]
pub(crate) fn key_id_epoch(key_id: &str) -> PyResult<u32> {
    KeyId::parse(key_id).map(|key_id| key_id.epoch()).map_err(argument)
}
