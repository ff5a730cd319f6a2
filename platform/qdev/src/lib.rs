//! Device model.
#![forbid(unsafe_code)]
