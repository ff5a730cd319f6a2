//! What the monitor shows of a processor.

mod paging;
mod registers;

pub(crate) use paging::{mappings, translations};
pub(crate) use registers::{code_bits, dump, register};
