//! The I/O APIC (`ioapic`): 24 inputs, each with a redirection entry.
//!
//! Source: Intel 82093AA data sheet; the EOI register of version 0x20. Its lock is held while a message goes to the
//! local APICs (never the other way round), so an entry's remote-IRR bit and the local APICs agree.

use crate::lapic::{ApicBus, EoiListener, Interrupt};
use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use irq::IrqSink;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Number of inputs.
pub const IOAPIC_PINS: u32 = 24;
/// The default physical address.
pub const IOAPIC_DEFAULT_BASE: u64 = 0xfec0_0000;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const STATUS: u64 = 1 << 12;
/// What a write leaves alone.
const READ_ONLY: u64 = REMOTE_IRR | STATUS;

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    select: u8,
    id: u8,
    /// Requests: levels of level-triggered inputs, unserved edges of the others.
    irr: u32,
    lines: u32,
    entries: [u64; 24],
}

impl State {
    fn reset(lines: u32) -> Self {
        Self { select: 0, id: 0, irr: 0, lines, entries: [MASKED; 24] }
    }
}

/// The chip; as an [`IrqSink`], lines 0 to 23.
pub struct IoApic {
    version: u8,
    bus: Arc<ApicBus>,
    state: Mutex<State>,
}

impl IoApic {
    /// A chip of `version` (0x11 or 0x20) in its reset state, attached to `bus`.
    pub fn new(version: u8, bus: &Arc<ApicBus>) -> Arc<Self> {
        let ioapic = Arc::new(Self { version, bus: bus.clone(), state: Mutex::new(State::reset(0)) });
        let listener: std::sync::Weak<dyn EoiListener> =
            Arc::downgrade(&(ioapic.clone() as Arc<dyn EoiListener>));
        bus.add_listener(listener);
        ioapic
    }

    /// The register page.
    pub fn region(self: &Arc<Self>) -> Region {
        window(
            "ioapic",
            0x1000,
            IoRules { valid_min: 1, ..IoRules::UP_TO_4 },
            self,
            |a, o, size| a.read(o, size).into(),
            |a, o, size, v| a.write(o, size, v),
        )
    }

    /// System reset.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        *state = State::reset(state.lines);
    }

    /// Sends what is requested on `pin`, if its entry lets it.
    fn service(&self, state: &mut State, pin: usize) {
        let entry = state.entries[pin];
        if state.irr & 1 << pin == 0 || entry & MASKED != 0 {
            return;
        }
        let level = entry & LEVEL != 0;
        if level {
            if entry & REMOTE_IRR != 0 {
                return;
            }
            state.entries[pin] |= REMOTE_IRR;
        } else {
            state.irr &= !(1 << pin);
        }
        let mode = byte(entry >> 8 & 7);
        if mode == 7 {
            // ExtINT: the PIC's own line does this.
            return;
        }
        self.bus.send_interrupt(&Interrupt {
            destination: u32::from(byte(entry >> 56)),
            logical: entry & 1 << 11 != 0,
            mode,
            vector: byte(entry),
            level,
        });
    }

    fn read(&self, offset: u64, size: u8) -> u32 {
        let state = self.state.lock();
        match offset & 0xff {
            0 => state.select.into(),
            0x10 if size == 4 => match state.select {
                0 | 2 => u32::from(state.id) << 24,
                1 => (IOAPIC_PINS - 1) << 16 | u32::from(self.version),
                index => {
                    let Some(entry) = entry_of(index) else { return 0 };
                    let half = state.entries[entry] >> if index & 1 == 0 { 0 } else { 32 };
                    u32::try_from(half & 0xffff_ffff).unwrap_or(0)
                }
            },
            _ => 0,
        }
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        match offset & 0xff {
            0 => self.state.lock().select = byte(value),
            0x10 if size == 4 => self.write_selected(value),
            // The EOI register came with version 0x20.
            0x40 if size == 4 && self.version >= 0x20 => self.eoi(byte(value)),
            _ => {}
        }
    }

    fn write_selected(&self, value: u64) {
        let mut state = self.state.lock();
        let select = state.select;
        if select == 0 {
            state.id = byte(value >> 24) & 0xf;
            return;
        }
        let Some(pin) = entry_of(select) else { return };
        let old = state.entries[pin];
        let merged = if select & 1 == 0 {
            old & !0xffff_ffff | value & 0xffff_ffff & !READ_ONLY | old & READ_ONLY
        } else {
            old & 0xffff_ffff | value << 32
        };
        // An edge-triggered entry has no remote IRR.
        let merged = if merged & LEVEL == 0 { merged & !REMOTE_IRR } else { merged };
        state.entries[pin] = merged & 0xff00_0000_0001_ffff;
        if merged & LEVEL != 0 && old & LEVEL == 0 {
            // The request of a level-triggered input is its level.
            let bit = 1 << pin;
            state.irr = if state.lines & bit != 0 { state.irr | bit } else { state.irr & !bit };
        }
        self.service(&mut state, pin);
    }

    /// `info pic`'s part: every entry, in the layout of QEMU's monitor.
    pub fn describe(&self) -> String {
        let state = self.state.lock();
        let mut text =
            format!("ioapic0: ver=0x{:x} id=0x{:02x} sel=0x{:02x}", self.version, state.id, state.select);
        match state.select.checked_sub(0x10) {
            Some(index) => text.push_str(&format!(" (redir[{}])\n", index >> 1)),
            None => text.push('\n'),
        }
        for (pin, &entry) in state.entries.iter().enumerate() {
            let pick = |bit: u64, set, clear| if entry & bit != 0 { set } else { clear };
            text.push_str(&format!(
                "  pin {pin:<2} 0x{entry:016x} dest={:x} vec={:<3} {} {:<5} {:<6} {:<6} {}\n",
                entry >> 56,
                entry & 0xff,
                pick(1 << 13, "active-lo", "active-hi"),
                pick(LEVEL, "level", "edge"),
                pick(MASKED, "masked", ""),
                ["fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT"][(entry >> 8 & 7) as usize],
                pick(1 << 11, "logical", "physical"),
            ));
        }
        let remote = (0..32).zip(&state.entries).filter(|(_, entry)| *entry & REMOTE_IRR != 0);
        let remote = remote.fold(0, |set, (pin, _)| set | 1 << pin);
        for (name, set) in [("IRR", state.irr), ("Remote IRR", remote)] {
            text.push_str(&format!("  {name:<8} "));
            for pin in (0..24).filter(|pin| set & 1 << pin != 0) {
                text.push_str(&format!("{pin} "));
            }
            text.push_str(if set == 0 { "(none)\n" } else { "\n" });
        }
        text
    }
}

