//! Character device back ends.
#![forbid(unsafe_code)]
