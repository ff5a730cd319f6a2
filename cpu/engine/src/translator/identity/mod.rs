//! Lane B: hot user code runs in a helper process whose page tables mirror the guest's.
//!
//! In such a process a guest linear address is a host address, and memory operands need no check: the host's page
//! tables make it. All sixteen registers and the flags are the guest's. Whatever is not plain user code comes back as
//! a signal: the process reports and waits, and its vCPU's thread looks at the registers in the signal frame. A
//! process is part of one vCPU, as its TLB is: what the TLB drops, the process unmaps before it goes on.

mod code;
mod encode;
mod filter;
mod frame;
mod image;
mod map;
mod policy;
mod process;
#[cfg(test)]
mod tests;

use crate::cpu::Cpu;
use code::{Page, Translated};
use encode::{Flavour, Input, Piece, Spilled, State};
use frame::Frame;
use irq::CpuSignals;
use map::{Mapped, PAGE_FAULT};
use parking_lot::Mutex;
use policy::{Policy, Stays};
use process::{Caller, Process};
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use x86::reg::{cr0, cr4, flags, seg, xcr0};

/// Where user space ends.
const TOP: u64 = 0x7fff_ffff_f000;
/// Bytes of an entry of the top-level page table.
const SLOT: u64 = 1 << 39;
/// Processes of one vCPU.
const MOST_HELPERS: usize = 4;
/// Pieces translated at once.
const AHEAD: usize = 24;

/// Starts and processes that may fail before no more are tried.
const MOST_FAILURES: u32 = 3;

/// Most bytes in a piece.
const MOST_BYTES: usize = 512;

/// When user code runs in helper processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneB {
    /// Never.
    #[default]
    Off,
    /// When a program computes for long between its system calls.
    On,
    /// Always, for tests.
    Always,
}

/// A process and what it mirrors.
struct Helper {
    process: Process,
    /// The page tables.
    cr3: u64,
    pcid: u16,
    mapped: BTreeMap<u64, Mapped>,
    code: Translated,
    /// Some code page may have changed, or lie elsewhere.
    suspect: bool,
    /// [`guestmem::RamBlock::code_writes`] of all RAM when the code was last known to be good.
    writes: u32,
    /// What is mapped is to be compared with the page tables.
    stale: bool,
    /// Some mapped page is part of a larger one.
    large: bool,
    /// When it was entered last.
    used: u64,
    /// The guest's handler was called for a fault there.
    fault: u64,
    /// How long it runs between its returns.
    stays: Stays,
}

/// Lane B of one vCPU.
#[derive(Default)]
pub(crate) struct Identity {
    mode: LaneB,
    helpers: Vec<Helper>,
    caller: Arc<Mutex<Option<Arc<Caller>>>>,
    clock: u64,
    /// Starts that failed.
    failures: u32,
    /// Bytes of code in each process, at most.
    room: u64,
    /// The guest's registers are in a process.
    away: bool,
    policy: Policy,
    /// Entries into the kernel from user code outside of processes.
    pub(super) kernel_entries: u64,
    pub(crate) statistics: Statistics,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) entries: u64,
    pub(crate) reports: u64,
    pub(crate) fills: u64,
    pub(crate) pieces: u64,
    pub(crate) starts: u64,
    pub(crate) promoted: u64,
    pub(crate) demoted: u64,
    /// Pages that were compared with the page tables.
    pub(crate) compared: u64,
    /// Reports by reason.
    pub(crate) reasons: [u64; REASONS],
    /// Time in processes, with the way there and back, and time for translating, in nanoseconds.
    pub(crate) inside: u64,
    pub(crate) translating: u64,
}

/// Why processes report; the numbers of [`Statistics::reasons`].
#[derive(Clone, Copy)]
enum Reason {
    SystemCall,
    Instruction,
    Jump,
    Lookup,
    Fault,
    Called,
}
const REASONS: usize = 6;

