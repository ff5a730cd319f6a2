//! The loop: events, blocks, traps.

use crate::cpu::Cpu;
use crate::exceptions::Source;
use crate::mmu::Ram;
use accel::Exit;
use irq::Event;
use x86::reg::{flags, vector};
use x86::{Activity, Segment, X86State};

impl Cpu {
    /// Runs until something needs the caller.
    pub(crate) fn run_loop(&mut self) -> Exit {
        self.attention = true;
        loop {
            if (self.attention || self.signals.pending() != 0)
                && let Some(exit) = self.events()
            {
                return exit;
            }
            self.step_block();
            if self.shutdown {
                self.state.activity = Activity::Shutdown;
                return Exit::Shutdown;
            }
        }
    }

    /// As [`Cpu::run_loop`], for `blocks` blocks at most.
    pub(crate) fn run_blocks(&mut self, blocks: u32) -> Option<Exit> {
        self.attention = true;
        for _ in 0..blocks {
            if (self.attention || self.signals.pending() != 0)
                && let Some(exit) = self.events()
            {
                return Some(exit);
            }
            self.step_block();
            if self.shutdown {
                self.state.activity = Activity::Shutdown;
                return Some(Exit::Shutdown);
            }
        }
        (self.state.activity == Activity::Halted).then_some(Exit::Halted)
    }

    /// Executes one instruction; its exception is not delivered.
    pub(crate) fn step_raw(&mut self) -> Result<(), crate::Fault> {
        let block = self.find_block()?;
        let start = self.state.rip;
        // SAFETY: blocks are not empty, and live until the cache is cleared, which only happens between blocks.
        let insn = unsafe { &*block.cast::<crate::insn::Insn>() };
        self.state.rip = start.wrapping_add(insn.next.into());
        let result = (insn.exec)(self, insn);
        let result = result.map_err(|fault| if insn.is_on_stack() { fault.on_stack() } else { fault });
        if result.is_err() {
            self.state.rip = start;
        }
        if self.bits != 64 {
            self.state.rip &= 0xffff_ffff;
        }
        result
    }

    /// Runs one block (one instruction while single-stepping or in an interrupt shadow).
    #[inline]
    pub(crate) fn step_block(&mut self) {
        let block = match self.find_block() {
            Ok(block) => block,
            Err(fault) if fault.is_restart() => return,
            Err(fault) => return self.exception(fault),
        };
        let start = self.state.rip;
        let shadow = self.state.interrupt_shadow;
        let trap = self.state.rflags & flags::TF != 0;
        // SAFETY: blocks live until the cache is cleared, which only happens between blocks.
        let mut cur = block.cast::<crate::insn::Insn>();
        // SAFETY: one past the end of the same slice at most.
        self.end = unsafe { cur.add(if shadow | trap { 1 } else { block.len() }) };
        while cur < self.end {
            // SAFETY: `cur` is within the block.
            let insn = unsafe { &*cur };
            self.state.rip = start.wrapping_add(insn.next.into());
            if let Err(fault) = (insn.exec)(self, insn) {
                self.state.rip = start.wrapping_add(u64::from(insn.next) - u64::from(insn.len)) & self.wrap();
                if fault.is_restart() {
                    break;
                }
                let fault = if insn.is_on_stack() { fault.on_stack() } else { fault };
                if shadow {
                    self.state.interrupt_shadow = false;
                }
                self.exception(fault);
                return;
            }
            // SAFETY: as above; at most one past the end.
            cur = unsafe { cur.add(1) };
        }
        if self.bits != 64 {
            self.state.rip &= 0xffff_ffff;
        }
        if shadow {
            self.state.interrupt_shadow = false;
            self.attention = true;
        }
        if trap && self.state.activity == Activity::Running {
            self.state.dr[6] |= 1 << 14;
            self.exception(crate::Fault::new(vector::DB, 0));
        }
    }

    fn events(&mut self) -> Option<Exit> {
        self.attention = false;
        let pending = self.signals.pending();
        let has = |e: Event| pending & e as u32 != 0;
        if has(Event::Exit) {
            return Some(Exit::Interrupted);
        }
        if has(Event::MapChanged) && self.signals.take(Event::MapChanged) {
            self.map_changed();
        }
        if has(Event::Accel) && self.signals.take(Event::Accel) {
            for host in self.peers.take(self.index) {
                self.tlb.protect(host);
            }
        }
        if has(Event::Init) && self.signals.take(Event::Init) {
            self.init();
        }
        match self.state.activity {
            Activity::WaitForSipi => {
                if !self.signals.take(Event::Sipi) {
                    return Some(Exit::Halted);
                }
                let page = u16::from(self.signals.sipi_vector()) << 8;
                self.state.seg[1] = Segment::real_mode(page, true);
                self.state.rip = 0;
                self.state.activity = Activity::Running;
                self.mode_changed();
            }
            Activity::Shutdown => return Some(Exit::Shutdown),
            _ => {
                self.signals.take(Event::Sipi);
            }
        }
        if self.state.interrupt_shadow {
            return None;
        }
        if !self.state.nmi_blocked && self.signals.take(Event::Nmi) {
            self.state.activity = Activity::Running;
            self.state.nmi_blocked = true;
            self.deliver(vector::NMI, Source::Hardware, None);
            return None;
        }
        if self.state.rflags & flags::IF != 0
            && self.signals.pending() & Event::Intr as u32 != 0
            && let Some(v) = self.io.acknowledge_interrupt()
        {
            self.state.activity = Activity::Running;
            self.deliver(v, Source::Hardware, None);
            return None;
        }
        (self.state.activity == Activity::Halted).then_some(Exit::Halted)
    }

    pub(crate) fn map_changed(&mut self) {
        self.a20 = self.io.a20_mask();
        self.ram = Ram::new(&self.memory.view());
        self.tlb.flush(false);
        self.blocks.clear();
    }

    /// The INIT signal (SDM vol. 3, table 10-1).
    fn init(&mut self) {
        let old = self.state.clone();
        let mut s = X86State {
            cr0: 0x10 | old.cr0 & 0x6000_0000,
            xcr0: old.xcr0,
            star: old.star,
            lstar: old.lstar,
            cstar: old.cstar,
            fmask: old.fmask,
            tsc_offset: old.tsc_offset,
            tsc_adjust: old.tsc_adjust,
            pat: old.pat,
            mtrr_deftype: old.mtrr_deftype,
            mtrr_fixed: old.mtrr_fixed,
            mtrr_var: old.mtrr_var,
            mc_banks: old.mc_banks,
            x87: old.x87,
            zmm: old.zmm,
            mxcsr: old.mxcsr,
            ..X86State::default()
        };
        s.gpr[2] = self.model.read(1, 0).eax.into();
        if self.io.apic_base() & 0x100 == 0 {
            s.activity = Activity::WaitForSipi;
        }
        self.load_state(&s);
    }

    /// Takes `state` over and drops what was derived from the old one.
    pub(crate) fn load_state(&mut self, state: &X86State) {
        self.state = state.clone();
        self.state.zero = 0;
        self.set_rflags(state.rflags);
        self.shutdown = false;
        self.delivering = None;
        self.mode_changed();
        self.tlb.flush(false);
        self.blocks.clear();
    }
}
