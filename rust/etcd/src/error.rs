use std::{fmt, io};

/// Why a file cannot be read. No text has bytes of the file in it.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused.
    Io(io::Error),
    /// The file is no database of etcd at all.
    NotEtcd(&'static str),
    /// It is one, but it is cut short, damaged, or was changed while it was read.
    Damaged {
        /// The page where that shows, if it is one page.
        page: Option<u64>,
        /// What is wrong.
        what: &'static str,
    },
}

/// What almost everything here returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn damaged(what: &'static str) -> Self {
        Self::Damaged { page: None, what }
    }

    pub(crate) fn in_page(page: u64, what: &'static str) -> Self {
        Self::Damaged { page: Some(page), what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotEtcd(what) => write!(f, "this is not an etcd snapshot: {what}"),
            Self::Damaged { page: None, what } => write!(f, "the file is damaged: {what}"),
            Self::Damaged { page: Some(page), what } => {
                write!(f, "the file is damaged: page {page}: {what}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
