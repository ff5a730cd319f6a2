//! The loop: events, blocks, traps.

use crate::cpu::Cpu;
use crate::exceptions::Source;
use crate::mmu::Ram;
use accel::Exit;
use irq::Event;
use x86::reg::{cr4, flags, vector};
use x86::{Activity, Segment, X86State};

/// How many blocks run between two looks at the timers: some tens of microseconds' worth.
const BLOCKS_BETWEEN_POLLS: u32 = 2048;

impl Cpu {
    /// Runs until something needs the caller.
    pub(crate) fn run_loop(&mut self) -> Exit {
        self.peers.enter(self.index);
        self.attention = true;
        self.enter_thread();
        self.carry_out_requests();
        let mut blocks = BLOCKS_BETWEEN_POLLS;
        let exit = loop {
            if (self.attention || self.signals.pending() & self.interest != 0)
                && let Some(exit) = self.events()
            {
                break exit;
            }
            if !self.run_translated() {
                self.step_block();
            }
            if self.shutdown {
                self.state.activity = Activity::Shutdown;
                break Exit::Shutdown;
            }
            if self.failed {
                break Exit::Failed;
            }
            if self.debugger.is_active && self.debugger.stop.is_some() {
                break Exit::Debug;
            }
            blocks -= 1;
            if blocks == 0 {
                blocks = BLOCKS_BETWEEN_POLLS;
                self.io.poll_timers();
            }
        };
        self.peers.leave(self.index);
        exit
    }

