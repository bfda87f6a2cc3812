//! The module `keystead._core`: convert, call `keystead-core`, map errors; nothing else.

#![deny(unsafe_code)]

mod errors;
mod etcd;
mod record;
mod secrets;
mod store;

use keystead_core::messages::{self, ForeignV2};
use keystead_locked::{Arena, Report, harden_process as harden};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type Foreign<'py> = (Bound<'py, PyBytes>, String, Vec<(String, Bound<'py, PyBytes>)>);

/// Whether the memory that holds keys could be protected.
#[pyclass(frozen, get_all, module = "keystead._core")]
struct MemoryReport {
    locked: bool,
    undumpable: bool,
}

/// Whether the memory that holds keys so far could be locked and left out of core dumps.
#[pyfunction]
fn memory_report() -> MemoryReport {
    let Report { locked, undumpable } = Arena::global().report();
    MemoryReport { locked, undumpable }
}

/// Forbid core dumps and ptrace for this process; return a sentence for each thing that the system refused.
#[pyfunction]
fn harden_process() -> Vec<String> {
    harden()
}

/// Whether a v1 `EncryptRequest` carries the four bytes that the v1 health check sends.
#[pyfunction]
fn is_ping(request: &[u8]) -> bool {
    messages::is_ping(request)
}

/// The uid field of a v2 request, for a log line; empty if there is none or the request is malformed.
#[pyfunction]
fn request_uid(request: &[u8]) -> &str {
    messages::request_uid(request)
}

/// Ciphertext, `key_id` and annotations of a v2 `DecryptRequest` that another plugin's Encrypt led to; `None` if any of
/// them begins as ours do.
#[pyfunction]
fn foreign_v2<'py>(py: Python<'py>, request: &[u8]) -> PyResult<Option<Foreign<'py>>> {
    let parsed = ForeignV2::parse(request).map_err(errors::to_py)?;
    Ok(parsed.map(|foreign| {
        let bytes = |value| PyBytes::new(py, value);
        let annotations =
            foreign.annotations.into_iter().map(|(name, value)| (name.to_owned(), bytes(value)));
        (bytes(foreign.ciphertext), foreign.key_id.to_owned(), annotations.collect())
    }))
}

/// The ciphertext of a v1beta1 `DecryptRequest` that another plugin's Encrypt led to; `None` if it begins as ours do.
#[pyfunction]
fn foreign_v1<'py>(py: Python<'py>, request: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let parsed = messages::parse_foreign_v1(request).map_err(errors::to_py)?;
    Ok(parsed.map(|ciphertext| PyBytes::new(py, ciphertext)))
}

/// Encode a `DecryptResponse` of either version.
#[pyfunction]
fn encode_decrypt<'py>(py: Python<'py>, plaintext: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &messages::encode_decrypt(&secrets::take(plaintext)?)))
}

/// Encode a v2 `StatusResponse`.
#[pyfunction]
fn encode_status(version: &str, healthz: &str, key_id: &str) -> Vec<u8> {
    messages::encode_status(version, healthz, key_id)
}

/// Encode a v1beta1 `VersionResponse`.
#[pyfunction]
fn encode_version(version: &str, runtime_name: &str, runtime_version: &str) -> Vec<u8> {
    messages::encode_version(version, runtime_name, runtime_version)
}

/// The Rust core of Keystead.
#[pymodule]
mod _core {
    use keystead_core::{ANNOTATION, MAX_PLAINTEXT, Role, messages::MAX_REQUEST};
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::etcd::{Holder, Latest, Recovery, Snapshot, SnapshotError, Tally, stored_value};
    #[pymodule_export]
    use super::record::{Record, Seed, StateFile, V1Cipher, Wrap, key_id, key_id_epoch};
    #[pymodule_export]
    use super::secrets::{AeadKey, Kek};
    #[pymodule_export]
    use super::store::{KekStore, WriteState};
    #[pymodule_export]
    use super::{
        MemoryReport, encode_decrypt, encode_status, encode_version, foreign_v1, foreign_v2, harden_process,
        is_ping, memory_report, request_uid,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("ROLE_ONLINE", Role::Online.to_byte())?;
        module.add("ROLE_RECOVERY", Role::Recovery.to_byte())?;
        module.add("MAX_PLAINTEXT", MAX_PLAINTEXT)?;
        module.add("MAX_REQUEST", MAX_REQUEST)?;
        module.add("ANNOTATION", ANNOTATION)
    }
}
