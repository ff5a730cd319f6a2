//! Assembly and life of a virtual machine.
#![forbid(unsafe_code)]
