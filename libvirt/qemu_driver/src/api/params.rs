//! Parameters that bring their types.

use crate::error::Result;
use rpc::{Origin, TypedParam};

/// Every parameter is one of `known`, which are names and the words of types, and is there once.
///
/// # Errors
/// One is not.
pub(super) fn check(given: &[TypedParam], known: &[(&str, &str)]) -> Result<()> {
    TypedParam::check(Origin::Qemu, given, known)
}
