//! Derive macros of the house.
#![forbid(unsafe_code)]