impl Identity {
    /// Lets user code run in processes, whose code together takes not more than `size` bytes.
    pub(super) fn enable(&mut self, mode: LaneB, size: usize, signals: &CpuSignals) {
        self.mode = mode;
        self.room = (size / MOST_HELPERS) as u64;
        if mode != LaneB::Off {
            let caller = self.caller.clone();
            signals.set_kick(Box::new(move || {
                if let Some(caller) = &*caller.lock() {
                    caller.call();
                }
            }));
        }
    }

    fn count(&mut self, reason: Reason) {
        self.statistics.reasons[reason as usize] += 1;
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.mode != LaneB::Off
    }

    pub(crate) fn describe(&self, status: &mut accel::JitStatus) {
        let s = &self.statistics;
        status.refused = u64::from(self.failures > MOST_FAILURES);
        status.processes = (s.starts, self.helpers.len() as u64);
        status.promoted = (s.promoted, s.demoted);
        status.stays = (s.entries, s.reports);
        (status.pieces, status.pages) = (s.pieces, s.fills);
        status.reasons = s.reasons;
        status.compared = s.compared;
        status.lane_times = (s.inside, s.translating);
    }

    /// Ends every process.
    pub(crate) fn clear(&mut self) {
        *self.caller.lock() = None;
        self.helpers.clear();
    }
}

/// How a stay in a process ended.
enum Outcome {
    /// The guest's state is taken back; go on from it.
    Left,
    /// The same, and the instruction there is the interpreter's.
    Interpret,
}

impl Cpu {
    /// Whether user code of the present address space belongs into a process.
    #[inline]
    pub(super) fn wants_process(&self) -> bool {
        match self.jit.identity.mode {
            LaneB::Off => false,
            LaneB::On => self.jit.identity.policy.is_promoted(self.space()),
            LaneB::Always => true,
        }
    }

    /// The top-level page table, which stands for the address space.
    fn space(&self) -> u64 {
        self.state.cr3 & self.phys_mask & !0xfff
    }

    /// Whether the processor's state is one that a process can have.
    fn fits_process(&self) -> bool {
        let s = &self.state;
        use report::log::{Item, enabled};
        self.long
            && s.cpl == 3
            // What the log is to show happens here.
            && ![Item::InAsm, Item::OutAsm, Item::Exec, Item::Cpu, Item::NoChain].into_iter().any(enabled)
            && s.cr0 & cr0::PG != 0
            && s.rflags & (flags::AC | flags::TF | flags::NT) == 0
            && s.rip < TOP
            && s.seg[seg::FS].base < TOP
    }

    fn flavour(&self) -> Flavour {
        use iced_x86::Code;
        let s = &self.state;
        let sse = s.cr0 & (cr0::EM | cr0::TS) == 0 && s.cr4 & cr4::OSFXSR != 0;
        let both = xcr0::SSE | xcr0::AVX;
        let avx = sse
            && s.cr4 & cr4::OSXSAVE != 0
            && s.xcr0 & both == both
            && super::stubs::has_avx(&self.jit.without);
        let zero_counts = [Code::Tzcnt_r32_rm32, Code::Lzcnt_r32_rm32]
            .iter()
            .all(|c| crate::features::offered(&self.model, *c));
        let avx512 = avx
            && s.xcr0 & xcr0::AVX512 == xcr0::AVX512
            && super::stubs::has_avx512(&self.jit.without)
            && frame::wide_offsets().is_some();
        let time = s.cr4 & cr4::TSD == 0 && super::asm::has_bmi2(&self.jit.without);
        let x87 = s.cr0 & (cr0::EM | cr0::TS | cr0::NE) == cr0::NE && !self.jit.without.xsave;
        Flavour { sse, avx, avx512, zero_counts, time, x87 }
    }

