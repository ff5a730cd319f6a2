//! The PC boards.
#![forbid(unsafe_code)]
