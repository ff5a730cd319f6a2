//! Interrupt lines between devices and controllers, and the signals that reach a vCPU.
//!
//! A device holds an [`IrqLine`] and knows neither its number nor its controller. A controller implements
//! [`IrqSink`]. Lines are level signals; a line shared by several devices is one input of a [`SharedLine`] each.
#![forbid(unsafe_code)]

pub mod delivery;
mod signals;
pub use signals::{CpuSignals, Event};

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// The receiving end of lines: an interrupt controller, or a router in front of it.
pub trait IrqSink: Send + Sync {
    /// The level of input `line` is now `level`. May be called from any thread, also with an unchanged level.
    fn set_level(&self, line: u32, level: bool);

    /// As [`IrqSink::set_level`], on restore: takes the level without acting on an edge.
    fn import_level(&self, line: u32, level: bool);
}

/// A wire from a device to an interrupt controller.
///
/// The device drives a level; edge-triggered receivers act on the rise. Cloning gives another handle on the same wire.
#[derive(Clone)]
pub struct IrqLine {
    sink: Option<Arc<dyn IrqSink>>,
    line: u32,
}

impl IrqLine {
    /// A wire to input `line` of `sink`.
    pub fn new(sink: Arc<dyn IrqSink>, line: u32) -> Self {
        Self { sink: Some(sink), line }
    }

    /// A wire that leads nowhere, for a device whose interrupt is not connected.
    pub fn unconnected() -> Self {
        Self { sink: None, line: 0 }
    }

    /// Drives the wire high or low. Call it after the device's own lock is released.
    pub fn set(&self, level: bool) {
        if let Some(sink) = &self.sink {
            sink.set_level(self.line, level);
        }
    }

    /// Drives the wire high, then low: one edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Sets the level on restore, without an edge.
    pub fn import_level(&self, level: bool) {
        if let Some(sink) = &self.sink {
            sink.import_level(self.line, level);
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sink {
            Some(_) => write!(f, "IrqLine({})", self.line),
            None => f.write_str("IrqLine(unconnected)"),
        }
    }
}

/// Several sources on one wire: the wire is high while any source is.
pub struct SharedLine {
    output: IrqLine,
    high: Mutex<Vec<bool>>,
}

impl SharedLine {
    /// A shared wire that drives `output`.
    pub fn new(output: IrqLine) -> Arc<Self> {
        Arc::new(Self { output, high: Mutex::new(Vec::new()) })
    }

    /// Another source on the wire, low at first.
    pub fn input(self: &Arc<Self>) -> IrqLine {
        let mut high = self.high.lock();
        high.push(false);
        let line = u32::try_from(high.len() - 1).unwrap_or(u32::MAX);
        IrqLine::new(self.clone(), line)
    }

    fn store(&self, line: u32, level: bool) -> bool {
        let mut high = self.high.lock();
        if let Some(slot) = high.get_mut(line as usize) {
            *slot = level;
        }
        high.iter().any(|&h| h)
    }
}

impl IrqSink for SharedLine {
    fn set_level(&self, line: u32, level: bool) {
        self.output.set(self.store(line, level));
    }

    fn import_level(&self, line: u32, level: bool) {
        self.output.import_level(self.store(line, level));
    }
}

/// A message-signalled interrupt: what a device writes to memory instead of driving a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Physical address of the write.
    pub address: u64,
    /// Data of the write.
    pub data: u32,
}

/// Where message-signalled interrupts go: the local APICs' bus.
pub trait MsiSink: Send + Sync {
    /// Delivers one message.
    fn send(&self, message: MsiMessage);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Probe {
        level: AtomicU32,
        imports: AtomicU32,
    }

    impl IrqSink for Probe {
        fn set_level(&self, line: u32, level: bool) {
            let mask = 1 << line;
            if level {
                self.level.fetch_or(mask, Ordering::SeqCst);
            } else {
                self.level.fetch_and(!mask, Ordering::SeqCst);
            }
        }
        fn import_level(&self, line: u32, level: bool) {
            self.imports.fetch_add(1, Ordering::SeqCst);
            self.set_level(line, level);
        }
    }

    #[test]
    fn a_shared_line_is_high_while_any_source_is() {
        let probe = Arc::new(Probe::default());
        let shared = SharedLine::new(IrqLine::new(probe.clone(), 5));
        let (a, b) = (shared.input(), shared.input());
        a.set(true);
        b.set(true);
        a.set(false);
        assert_eq!(probe.level.load(Ordering::SeqCst), 1 << 5);
        b.set(false);
        assert_eq!(probe.level.load(Ordering::SeqCst), 0);
        a.import_level(true);
        assert_eq!(probe.imports.load(Ordering::SeqCst), 1);
    }
}