    /// Runs user code in a process; false when that is not possible now.
    pub(super) fn run_in_process(&mut self) -> bool {
        if !self.wants_process() || !self.fits_process() {
            return false;
        }
        let Some(mut helper) = self.take_helper() else { return false };
        let mut inside = Duration::ZERO;
        let outcome = self.stay(&mut helper, &mut inside);
        helper.process.caller.set_inside(false);
        match outcome {
            Ok(outcome) => {
                let space = self.space();
                let identity = &mut self.jit.identity;
                if identity.policy.left(&mut helper.stays, space, inside, Instant::now()) {
                    identity.statistics.demoted += 1;
                    self.jit.closed_for = u64::MAX;
                }
                self.jit.identity.helpers.push(helper);
                if let Some(Outcome::Interpret) = outcome {
                    self.step_block();
                }
                outcome.is_some()
            }
            Err(error) => {
                self.jit.identity.failures += 1;
                self.failed = std::mem::take(&mut self.jit.identity.away);
                if self.failed {
                    report::error_report!("a helper process ended with the guest's registers: {error}");
                }
                self.failed
            }
        }
    }

    /// The process for the present address space, brought up to date.
    fn take_helper(&mut self) -> Option<Helper> {
        let cr3 = self.space();
        let pcid = self.tlb.pcid();
        if self.jit.identity.failures > MOST_FAILURES {
            return None;
        }
        if self.apply_dropped(None).is_err() {
            // None holds anything that is not in guest memory.
            self.jit.identity.clear();
        }
        let helpers = &mut self.jit.identity.helpers;
        let found = helpers.iter().position(|h| h.cr3 == cr3);
        let mut helper = match found {
            Some(n) => helpers.swap_remove(n),
            None if helpers.len() < MOST_HELPERS => self.start_helper(cr3)?,
            None => {
                let n = (0..helpers.len()).min_by_key(|&n| helpers[n].used)?;
                let mut helper = helpers.swap_remove(n);
                helper.forget(self.flavour()).ok()?;
                helper
            }
        };
        let slot = helper.process.base / SLOT;
        if self.is_slot_used(cr3, slot) {
            return None;
        }
        self.jit.identity.clock += 1;
        if helper.pcid != pcid {
            // Nothing is known of what was dropped meanwhile.
            helper.drop_all();
        }
        (helper.cr3, helper.pcid, helper.used) = (cr3, pcid, self.jit.identity.clock);
        let caller = &self.jit.identity.caller;
        if caller.lock().as_ref().is_none_or(|c| !Arc::ptr_eq(c, &helper.process.caller)) {
            *caller.lock() = Some(helper.process.caller.clone());
        }
        Some(helper)
    }

    /// Whether the guest's page tables have anything in the 512 GiB of `slot`.
    fn is_slot_used(&self, cr3: u64, slot: u64) -> bool {
        let mut table = cr3;
        if self.state.cr4 & cr4::LA57 != 0 {
            let entry = self.physical_read(cr3, 8);
            if entry & 1 == 0 {
                return false;
            }
            table = entry & self.phys_mask & !0xfff;
        }
        self.physical_read(table + slot * 8, 8) & 1 != 0
    }

    fn start_helper(&mut self, cr3: u64) -> Option<Helper> {
        if self.tlb.dropped.is_none() {
            self.tlb.dropped = Some(Vec::new());
        }
        // Keyed at random, so that a guest does not know it beforehand.
        let first = std::hash::RandomState::new().hash_one(0) % 64;
        let slot = (0..64).map(|n| 16 + (first + n) % 64).find(|slot| !self.is_slot_used(cr3, *slot))?;
        let file = self.ram.ranges.iter().find_map(|r| r.block.file());
        // Where that cannot be, all is executed here: nobody needs to know, and `info jit` tells.
        let Some(process) = file.and_then(|file| Process::spawn(slot * SLOT, file).ok()) else {
            self.jit.identity.failures = u32::MAX;
            return None;
        };
        self.jit.identity.statistics.starts += 1;
        self.peers.note_processes();
        let flavour = self.flavour();
        Some(Helper {
            code: Translated::new(process.parts.end, self.jit.identity.room, flavour),
            process,
            cr3,
            pcid: 0,
            mapped: BTreeMap::new(),
            suspect: false,
            stale: false,
            writes: self.code_writes(),
            large: false,
            used: 0,
            fault: 0,
            stays: Stays::default(),
        })
    }

