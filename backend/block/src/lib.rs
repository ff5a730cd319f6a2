//! Block back ends.
#![forbid(unsafe_code)]
