//! Reads etcd's files, and the values that kube-apiserver puts into them, without a key, a server or a library of its
//! own for either.
//!
//! [`Snapshot`] checks a file and its [`Latest`] iterates over what etcd would answer today: of each key the latest
//! revision, unless that is a deletion. [`Stored`] says what a value is, and [`Tally`] counts what is under which key.
//!
//! A file is hostile input. Nothing is taken from it that was not checked, whatever is wrong is an [`Error`] and never
//! a table that is merely shorter, and neither memory nor time grows beyond what the file's own size justifies.

#![forbid(unsafe_code)]

mod error;
mod latest;
mod meta;
mod page;
mod snapshot;
mod source;
mod stored;
mod tally;
mod walk;

pub use error::{Error, Result};
pub use latest::{Entry, Latest};
pub use snapshot::Snapshot;
pub use source::Source;
pub use stored::{Kms, Plugin, Stored};
pub use tally::{Count, Holder, Row, Tally};
