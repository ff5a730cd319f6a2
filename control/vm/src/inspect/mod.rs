//! What the monitor shows of processors and disks.

mod block;
mod paging;
mod registers;

pub(crate) use block::disks;
pub(crate) use paging::{mappings, translations};
pub(crate) use registers::{code_bits, register};
