//! Direct kernel boot.
#![forbid(unsafe_code)]
