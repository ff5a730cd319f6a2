//! Assembly and life of a virtual machine: from a [`cmdline::Plan`] to running processors.
//!
//! * `assembly`: makes everything that the plan names, in order, and runs the main loop;
//! * `accels`, `chars`, `image`, `firmware`: the accelerator, the character devices, what the machine boots;
//! * `catalog`, `objects`, `drives`, `devices`: device types, and what `-object`, `-drive`, `-blockdev`, `-device` make;
//! * `life`, `wake`: run states, and what happens at a reset, a power-off, a sleep, a panic, a signal;
//! * `vcpus`: the processors' threads, and the gate that stops them;
//! * `machine`: the assembled machine; `control`, `inspect`: the machine as the monitor steers it and looks at it.
#![forbid(unsafe_code)]

mod accels;
mod assembly;
mod catalog;
mod chars;
mod control;
mod debugger;
mod devices;
mod drives;
mod firmware;
mod globals;
mod image;
mod inspect;
mod known_types;
mod life;
mod machine;
mod objects;
mod onboard;
mod vcpus;
mod wake;

pub use assembly::{Failed, Setup, run};
pub use catalog::devices;
