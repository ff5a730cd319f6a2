//! The human monitor.
#![forbid(unsafe_code)]
