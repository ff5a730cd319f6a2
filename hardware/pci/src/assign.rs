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
    /// Memory above 4 GiB, for 64-bit BARs when the others leave no room for them.
    pub high: Range<u64>,
}

/// A BAR that wants an address.
struct Wish {
    function: Arc<PciFunction>,
    index: u8,
    kind: BarKind,
    size: u64,
}

impl Wish {
    fn is_io(&self) -> bool {
        self.kind == BarKind::Io
    }

    fn is_prefetchable(&self) -> bool {
        matches!(
            self.kind,
            BarKind::Memory32 { prefetchable: true } | BarKind::Memory64 { prefetchable: true }
        )
    }

    fn is_64(&self) -> bool {
        matches!(self.kind, BarKind::Memory64 { .. })
    }

    fn grant(&self, at: u64) {
        self.function.config_write(bar_offset(self.index), 4, (at & 0xffff_ffff) as u32);
        if self.is_64() {
            self.function.config_write(bar_offset(self.index) + 4, 4, (at >> 32) as u32);
        }
    }
}

/// Gives addresses from `from` on, largest first, so that nothing is lost to alignment; what would pass `end` gets
/// none.
fn place<'a>(wishes: impl Iterator<Item = &'a Wish>, from: u64, end: u64) {
    let mut next = from;
    for wish in wishes {
        let at = next.next_multiple_of(wish.size);
        if at.checked_add(wish.size).is_some_and(|last| last <= end) {
            wish.grant(at);
            next = at + wish.size;
        }
    }
}

/// Where a block of BARs begins that ends at or below `end`; `None` when there is no room above `start`.
fn bottom(wishes: &[&Wish], start: u64, end: u64) -> Option<u64> {
    let sum = wishes.iter().try_fold(0u64, |sum, wish| sum.checked_add(wish.size))?;
    let align = wishes.first().map_or(1, |wish| wish.size);
    let at = end.checked_sub(sum)? & !(align - 1);
    (at >= start).then_some(at)
}

/// Gives every BAR an address, lets every function decode them, and tells each its interrupt line: `line(devfn, pin)`
/// with pin 0 for INTA#.
///
/// The places are those that SeaBIOS chooses: ports from the bottom of their window; memory at the top of its, in two
/// blocks (prefetchable or not, the one with the larger BARs below), largest first within each. A BAR that does not
/// fit stays at 0; an operating system may place it elsewhere.
pub fn assign_resources(bus: &PciBus, windows: &Windows, line: impl Fn(Devfn, u8) -> u8) {
    let mut wishes = Vec::new();
    for function in bus.functions() {
        for (index, bar) in function.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            // A memory BAR takes at least a page, so that pages are not shared between devices.
            let size = if bar.kind == BarKind::Io { bar.size } else { bar.size.max(0x1000) };
            wishes.push(Wish { function: function.clone(), index: index as u8, kind: bar.kind, size });
        }
    }
    wishes.sort_by_key(|w| std::cmp::Reverse(w.size));
    place(wishes.iter().filter(|w| w.is_io()), windows.io.start, windows.io.end);

    let memory = |wanted: bool, with_64: bool| -> Vec<&Wish> {
        wishes
            .iter()
            .filter(|w| !w.is_io() && w.is_prefetchable() == wanted && (with_64 || !w.is_64()))
            .collect()
    };
    let largest = |block: &[&Wish]| block.first().map_or(0, |w| w.size);
    for with_64 in [true, false] {
        let (mut low, mut top) = (memory(false, with_64), memory(true, with_64));
        if largest(&low) < largest(&top) {
            std::mem::swap(&mut low, &mut top);
        }
        // `low` has the larger alignment now; the block with the smaller is placed first, at the very top.
        let Range { start, end } = windows.memory;
        let above = bottom(&top, start, end);
        let below = above.and_then(|above| bottom(&low, start, above));
        match (below, above) {
            (Some(below), Some(above)) => {
                place(top.into_iter(), above, end);
                place(low.into_iter(), below, above);
            }
            // Too much for the hole below 4 GiB: once more without what can go above.
            _ if with_64 => {
                place(wishes.iter().filter(|w| w.is_64()), windows.high.start, windows.high.end);
                continue;
            }
            _ => place(wishes.iter().filter(|w| !w.is_io() && !w.is_64()), start, end),
        }
        break;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{FunctionBuilder, Ids};
    use guestmem::{AddressSpace, IoHandler, IoRules, Region};
    use irq::{MsiMessage, MsiSink};

    struct Nothing;
    impl MsiSink for Nothing {
        fn send(&self, _message: MsiMessage) {}
    }
    impl IoHandler for Nothing {
        fn read(&self, _offset: u64, _size: u8) -> u64 {
            0
        }
        fn write(&self, _offset: u64, _size: u8, _value: u64) {}
    }

    const IDS: Ids = Ids {
        vendor: 1,
        device: 2,
        revision: 0,
        class: 0xff00,
        interface: 0,
        subsystem_vendor: 0,
        subsystem: 0,
    };
    const PREFETCHABLE: BarKind = BarKind::Memory64 { prefetchable: true };
    const PLAIN: BarKind = BarKind::Memory32 { prefetchable: false };

    /// A bus with these BARs, one function each, and where they end up.
    fn placed(bars: &[(BarKind, u64)]) -> Vec<Option<u64>> {
        let root = Region::whole("system");
        let bus = PciBus::new(
            "pci.0",
            false,
            &Region::whole("pci"),
            &Region::container("io", 0x1_0000),
            &AddressSpace::memory("memory", &root),
            Arc::new(Nothing),
        );
        let functions: Vec<_> = (0u8..)
            .zip(bars)
            .map(|(slot, (kind, size))| {
                let region = Region::io("bar", *size, Arc::new(Nothing), IoRules::ANY);
                let builder = FunctionBuilder::new("f", IDS).pin(1).bar(0, *kind, &region);
                bus.add(Devfn::new(slot, 0), builder).expect("slot")
            })
            .collect();
        let windows =
            Windows { io: 0xc000..0x1_0000, memory: 0x8000_0000..0xfec0_0000, high: 1 << 32..1 << 40 };
        assign_resources(&bus, &windows, |devfn, pin| devfn.device() + pin);
        functions.iter().map(|f| f.bar_address(0)).collect()
    }

    #[test]
    fn places_are_those_of_seabios() {
        // A VGA adapter's frame buffer and registers, a virtio device's two BARs, ports.
        let found = placed(&[
            (BarKind::Memory32 { prefetchable: true }, 16 << 20),
            (PLAIN, 0x1000),
            (PREFETCHABLE, 0x4000),
            (PLAIN, 0x800),
            (BarKind::Io, 32),
            (BarKind::Io, 64),
        ]);
        let expected = [0xfd00_0000, 0xfebf_e000, 0xfe00_0000, 0xfebf_f000, 0xc040, 0xc000];
        assert_eq!(found, expected.map(Some));
    }

    #[test]
    fn large_bars_go_above_4_gib() {
        let found = placed(&[(PREFETCHABLE, 2 << 30), (PLAIN, 0x1000)]);
        assert_eq!(found, [Some(1 << 32), Some(0xfebf_f000)]);
        assert_eq!(placed(&[(PLAIN, 1 << 31)]), [None], "no room anywhere");
    }
}