    fn code_writes(&self) -> u32 {
        self.ram.ranges.iter().fold(0, |sum, r| sum.wrapping_add(r.block.code_writes()))
    }

    /// Has the processes, and the one that is not among them now, drop what the TLB has dropped.
    fn apply_dropped(&mut self, one: Option<&mut Helper>) -> io::Result<()> {
        let Some(list) = self.tlb.dropped.as_mut().filter(|l| !l.is_empty()) else { return Ok(()) };
        let list = std::mem::take(list);
        let others = self.jit.identity.helpers.iter_mut();
        one.into_iter().chain(others).try_for_each(|helper| helper.apply(&list))
    }

    /// Has the process drop what the TLB has dropped.
    fn update(&mut self, helper: &mut Helper) -> io::Result<()> {
        self.apply_dropped(Some(helper))?;
        self.compare_mapped(helper)
    }

    /// Makes sure that the code is what it was translated from.
    fn check_code(&mut self, helper: &mut Helper) {
        let writes = self.code_writes();
        let flavour = self.flavour();
        if !helper.suspect && writes == helper.writes && flavour == helper.code.flavour {
            return;
        }
        helper.suspect = false;
        helper.writes = writes;
        let cr2 = self.state.cr2;
        let same =
            helper.code.pages.iter().all(|(linear, page)| self.exec_host(*linear, 0) == Ok(Ok(page.host)));
        let unchanged = helper.code.pages.values().all(|page| page.watched.is_unchanged());
        self.state.cr2 = cr2;
        if !same {
            // Another program, perhaps.
            let space = self.space();
            self.jit.identity.policy.forget(space);
            self.jit.closed_for = u64::MAX;
        }
        if !same || !unchanged || flavour != helper.code.flavour {
            helper.code.clear(&mut helper.process, flavour);
        }
    }

    /// The host code for `rip`, translated now when it is not there; `None` when that is not possible.
    fn head(&mut self, helper: &mut Helper, rip: u64) -> Option<u64> {
        if let Some(head) = helper.code.heads.get(&rip) {
            return Some(*head);
        }
        let start = Instant::now();
        let head = self.translate_from(helper, rip);
        self.jit.identity.statistics.translating += start.elapsed().as_nanos() as u64;
        head
    }

    fn translate_from(&mut self, helper: &mut Helper, rip: u64) -> Option<u64> {
        if helper.code.is_full() {
            if self.jit.identity.away {
                // Nobody knows afterwards which instruction was there.
                let pointer = Frame::of(&mut helper.process).map(|frame| frame.unit_pointers().0);
                if let Some(at) = pointer.ok().and_then(|at| helper.guest_instruction(at)) {
                    Frame::of(&mut helper.process).ok()?.set_unit_pointer(at);
                }
            }
            let flavour = helper.code.flavour;
            helper.code.clear(&mut helper.process, flavour);
        }
        let mut queue = VecDeque::from([rip]);
        // Where indirect jumps are likely to lead.
        let mut likely = Vec::new();
        for _ in 0..AHEAD {
            let Some(at) = queue.pop_front() else { break };
            if helper.code.is_full() {
                break;
            }
            if helper.code.heads.contains_key(&at) {
                continue;
            }
            let cr2 = self.state.cr2;
            let piece = self.translate_identity(helper, at);
            if at != rip {
                self.state.cr2 = cr2;
            }
            match piece {
                Some(piece) => {
                    queue.extend(helper.code.missing(&piece));
                    let targets = piece.pointers.iter().filter_map(|at| self.glance(*at));
                    let from = likely.len();
                    likely.extend(piece.returns.iter().copied().chain(targets));
                    queue.extend(likely[from..].iter().filter(|t| !helper.code.heads.contains_key(t)));
                }
                None if at == rip => return None,
                None => {}
            }
        }
        for target in likely {
            helper.code.enter(&mut helper.process, target);
        }
        helper.code.heads.get(&rip).copied()
    }

