use std::fmt;

/// Why the core refuses. The texts are written for the operator and are constants: no byte of a request, a
/// ciphertext or a key can get into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are not what they should be, or break a limit.
    Malformed(&'static str),
    /// The form is right, but a MAC, the key commitment or the AEAD fails.
    NotAuthentic(&'static str),
    /// The record carries a cluster label that is not accepted.
    ClusterNotAccepted,
    /// A check of our own failed: nothing may be written.
    Unsafe(&'static str),
    /// The store does not hold the local KEK of this record.
    NotHeld,
}

/// What almost everything here returns.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(text) | Self::NotAuthentic(text) | Self::Unsafe(text) => text,
            Self::ClusterNotAccepted => {
                "the record was made for another cluster: add its label to acceptClusters if its data was moved here"
            }
            Self::NotHeld => "the store does not hold the local KEK of this record",
        })
    }
}

impl std::error::Error for Error {}
