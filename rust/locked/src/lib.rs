//! Memory for keys: small slots that never move, are kept out of swap and core dumps, and are wiped when dropped.
//!
//! This crate holds the only `unsafe` code of the workspace. A [`Slot`] is 64 bytes; slots are cut from chunks of
//! 16 KiB, so that thousands of keys cost a few locked pages and not a page each.

mod arena;
mod process;

pub use arena::{Arena, Report, SLOT_SIZE, Slot};
pub use process::harden_process;