    /// Whether SYSCALL is next.
    fn is_system_call(&self, helper: &Helper) -> bool {
        let rip = self.state.rip;
        let page = helper.code.pages.get(&(rip & !0xfff)).filter(|_| rip & 0xfff <= 0xffe);
        page.is_some_and(|page| {
            let mut bytes = [0; 2];
            crate::block::copy_code(page.host | rip & 0xfff, &mut bytes);
            bytes == [0x0f, 0x05]
        })
    }

    /// What user memory holds at `linear` now, as far as that is known without side effects.
    fn glance(&mut self, linear: u64) -> Option<u64> {
        let near = linear & 0xfff <= 0xff8 && linear < TOP;
        let seen = near.then(|| self.look(linear)).flatten()?;
        Some(crate::mmu::get::<u64>((seen.host | linear & 0xfff) as *mut u8))
            .filter(|to| (1..TOP).contains(to))
    }

    /// Notes a page to be translated from; its host address.
    fn code_page(&mut self, helper: &mut Helper, linear: u64) -> Option<u64> {
        let page = linear & !0xfff;
        if let Some(known) = helper.code.pages.get(&page) {
            return Some(known.host);
        }
        let host = self.exec_host(page, 0).ok()?.ok()?;
        let watched = self.watch(host)?;
        let ticket = watched.ticket;
        if ticket != 0 && !self.peers.settled(self.index, host & !0xfff, ticket) {
            return None;
        }
        helper.code.pages.insert(page, Page { host, watched });
        Some(host)
    }

    /// Translates one piece.
    fn translate_identity(&mut self, helper: &mut Helper, rip: u64) -> Option<Piece> {
        let host = self.code_page(helper, rip)?;
        let mut bytes = [0; MOST_BYTES + 15];
        let there = 4096 - (rip & 0xfff) as usize;
        let (limit, there) = (there.min(MOST_BYTES), there.min(bytes.len()));
        if self.debugger.may_break(rip) {
            return None;
        }
        let limit = self.debugger.clear_bytes(rip, limit);
        crate::block::copy_code(host | rip & 0xfff, &mut bytes[..there]);
        let mut piece = self.piece(helper, rip, &bytes[..there], limit);
        if piece.len == 0 {
            // The first instruction ends in the next page.
            let next = self.code_page(helper, (rip | 0xfff) + 1)?;
            crate::block::copy_code(next, &mut bytes[there..there + 15]);
            piece = self.piece(helper, rip, &bytes[..there + 15], limit);
            if piece.len == 0 {
                return None;
            }
        }
        self.jit.identity.statistics.pieces += 1;
        helper.code.add(&mut helper.process, rip, &piece);
        Some(piece)
    }

    fn piece(&mut self, helper: &Helper, rip: u64, bytes: &[u8], limit: usize) -> Piece {
        let heads = &helper.code.heads;
        encode::piece(Input {
            bytes,
            limit,
            rip,
            flavour: helper.code.flavour,
            origin: helper.code.next(&helper.process),
            leave: helper.process.base + helper.process.parts.leave,
            offered: &mut |i| {
                let undefined = crate::decode::undefined as crate::insn::Exec;
                !std::ptr::fn_addr_eq(self.executor(i), undefined)
            },
            known: &|rip| heads.get(&rip).copied(),
        })
    }

