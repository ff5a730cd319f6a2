//! Virtio 1.2: split virtqueues, the PCI transport (modern, legacy and transitional), disks, serial ports
//! and entropy.
//!
//! A [`VirtioDevice`] knows its features, its configuration and what to do with a queue; the transport owns rings,
//! status and interrupts, and a worker thread per device processes queues, so that no vCPU waits for a disk.
#![forbid(unsafe_code)]

mod blk;
mod blk_limit;
mod device;
mod forms;
mod queue;
mod rng;
mod serial;
mod serial_port;
mod transport;
mod worker;

pub use blk::{BLK_SPECS, CpuCount};
pub use device::{QueueAccess, VirtioDevice};
pub use queue::{Chain, Queue, QueueError};
pub use rng::{RNG_SPECS, RngBuiltin, RngRandom, RngSource};
pub use serial::SERIAL_SPECS;
pub use serial_port::PORT_SPECS;
pub use transport::{Family, VirtioPci, VirtioProperties};
