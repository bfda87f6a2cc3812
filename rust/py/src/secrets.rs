//! Keys on their way in from Python.

use keystead_core::{AeadKey as CoreAeadKey, Kek as CoreKek};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use zeroize::Zeroizing;

use crate::errors::to_py;
use crate::record::{Record, Wrap};

/// Copy a `bytes` or `bytearray` and wipe it if it can be written. `bytes` cannot: that copy stays with Python.
pub(crate) fn take(secret: &Bound<'_, PyAny>) -> PyResult<Zeroizing<Vec<u8>>> {
    let py = secret.py();
    let buffer = PyBuffer::<u8>::get(secret)?;
    let mut copy = Zeroizing::new(vec![0; buffer.item_count()]);
    buffer.copy_to_slice(py, &mut copy)?;
    if !buffer.readonly() {
        buffer.copy_from_slice(py, &vec![0; copy.len()])?;
    }
    Ok(copy)
}

fn take_key(secret: &Bound<'_, PyAny>) -> PyResult<Zeroizing<[u8; 32]>> {
    let bytes = take(secret)?;
    let key = bytes.as_slice().try_into().map_err(|_| PyValueError::new_err("a key is 32 bytes long"))?;
    Ok(Zeroizing::new(key))
}

/// A local KEK that was just made, before its record exists.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct Kek(pub(crate) CoreKek);

#[pymethods]
impl Kek {
    /// 32 bytes from the operating system's generator.
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        CoreKek::generate().map(Self).map_err(to_py)
    }

    /// Take 32 known bytes.
    #[staticmethod]
    fn from_bytes(kek: &Bound<'_, PyAny>) -> PyResult<Self> {
        CoreKek::from_bytes(&*take_key(kek)?).map(Self).map_err(to_py)
    }

    #[getter]
    fn kek_id(&self) -> &[u8] {
        self.0.keys().kek_id()
    }

    /// The 32 bytes, for a wrap.
    fn reveal(&self) -> &[u8] {
        self.0.reveal()
    }

    /// Compare in constant time.
    fn equals(&self, candidate: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.0.equals(&take(candidate)?))
    }

    /// Sort the wraps, encode, authenticate, and parse what was encoded.
    #[expect(clippy::needless_pass_by_value, reason = "the form that pyo3 extracts a sequence to")]
    fn encode_record(&self, created: u64, cluster: &str, wraps: Vec<PyRef<'_, Wrap>>) -> PyResult<Record> {
        Record::sign(&self.0, created, cluster, &wraps)
    }
}

/// A 32-byte XAES-256-GCM key in locked memory.
#[pyclass(frozen, module = "keystead._core")]
pub(crate) struct AeadKey(CoreAeadKey);

#[pymethods]
impl AeadKey {
    #[new]
    fn new(key: &Bound<'_, PyByteArray>) -> PyResult<Self> {
        CoreAeadKey::new(&*take_key(key)?).map(Self).map_err(to_py)
    }

    /// Seal to nonce, ciphertext, tag.
    fn seal<'py>(&self, py: Python<'py>, plaintext: &[u8], aad: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let blob = self.0.seal(plaintext, aad).map_err(to_py)?;
        Ok(PyBytes::new(py, &blob))
    }

    /// Undo `seal`.
    fn open<'py>(&self, py: Python<'py>, blob: &[u8], aad: &[u8]) -> PyResult<Bound<'py, PyByteArray>> {
        let plaintext = self.0.open(blob, aad).map_err(to_py)?;
        Ok(PyByteArray::new(py, &plaintext))
    }
}