    /// Goes into the process, and comes back when something needs the engine. `None`: it could not be entered.
    fn stay(&mut self, helper: &mut Helper, inside: &mut Duration) -> io::Result<Option<Outcome>> {
        self.check_code(helper);
        let rip = self.state.rip;
        let Some(head) = self.head(helper, rip) else { return Ok(None) };
        let fault = std::mem::take(&mut helper.fault);
        if fault != 0
            && let Some(seen) = self.look(fault)
        {
            self.map_around(helper, fault, seen)?;
        }
        let arith = self.arith_flags();
        let mut frame = Frame::of(&mut helper.process)?;
        frame.load(&self.state, arith);
        frame.set_at(head);
        self.jit.identity.away = true;
        self.jit.identity.statistics.entries += 1;
        let (mut first, mut last) = (true, (0, 0, 0));
        loop {
            self.update(helper)?;
            helper.process.caller.set_inside(true);
            // Whoever posts an event from here on calls the process.
            let stopping = self.signals.pending() & self.jit.mask != 0;
            let frame = Frame::of(&mut helper.process)?;
            let (at, planned) = (frame.report().at, frame.is_planned());
            if stopping
                && (!std::mem::take(&mut first) || planned)
                && let Some(rip) = helper.code.boundary(at)
            {
                self.take_back(helper, rip)?;
                return Ok(Some(Outcome::Left));
            }
            first = false;
            Frame::of(&mut helper.process)?.set_stepping(stopping);
            let start = Instant::now();
            helper.process.run()?;
            let time = start.elapsed();
            *inside += time;
            self.jit.identity.statistics.inside += time.as_nanos() as u64;
            helper.process.caller.set_inside(false);
            self.jit.identity.statistics.reports += 1;
            let report = Frame::of(&mut helper.process)?.report();
            if helper.process.failed() {
                helper.forget_pages()?;
            }
            if helper.process.base + helper.process.parts.miss == report.at {
                self.jit.identity.count(Reason::Lookup);
                let target = helper.undo_lookup()?;
                if !self.canonical(target) {
                    // The branch itself faults.
                    let rip = self.undo_branch(helper)?;
                    self.take_back(helper, rip)?;
                    return Ok(Some(Outcome::Interpret));
                }
                let Some(head) = self.head(helper, target) else {
                    self.take_back(helper, target)?;
                    return Ok(Some(Outcome::Interpret));
                };
                helper.code.enter(&mut helper.process, target);
                Frame::of(&mut helper.process)?.set_at(head);
                continue;
            }
            let Some(point) = helper.code.point(report.at) else {
                return Err(io::Error::other("it stands where no code is"));
            };
            match (report.signal, point.state) {
                (0, State::Link) => {
                    self.jit.identity.count(Reason::Jump);
                    let Some(head) = self.head(helper, point.rip) else {
                        self.take_back(helper, point.rip)?;
                        return Ok(Some(Outcome::Interpret));
                    };
                    Frame::of(&mut helper.process)?.set_at(head);
                }
                (0, State::Leave) => {
                    self.take_back(helper, point.rip)?;
                    let call = self.is_system_call(helper);
                    self.jit.identity.count(if call { Reason::SystemCall } else { Reason::Instruction });
                    return Ok(Some(Outcome::Interpret));
                }
                // Called, or one instruction further on the way to where it can stop.
                (libc::SIGUSR1 | libc::SIGTRAP, _) => self.jit.identity.count(Reason::Called),
                (_, state) => {
                    self.jit.identity.count(Reason::Fault);
                    let this = (report.at, report.address, report.error);
                    let again = std::mem::replace(&mut last, this) == this;
                    if !again && self.fill_process(helper, &report)? {
                        self.jit.identity.statistics.fills += 1;
                        continue;
                    }
                    if let State::Within(spilled) = state {
                        helper.undo(spilled)?;
                    }
                    helper.fault = if report.vector == PAGE_FAULT { report.address } else { 0 };
                    self.take_back(helper, point.rip)?;
                    return Ok(Some(Outcome::Interpret));
                }
            }
        }
    }

    /// Undoes an indirect branch but for its registers; its address.
    fn undo_branch(&mut self, helper: &mut Helper) -> io::Result<u64> {
        let at = helper.process.base + u64::from(helper.process.read_u64(image::ORIGIN) as u32);
        let lost = || io::Error::other("it does not tell where it was");
        let rip = helper.code.point(at).ok_or_else(lost)?.rip;
        let mut bytes = [0; 15];
        let first = ((0x1000 - (rip & 0xfff)) as usize).min(15);
        let (this, next) = bytes.split_at_mut(first);
        for (linear, to) in [(rip, this), ((rip | 0xfff) + 1, next)] {
            if !to.is_empty()
                && let Some(page) = helper.code.pages.get(&(linear & !0xfff))
            {
                crate::block::copy_code(page.host | linear & 0xfff, to);
            }
        }
        let mut frame = Frame::of(&mut helper.process)?;
        let rsp = frame.register(4).wrapping_sub(encode::moved_stack(&bytes));
        frame.set_register(4, rsp);
        Ok(rip)
    }

