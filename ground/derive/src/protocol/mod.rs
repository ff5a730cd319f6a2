//! `protocol!`: one declaration of an RPC program's procedures.

mod expand;
mod parse;

pub(crate) use expand::expand;
pub(crate) use parse::Protocol;
