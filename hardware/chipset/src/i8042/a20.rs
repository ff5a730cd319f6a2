//! The A20 gate, and the system control port 0x92.

use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Address line 20, which the keyboard controller and port 0x92 switch; the last one to do so wins.
pub struct A20Gate {
    on: AtomicBool,
    changed: Box<dyn Fn(bool) + Send + Sync>,
}

impl A20Gate {
    /// A gate that lets the line through; `changed` is called with each new state.
    pub fn new(changed: impl Fn(bool) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { on: AtomicBool::new(true), changed: Box::new(changed) })
    }

    /// Opens or closes the gate.
    pub fn set(&self, on: bool) {
        if self.on.swap(on, Ordering::SeqCst) != on {
            (self.changed)(on);
        }
    }

    /// Whether line 20 is let through.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// The physical address lines that are let through.
    pub fn mask(&self) -> u64 {
        if self.is_on() { u64::MAX } else { !(1 << 20) }
    }
}

/// System control port A, 0x92 (`port92`): fast A20 and fast reset.
pub struct Port92 {
    a20: Arc<A20Gate>,
    reset_machine: Box<dyn Fn() + Send + Sync>,
    value: Mutex<u8>,
}

impl Port92 {
    /// The port; `reset_machine` is called when the guest sets bit 0.
    pub fn new(a20: Arc<A20Gate>, reset_machine: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { a20, reset_machine: Box::new(reset_machine), value: Mutex::new(0) })
    }

    /// The register window with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        let region = window(
            "port92",
            1,
            IoRules::BYTES,
            self,
            |p, _, _| (*p.value.lock()).into(),
            |p, _, _, v| p.write(byte(v)),
        );
        vec![(0x92, region)]
    }

    /// System reset.
    pub fn reset(&self) {
        *self.value.lock() = 0;
    }

    fn write(&self, value: u8) {
        let old = std::mem::replace(&mut *self.value.lock(), value);
        self.a20.set(value & 2 != 0);
        if value & 1 != 0 && old & 1 == 0 {
            (self.reset_machine)();
        }
    }
}
