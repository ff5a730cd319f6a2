//! Debug registers: breakpoints on code, data and ports (SDM vol. 3, chapter 18).

use crate::cpu::Cpu;
use x86::reg::{cr4, vector};

/// DR6: single step.
pub(crate) const BS: u64 = 1 << 14;
/// DR6: task switch.
pub(crate) const BT: u64 = 1 << 15;
/// DR6: access to a debug register.
pub(crate) const BD: u64 = 1 << 13;
/// DR7: debug registers are guarded.
pub(crate) const GD: u64 = 1 << 13;

/// What the debug registers ask for: a bit for each of DR0 to DR3.
#[derive(Clone, Copy, Default)]
pub(crate) struct Debug {
    pub(crate) exec: u8,
    pub(crate) data: u8,
    pub(crate) ports: u8,
    /// Bits of DR6 that the instruction at hand caused.
    pub(crate) hit: u64,
}

impl Cpu {
    /// Recomputes what is watched; call it after a change of DR0 to DR3, DR7 or CR4.DE.
    pub(crate) fn debug_changed(&mut self) {
        let old = self.debug;
        let mut new = Debug { hit: old.hit, ..Debug::default() };
        let control = self.state.dr[7];
        for n in 0..4 {
            if control >> (2 * n) & 3 == 0 {
                continue;
            }
            match control >> (16 + 4 * n) & 3 {
                0 => new.exec |= 1 << n,
                2 if self.state.cr4 & cr4::DE != 0 => new.ports |= 1 << n,
                2 => {}
                _ => new.data |= 1 << n,
            }
        }
        self.debug = new;
        if (old.data | new.data) != 0 {
            self.tlb.flush_all();
        }
        self.stop_block();
    }

    /// First address and length of what register `n` watches.
    fn watched(&self, n: usize) -> (u64, u64) {
        let length = match self.state.dr[7] >> (18 + 4 * n) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        (self.state.dr[n] & !(length - 1), length)
    }

    /// Whether the page holds a data breakpoint.
    pub(crate) fn is_watched(&self, page: u64) -> bool {
        self.debug.data != 0
            && (0..4).any(|n| self.debug.data >> n & 1 != 0 && self.watched(n).0 & !0xfff == page)
    }

    fn note(&mut self, mask: u8, at: u64, size: u64, kind: impl Fn(u64) -> bool) {
        for n in 0..4 {
            let (first, length) = self.watched(n);
            if mask >> n & 1 != 0
                && kind(self.state.dr[7] >> (16 + 4 * n) & 3)
                && at < first.wrapping_add(length)
                && first < at.wrapping_add(size)
            {
                self.debug.hit |= 1 << n;
            }
        }
    }

    /// A data access that took the slow path.
    pub(crate) fn note_access(&mut self, linear: u64, size: u64, write: bool) {
        self.note(self.debug.data, linear, size, |kind| write || kind == 3);
    }

    /// An access to ports.
    pub(crate) fn note_port(&mut self, port: u16, size: u64) {
        if self.debug.ports != 0 {
            self.note(self.debug.ports, port.into(), size, |_| true);
            self.stop_block();
        }
    }

    /// The instruction breakpoints at linear address `at`.
    pub(crate) fn breakpoints_at(&self, at: u64) -> u64 {
        (0..4).filter(|&n| self.debug.exec >> n & 1 != 0 && self.state.dr[n] == at).map(|n| 1 << n).sum()
    }

    /// Raises #DB for `cause`, bits of DR6.
    pub(crate) fn debug_exception(&mut self, cause: u64) {
        self.state.dr[6] = self.state.dr[6] & !0xf | cause;
        self.state.dr[7] &= !GD;
        self.deliver(vector::DB, crate::exceptions::Source::Exception, None);
    }
}
