//! What the monitor shows of processors and disks.

mod block;
mod jit;
mod memory;
mod paging;
mod registers;

pub(crate) use block::disks;
pub(crate) use jit::jit;
pub(crate) use memory::memory_trees;
pub(crate) use paging::{mappings, translations};
pub(crate) use registers::{code_bits, register};
