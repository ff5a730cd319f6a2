//! Models of x86 processors: what a client means by `Skylake-Server`, which model describes a processor best, whether
//! one processor can do what another one can, and what several have in common.
//!
//! A processor is its [`Bits`]: the words of CPUID and of model-specific registers. [`Map`] knows which bits the named
//! features are and which features the named models have (tables in `data/`). A [`Cpu`] is a description by names, as
//! `<cpu>` in XML holds it.
//!
//! [`Map::decode`] goes from bits to names, [`Map::bits_of`] back; [`Map::compare`], [`Map::baseline`], [`Map::update`],
//! [`Map::update_live`], [`Map::translate`] and [`Map::expand`] are the operations behind libvirt's calls on processors.
//! Results and texts of errors are those of libvirt's x86 driver.
#![forbid(unsafe_code)]

mod baseline;
mod bits;
mod compare;
mod cpu;
mod decode;
mod host;
mod map;
mod update;

pub use bits::{Bits, Half, Place};
pub use compare::Comparison;
pub use cpu::{Check, Cpu, Feature, Kind, Match, Mode, Policy};
pub use decode::{Offered, Usable};
pub use host::read_leaves;
pub use map::{Map, Model, Named, Signature, Vendor, qemu_name};

/// Why an operation on processors failed; the text is libvirt's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// Nobody knows the name (libvirt: internal error).
    #[error("{0}")]
    Internal(String),
    /// The hypervisor cannot do it (libvirt: unsupported configuration).
    #[error("{0}")]
    Unsupported(String),
    /// The processors do not fit together (libvirt: operation failed).
    #[error("{0}")]
    Failed(String),
    /// The caller gave something that makes no sense (libvirt: invalid argument).
    #[error("{0}")]
    Argument(String),
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, CpuError>;

#[cfg(test)]
mod tests;
