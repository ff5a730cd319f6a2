//! The host's side of a process: terminals, pseudo-terminals, signals, detaching from the caller, PID files.
//!
//! One module per facility; each is usable alone. The few calls that the safe wrappers do not offer live here, each
//! with its reason.

pub mod bpf;
pub mod detach;
pub mod inherit;
pub mod links;
pub mod netdev;
pub mod perf;
pub mod pidlock;
pub mod pty;
pub mod scheduling;
pub mod signals;
pub mod time;
pub mod tty;
