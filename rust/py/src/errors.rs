//! `keystead_core::Error` as the exceptions of `keystead.errors`.

use keystead_core::Error;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::{PyErr, import_exception};

import_exception!(keystead.errors, ClusterNotAccepted);
import_exception!(keystead.errors, MalformedRequest);
import_exception!(keystead.errors, NotAuthentic);
import_exception!(keystead.errors, Unsafe);

/// For bytes from outside.
pub(crate) fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Malformed(_) => MalformedRequest::new_err(text),
        Error::NotAuthentic(_) => NotAuthentic::new_err(text),
        Error::ClusterNotAccepted => ClusterNotAccepted::new_err(text),
        Error::Unsafe(_) => Unsafe::new_err(text),
        Error::NotHeld => PyKeyError::new_err(text),
    }
}

/// For arguments that the caller made: what the format refuses is a `ValueError`.
pub(crate) fn argument(error: Error) -> PyErr {
    match error {
        Error::Malformed(text) => PyValueError::new_err(text),
        other => to_py(other),
    }
}
