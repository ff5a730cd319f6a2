//! What firmware does to a bus before an operating system sees it: addresses for BARs, interrupt lines.

use crate::address::Devfn;
use crate::bus::PciBus;
use crate::config::regs;
use crate::function::{BarKind, PciFunction, bar_offset};
use std::ops::Range;
use std::sync::Arc;

/// The addresses that BARs may get.
#[derive(Clone, Debug)]
pub struct Windows {
    /// I/O ports.
    pub io: Range<u64>,
    /// Memory below 4 GiB.
    pub memory: Range<u64>,
}

struct Wish {
    function: Arc<PciFunction>,
    index: u8,
    kind: BarKind,
    size: u64,
}

/// Gives every BAR an address (ports from the bottom of their window, memory at the top of its), lets every function
/// decode them, and tells each its interrupt line: `line(devfn, pin)` with pin 0 for INTA#.
///
/// A BAR that does not fit stays at 0, as firmware leaves it; an operating system may place it elsewhere.
pub fn assign_resources(bus: &PciBus, windows: &Windows, line: impl Fn(Devfn, u8) -> u8) {
    let mut wishes = Vec::new();
    for function in bus.functions() {
        for (index, bar) in function.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            if index != 6 {
                let (kind, size) = (bar.kind, bar.size);
                wishes.push(Wish { function: function.clone(), index: index as u8, kind, size });
            }
        }
    }
    // Largest first, so that nothing is lost to alignment.
    wishes.sort_by_key(|w| std::cmp::Reverse(w.size));
    let mut port = windows.io.start;
    let mut top = windows.memory.end;
    for wish in &wishes {
        let at = if wish.kind == BarKind::Io {
            let at = port.next_multiple_of(wish.size);
            if at + wish.size > windows.io.end {
                continue;
            }
            port = at + wish.size;
            at
        } else {
            // Small BARs take at least a page, so that pages are not shared between devices.
            let size = wish.size.max(0x1000);
            let Some(at) = top.checked_sub(size).map(|at| at & !(size - 1)) else { continue };
            if at < windows.memory.start {
                continue;
            }
            top = at;
            at
        };
        wish.function.config_write(bar_offset(wish.index), 4, at as u32);
        if matches!(wish.kind, BarKind::Memory64 { .. }) {
            wish.function.config_write(bar_offset(wish.index) + 4, 4, (at >> 32) as u32);
        }
    }
    for function in bus.functions() {
        let pin = function.config(regs::INTERRUPT_PIN, 1) as u8;
        if pin != 0 {
            let line = line(function.devfn(), pin - 1);
            function.config_write(regs::INTERRUPT_LINE, 1, line.into());
        }
        let command = function.config(regs::COMMAND, 2) as u16;
        let on = command | regs::COMMAND_IO | regs::COMMAND_MEMORY | regs::COMMAND_SERR;
        function.config_write(regs::COMMAND, 2, on.into());
    }
}
