//! SCSI persistent reservations.
#![forbid(unsafe_code)]
