//! What an emulator can do.
//!
//! An emulator is asked once, by running it without a guest ([`probe()`]); the answers are kept in a file in libvirt's
//! form until the binary, this program or the host changes ([`Store`]).
#![forbid(unsafe_code)]

mod cache;
mod flags;
mod model;
mod probe;
mod process;
mod schema;
mod stamp;
mod store;

pub use cache::{cache_name, format, parse};
pub use model::{
    Accelerator, CpuModel, CpuProperty, HostCpu, MachineType, PropertyValue, QemuCaps, Sev, Stamp, Usable,
    VirtType,
};
pub use probe::{Error, Settings, probe};
pub use process::end_left_over;
pub use stamp::LIBVIRT_VERSION;
pub use store::Store;

#[cfg(test)]
mod tests;
