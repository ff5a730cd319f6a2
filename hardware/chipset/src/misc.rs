//! Small ports: POST code, coprocessor error, debug console, debug exit, reset control, pvpanic.

use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::sync::Arc;

/// The POST code port 0x80: writes are kept for nobody, reads give ones.
pub struct PostPort;

impl PostPort {
    /// The register window with its port.
    pub fn ports() -> Vec<(u64, Region)> {
        let region = window("ioport80", 1, IoRules::BYTES, &Arc::new(Self), |_, _, _| 0xff, |_, _, _, _| {});
        vec![(0x80, region)]
    }
}

/// The coprocessor error latch (FERR#, IRQ 13): raised by the processor, cleared by a write to port 0xf0.
pub struct FerrLatch {
    irq: IrqLine,
}

impl FerrLatch {
    /// A latch that drives `irq`.
    pub fn new(irq: IrqLine) -> Arc<Self> {
        Arc::new(Self { irq })
    }

    /// The processor signals an unmasked x87 error.
    pub fn raise(&self) {
        self.irq.set(true);
    }

    /// System reset.
    pub fn reset(&self) {
        self.irq.set(false);
    }

    /// The register window with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        let region =
            window("ioportF0", 1, IoRules::BYTES, self, |_, _, _| 0xff, |f, _, _, _| f.irq.set(false));
        vec![(0xf0, region)]
    }
}

/// `isa-debugcon`: bytes written go to a character device; reads give `readback`.
pub struct DebugCon {
    readback: u8,
    output: Box<dyn Fn(u8) + Send + Sync>,
}

impl DebugCon {
    /// A console that hands each byte to `output`.
    pub fn new(readback: u8, output: impl Fn(u8) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { readback, output: Box::new(output) })
    }

    /// The register, to be mapped at `iobase`.
    pub fn region(self: &Arc<Self>) -> Region {
        window(
            "isa-debugcon",
            1,
            IoRules::BYTES,
            self,
            |d, _, _| d.readback.into(),
            |d, _, _, v| {
                (d.output)(byte(v));
            },
        )
    }
}

/// `isa-debug-exit`: a write ends the program.
pub struct DebugExit {
    exit: Box<dyn Fn(i32) + Send + Sync>,
}

impl DebugExit {
    /// A port that calls `exit` with the program's status, `value * 2 + 1`.
    pub fn new(exit: impl Fn(i32) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { exit: Box::new(exit) })
    }

    /// The register of `iosize` bytes, to be mapped at `iobase`.
    pub fn region(self: &Arc<Self>, iosize: u8) -> Region {
        let size = iosize.max(1);
        window(
            "isa-debug-exit",
            size.into(),
            IoRules::UP_TO_4,
            self,
            |_, _, _| 0,
            |d, _, _, v| {
                let value = u32::try_from(v & 0xffff_ffff).unwrap_or(0);
                (d.exit)((value << 1 | 1).cast_signed());
            },
        )
    }
}

/// `pvpanic`: the guest tells that it crashed.
pub struct PvPanic {
    events: u8,
    panicked: Box<dyn Fn(PanicEvent) + Send + Sync>,
}

/// What a guest reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicEvent {
    /// It panicked.
    Panicked,
    /// It panicked and loads a crash kernel.
    CrashLoaded,
    /// It shuts down and wants to be told from a reset (`events` bit 2, from QEMU 9.1 on).
    Shutdown,
}

impl PvPanic {
    /// A device that offers `events` (bits: 1 panicked, 2 crash loaded, 4 shutdown).
    pub fn new(events: u8, panicked: impl Fn(PanicEvent) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { events, panicked: Box::new(panicked) })
    }

    /// The register, of one byte (ISA) or two (PCI).
    pub fn region(self: &Arc<Self>, size: u64) -> Region {
        window(
            "pvpanic",
            size,
            IoRules::BYTES,
            self,
            |p, _, _| p.events.into(),
            |p, _, _, v| {
                for (bit, event) in
                    [(1, PanicEvent::Panicked), (2, PanicEvent::CrashLoaded), (4, PanicEvent::Shutdown)]
                {
                    if byte(v) & p.events & bit != 0 {
                        return (p.panicked)(event);
                    }
                }
                if byte(v) & !p.events != 0 {
                    report::log_item!(GuestErrors, "pvpanic: unknown event {:#x}\n", byte(v));
                }
            },
        )
    }
}

/// The reset control register 0xcf9.
pub struct ResetControl {
    value: Mutex<u8>,
    reset_machine: Box<dyn Fn() + Send + Sync>,
}

impl ResetControl {
    /// A register that calls `reset_machine` when the guest sets bit 2.
    pub fn new(reset_machine: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { value: Mutex::new(0), reset_machine: Box::new(reset_machine) })
    }

    /// The register, to be mapped at 0xcf9 above PCI's configuration ports.
    pub fn region(self: &Arc<Self>) -> Region {
        window(
            "reset-control",
            1,
            IoRules::BYTES,
            self,
            |r, _, _| (*r.value.lock()).into(),
            |r, _, _, v| r.write(byte(v)),
        )
    }

    /// System reset.
    pub fn reset(&self) {
        *self.value.lock() = 0;
    }

    fn write(&self, value: u8) {
        if value & 4 != 0 {
            (self.reset_machine)();
        } else {
            // Only the choice between a hard and a soft reset is kept.
            *self.value.lock() = value & 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Wire, hammer, port_space};

    #[test]
    fn ports_do_what_they_are_for() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let wire = Wire::new();
        let ferr = FerrLatch::new(wire.line());
        let note = |what: &'static str| {
            let log = log.clone();
            move |value: i64| log.lock().push((what, value))
        };
        let (con, exit, panic, reset) = (note("con"), note("exit"), note("panic"), note("reset"));
        let mut ports = PostPort::ports();
        ports.extend(ferr.ports());
        ports.push((0xe9, DebugCon::new(0xe9, move |b| con(b.into())).region()));
        ports.push((0x501, DebugExit::new(move |s| exit(s.into())).region(2)));
        ports.push((0x505, PvPanic::new(3, move |e| panic(e as i64)).region(1)));
        ports.push((0xcf9, ResetControl::new(move || reset(0)).region()));
        let io = port_space(ports);
        io.write_int(0xe9, 1, 0x41);
        io.write_int(0x501, 2, 0x10);
        io.write_int(0x505, 1, 1);
        io.write_int(0x505, 1, 4);
        io.write_int(0xcf9, 1, 2);
        io.write_int(0xcf9, 1, 6);
        assert_eq!(*log.lock(), [("con", 0x41), ("exit", 0x21), ("panic", 0), ("reset", 0)]);
        let reads = [0x80, 0xf0, 0xe9, 0x501, 0x505, 0xcf9].map(|p| io.read_int(p, 1));
        assert_eq!(reads, [0xff, 0xff, 0xe9, 0, 3, 2]);
        ferr.raise();
        assert!(wire.level());
        io.write_int(0xf0, 1, 0);
        assert!(!wire.level());
        hammer(&io, &[0x80, 0xf0, 0xe9, 0x501, 0x502, 0x505, 0xcf9], 10_000);
    }
}