    /// Takes the registers back; the guest is at `rip`.
    fn take_back(&mut self, helper: &mut Helper, rip: u64) -> io::Result<()> {
        let frame = Frame::of(&mut helper.process)?;
        let arith = frame.store(&mut self.state);
        let (instruction, operand) = frame.unit_pointers();
        let s = &mut self.state;
        // Some hosts do not tell, and give zeros.
        if instruction != 0 && instruction != s.x87.fip {
            s.x87.fip = helper.guest_instruction(instruction).unwrap_or(instruction);
            s.x87.fcs = s.seg[seg::CS].selector;
        }
        if operand != 0 && operand != s.x87.fdp {
            (s.x87.fdp, s.x87.fds) = (operand, s.seg[seg::DS].selector);
        }
        self.jit.note_wide();
        self.set_arith_flags(arith);
        self.state.rip = rip;
        self.jit.identity.away = false;
        self.jit.site = 0;
        Ok(())
    }
}

impl Helper {
    /// Makes it one for another address space.
    fn forget(&mut self, flavour: Flavour) -> io::Result<()> {
        self.code.clear(&mut self.process, flavour);
        self.fault = 0;
        self.suspect = false;
        self.forget_pages()
    }

    /// Which guest instruction the x87 unit's pointer is about, when the process has executed it.
    fn guest_instruction(&self, pointer: u64) -> Option<u64> {
        let code = self.process.base + image::CODE;
        let point = (code..code + image::CODE_SIZE).contains(&pointer).then(|| self.code.point(pointer));
        point.flatten().map(|p| p.rip)
    }

    /// Brings spilled registers back.
    fn undo(&mut self, spilled: Spilled) -> io::Result<()> {
        let (register, slot) = match spilled {
            Spilled::None => return Ok(()),
            Spilled::R11 => (11, image::SPILL_R11),
            Spilled::Other(n) => (n, image::SPILL_OTHER),
        };
        let value = self.process.read_u64(slot);
        Frame::of(&mut self.process)?.set_register(register, value);
        Ok(())
    }

    /// Ends an indirect jump; its target.
    fn undo_lookup(&mut self) -> io::Result<u64> {
        let rcx = self.process.read_u64(image::SPILL_RCX);
        let mut frame = Frame::of(&mut self.process)?;
        let target = frame.register(11);
        frame.set_register(1, rcx);
        self.undo(Spilled::R11)?;
        Ok(target)
    }
}

impl Cpu {
    /// An external interrupt is about to be delivered.
    pub(crate) fn sample_lane(&mut self) {
        if self.jit.identity.mode == LaneB::On {
            let space = (self.state.cpl == 3).then_some(self.space());
            let entries = self.jit.identity.kernel_entries;
            if self.jit.identity.policy.sample(space, entries, Instant::now()) {
                self.jit.identity.statistics.promoted += 1;
                self.jit.closed_for = u64::MAX;
            }
        }
    }

    /// A page with code was written to.
    pub(crate) fn code_written(&mut self) {
        self.stop_block();
        if self.peers.have_processes() {
            // Processes of other processors do not see it by themselves.
            self.peers.call_others(self.index);
        }
    }

    /// An exception or interrupt enters a handler.
    pub(crate) fn count_entry(&mut self) {
        self.jit.identity.kernel_entries += u64::from(self.state.cpl == 3);
    }

    /// Finds out again whether user code belongs into a process.
    pub(super) fn refresh_lane(&mut self) {
        let cr3 = self.state.cr3;
        if self.jit.closed_for != cr3 {
            self.jit.closed_for = cr3;
            let closed = self.wants_process();
            if closed != self.jit.is_closed {
                self.jit.is_closed = closed;
                self.jit.choose_table();
            }
        }
    }
}