/// The entry that an index register value means.
fn entry_of(index: u8) -> Option<usize> {
    let entry = usize::from(index.checked_sub(0x10)? >> 1);
    (entry < 24).then_some(entry)
}

impl IrqSink for IoApic {
    fn set_level(&self, line: u32, level: bool) {
        if line >= IOAPIC_PINS {
            return;
        }
        let bit = 1 << line;
        let mut state = self.state.lock();
        let rose = level && state.lines & bit == 0;
        state.lines = if level { state.lines | bit } else { state.lines & !bit };
        let entry = state.entries[line as usize];
        if entry & LEVEL != 0 {
            state.irr = if level { state.irr | bit } else { state.irr & !bit };
        } else if rose && entry & MASKED == 0 {
            state.irr |= bit;
        }
        if level {
            self.service(&mut state, line as usize);
        }
    }

    fn import_level(&self, line: u32, level: bool) {
        if line < IOAPIC_PINS {
            let mut state = self.state.lock();
            let bit = 1 << line;
            state.lines = if level { state.lines | bit } else { state.lines & !bit };
        }
    }
}

impl EoiListener for IoApic {
    fn eoi(&self, vector: u8) {
        let mut state = self.state.lock();
        for pin in 0..24 {
            let entry = state.entries[pin];
            if byte(entry) == vector && entry & (LEVEL | REMOTE_IRR) == LEVEL | REMOTE_IRR {
                state.entries[pin] &= !REMOTE_IRR;
                self.service(&mut state, pin);
            }
        }
    }
}

/// The wires of a PC board: each ISA or PCI interrupt reaches the PIC and the I/O APIC.
///
/// As an [`IrqSink`], lines 0 to 23 are GSIs: 0 to 15 reach both, GSI 0 (the timer) enters the I/O APIC at pin 2.
pub struct GsiRouter {
    pic: Arc<crate::pic::Pic>,
    ioapic: Arc<IoApic>,
    levels: AtomicU32,
    rises: [AtomicU64; GSIS],
}

/// Wires of the router.
const GSIS: usize = 24;

impl GsiRouter {
    /// Wires to `pic` and `ioapic`.
    pub fn new(pic: Arc<crate::pic::Pic>, ioapic: Arc<IoApic>) -> Arc<Self> {
        Arc::new(Self { pic, ioapic, levels: AtomicU32::new(0), rises: Default::default() })
    }

    /// `info irq`: how often each wire has risen, as its controllers saw it.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (name, wires) in [("ioapic", GSIS), ("isa-i8259", 16)] {
            text.push_str(&format!("IRQ statistics for {name}:\n"));
            for (gsi, rises) in self.rises.iter().enumerate().take(wires) {
                let rises = rises.load(Ordering::Relaxed);
                if rises > 0 {
                    text.push_str(&format!("{gsi:2}: {rises}\n"));
                }
            }
        }
        text
    }

    /// Keeps a wire's level, and counts its rises.
    fn count(&self, gsi: u32, level: bool) {
        let Some(rises) = self.rises.get(gsi as usize) else { return };
        let bit = 1 << gsi;
        if !level {
            self.levels.fetch_and(!bit, Ordering::Relaxed);
        } else if self.levels.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            rises.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The wire of one GSI (0 to 23), for one source.
    pub fn line(self: &Arc<Self>, gsi: u32) -> irq::IrqLine {
        irq::IrqLine::new(self.clone(), gsi)
    }

    fn pin(gsi: u32) -> u32 {
        if gsi == 0 { 2 } else { gsi }
    }
}

impl IrqSink for GsiRouter {
    fn set_level(&self, line: u32, level: bool) {
        self.count(line, level);
        if line < 16 {
            self.pic.set_level(line, level);
        }
        self.ioapic.set_level(Self::pin(line), level);
    }

    fn import_level(&self, line: u32, level: bool) {
        if line < 16 {
            self.pic.import_level(line, level);
        }
        self.ioapic.import_level(Self::pin(line), level);
    }
}