    /// As [`Cpu::run_loop`], for `blocks` blocks at most.
    pub(crate) fn run_blocks(&mut self, blocks: u32) -> Option<Exit> {
        self.attention = true;
        self.enter_thread();
        for _ in 0..blocks {
            if (self.attention || self.signals.pending() & self.interest != 0)
                && let Some(exit) = self.events()
            {
                return Some(exit);
            }
            if !self.run_translated() {
                self.step_block();
            }
            if self.shutdown {
                self.state.activity = Activity::Shutdown;
                return Some(Exit::Shutdown);
            }
            if self.failed {
                return Some(Exit::Failed);
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

    /// What the other vCPUs asked for.
    pub(crate) fn carry_out_requests(&mut self) {
        let requests = self.peers.take(self.index);
        if requests.all {
            self.tlb.protect_all();
        }
        for &host in &requests.pages {
            self.tlb.protect(host);
        }
        self.peers.carried_out(self.index, &requests);
    }

    /// Runs one block.
    #[inline]
    pub(crate) fn step_block(&mut self) {
        let unusual = self.state.rflags & (flags::TF | flags::RF) != 0
            || self.state.interrupt_shadow
            || self.debug.exec | self.debug.data | self.debug.ports != 0
            || self.debugger.is_active && self.debugger.concerns(self.linear_rip());
        if unusual {
            return if self.debugger.is_active { self.step_for_debugger() } else { self.step_carefully() };
        }
        match self.find_block() {
            Ok(block) => self.interpret(block),
            Err(fault) if fault.is_restart() => {}
            Err(fault) => self.exception(fault),
        }
    }

    /// Interprets `block`, which begins at RIP.
    #[inline]
    pub(crate) fn interpret(&mut self, block: *const [crate::insn::Insn]) {
        self.counts.blocks += 1;
        self.log_entry(block.cast::<crate::insn::Insn>() as u64);
        let start = self.state.rip;
        // SAFETY: blocks live until the cache is cleared, which only happens between blocks.
        let mut cur = block.cast::<crate::insn::Insn>();
        // SAFETY: one past the end of the same slice.
        self.end = unsafe { cur.add(block.len()) };
        while cur < self.end {
            // SAFETY: `cur` is within the block.
            let insn = unsafe { &*cur };
            self.state.rip = start.wrapping_add(insn.next.into());
            if let Err(fault) = (insn.exec)(self, insn) {
                return self.failed(insn, start, fault);
            }
            // SAFETY: as above; at most one past the end.
            cur = unsafe { cur.add(1) };
        }
        if self.bits != 64 {
            self.state.rip &= 0xffff_ffff;
        }
        if self.debug.hit != 0 {
            self.trap(0);
        }
    }

    /// An instruction ended with a fault.
    #[cold]
    pub(crate) fn failed(&mut self, insn: &crate::insn::Insn, start: u64, fault: crate::Fault) {
        if !std::mem::take(&mut self.moved) {
            self.state.rip =
                start.wrapping_add(u64::from(insn.next)).wrapping_sub(insn.len.into()) & self.wrap();
        }
        if fault.is_restart() {
            return;
        }
        self.state.interrupt_shadow = false;
        self.mov_ss = false;
        self.debug.hit = 0;
        self.exception(if insn.is_on_stack() { fault.on_stack() } else { fault });
    }

    /// The linear address of the next instruction.
    #[inline]
    pub(crate) fn linear_rip(&self) -> u64 {
        let rip = self.state.rip;
        if self.long { rip } else { rip.wrapping_add(self.state.seg[1].base) & 0xffff_ffff }
    }

    /// Runs one instruction under a debugger, or stops before it.
    fn step_for_debugger(&mut self) {
        if self.breaks(self.linear_rip()) {
            return;
        }
        let count = self.state.gpr[1];
        self.debugger.anew = false;
        self.step_carefully();
        // An instruction that begins anew has not been executed, but for a round of a string instruction.
        if !self.debugger.anew || self.state.gpr[1] != count && !self.want_exclusive {
            self.tell_debugger();
        }
    }

    /// Runs one instruction under TF, RF, breakpoints or an interrupt shadow.
    fn step_carefully(&mut self) {
        self.counts.careful += 1;
        let hits = self.breakpoints_at(self.linear_rip());
        if hits != 0 && self.state.rflags & flags::RF == 0 && !self.mov_ss {
            self.state.interrupt_shadow = false;
            return self.debug_exception(hits);
        }
        let block = match self.find_block() {
            Ok(block) => block,
            Err(fault) if fault.is_restart() => {
                self.debugger.anew = true;
                return;
            }
            Err(fault) => {
                self.state.interrupt_shadow = false;
                self.mov_ss = false;
                return self.exception(fault);
            }
        };
        self.log_entry(block.cast::<crate::insn::Insn>() as u64);
        let start = self.state.rip;
        let shadow = std::mem::take(&mut self.state.interrupt_shadow);
        let stepping = self.state.rflags & flags::TF != 0;
        (self.mov_ss, self.entered, self.loaded_rf, self.recheck_tf) = (false, false, false, false);
        self.end = std::ptr::null();
        // SAFETY: blocks live until the cache is cleared, which only happens between blocks; none is empty.
        let insn = unsafe { &*block.cast::<crate::insn::Insn>() };
        self.state.rip = start.wrapping_add(insn.next.into());
        if let Err(fault) = (insn.exec)(self, insn) {
            // An iteration of a string instruction may have been made.
            let stepped = fault.is_restart() && stepping && !self.want_exclusive;
            if fault.is_restart() {
                self.debugger.anew = true;
                self.state.interrupt_shadow = shadow;
                if self.debug.exec != 0 || self.debug.hit != 0 {
                    self.state.rflags |= flags::RF;
                }
            }
            self.failed(insn, start, fault);
            if stepped || self.debug.hit != 0 {
                self.trap(if stepped { crate::debug::BS } else { 0 });
            }
            return;
        }
        if self.bits != 64 {
            self.state.rip &= 0xffff_ffff;
        }
        if !self.loaded_rf && !self.entered {
            self.state.rflags &= !flags::RF;
        }
        if shadow {
            // A second shadow does not follow the first at once.
            self.state.interrupt_shadow = false;
            self.mov_ss = false;
        }
        self.attention = true;
        let stepped =
            if self.recheck_tf { self.state.rflags & flags::TF != 0 } else { stepping && !self.entered };
        if (stepped || self.debug.hit != 0) && !self.mov_ss {
            self.trap(if stepped { crate::debug::BS } else { 0 });
        }
    }

    /// A debug trap after an instruction.
    #[cold]
    pub(crate) fn trap(&mut self, cause: u64) {
        if self.state.activity == Activity::Halted {
            self.state.activity = Activity::Running;
        }
        self.state.interrupt_shadow = false;
        let cause = cause | std::mem::take(&mut self.debug.hit);
        self.debug_exception(cause);
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
            self.peers.yield_to_owner(self.index);
            self.carry_out_requests();
        }
        if std::mem::take(&mut self.want_exclusive) {
            self.peers.begin_exclusive(self.index);
            self.carry_out_requests();
            self.exclusive = true;
            self.step_carefully();
            self.exclusive = false;
            if self.debugger.is_active {
                self.tell_debugger();
            }
            self.peers.end_exclusive(self.index);
            return None;
        }
        if has(Event::Init) && self.signals.take(Event::Init) {
            self.init();
        }
        match self.state.activity {
            Activity::WaitForSipi => {
                // One that was not there at the start may have an INIT before it.
                if !has(Event::Sipi) || !self.signals.take(Event::Sipi) {
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
                if has(Event::Sipi) {
                    self.signals.take(Event::Sipi);
                }
            }
        }
        // What cannot be delivered now is looked at again when that changes, which sets `attention`.
        self.interest = u32::MAX;
        if self.state.rflags & flags::IF == 0 {
            self.interest &= !(Event::Intr as u32);
        }
        if self.state.nmi_blocked {
            self.interest &= !(Event::Nmi as u32);
        }
        if self.state.interrupt_shadow {
            return None;
        }
        if self.debugger.holds_interrupts() {
            // What would be delivered ends a halt all the same.
            if self.signals.pending() & self.interest & (Event::Nmi as u32 | Event::Intr as u32) != 0
                && self.state.activity == Activity::Halted
            {
                self.state.activity = Activity::Running;
            }
            return (self.state.activity == Activity::Halted).then_some(Exit::Halted);
        }
        if !self.state.nmi_blocked && self.signals.is_raised(Event::Nmi) && self.signals.take(Event::Nmi) {
            self.state.activity = Activity::Running;
            self.state.nmi_blocked = true;
            self.deliver(vector::NMI, Source::External, None);
            return None;
        }
        if self.state.rflags & flags::IF != 0
            && self.signals.pending() & Event::Intr as u32 != 0
            && let Some(v) = self.io.acknowledge_interrupt()
        {
            self.state.activity = Activity::Running;
            self.sample_lane();
            self.deliver(v, Source::External, None);
            return None;
        }
        (self.state.activity == Activity::Halted).then_some(Exit::Halted)
    }

    pub(crate) fn map_changed(&mut self) {
        self.a20 = self.io.a20_mask();
        let ram = Ram::new(&self.memory.view());
        let keeps_code = ram.has_all_of(&self.ram);
        self.ram = ram;
        self.tlb.flush_all();
        if keeps_code {
            self.jit.identity.clear();
        } else {
            self.drop_code();
        }
    }

    /// Drops all decoded and translated code.
    pub(crate) fn drop_code(&mut self) {
        self.blocks.clear();
        self.jit.identity.clear();
        self.jit.clear();
    }

    /// The INIT signal (SDM vol. 3, table 10-1).
    fn init(&mut self) {
        self.log_reset();
        let old = self.state.clone();
        let mut s = X86State {
            cr0: 0x10 | old.cr0 & 0x6000_0000,
            xcr0: old.xcr0,
            pkru: old.pkru,
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
            opmask: old.opmask,
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
        self.jit.note_wide();
        self.set_rflags(state.rflags);
        self.shutdown = false;
        self.want_exclusive = false;
        self.mov_ss = false;
        self.moved = false;
        self.debug.hit = 0;
        self.tlb.switch(if self.state.cr4 & cr4::PCIDE != 0 { (self.state.cr3 & 0xfff) as u16 } else { 0 });
        self.mode_changed();
        self.debug_changed();
        self.tlb.flush_all();
        self.drop_code();
    }
}
