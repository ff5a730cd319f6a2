//! Tier 2: hot blocks of 64-bit and flat 32-bit code as host code.
//!
//! The interpreter stays the reference: whatever is rare, privileged or fails a check is executed by it, one
//! instruction at a time, in the middle of a translated block. A translation is valid while its page's stamp is what
//! it was, the linear address leads to the same place, and the processor's mode is the one that it was made for.

mod asm;
mod cache;
mod calls;
mod classify;
mod divide;
mod emit;
mod executions;
mod flow;
mod frame;
mod identity;
mod jumps;
mod legacy32;
mod lockstep;
mod loops;
mod memory;
mod native;
pub(crate) mod profile;
mod recipe;
mod registers;
mod spans;
mod stack;
mod strings;
mod stubs;
mod system;
#[cfg(test)]
mod tests;
mod trace;
mod translate;
mod wide;
mod x87;

use crate::arena::Arena;
use crate::block::{Mix, Watched};
use crate::cpu::Cpu;
use crate::insn::{F_FPU, Insn};
use crate::mmu::{CodePage, PageIds, SECOND_SHIFT, SecondEntry, TlbEntry};
use crate::options::{Options, Without};
use asm::Mem;
pub(crate) use cache::CodeCache;
use executions::Executions;
pub use identity::LaneB;
use irq::{CpuSignals, Event};
use jumps::{Jump, JumpTable};
use profile::Profile;
use report::log::{Item, enabled};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use stubs::Stubs;
use x86::Activity;
use x86::reg::{cr0, cr4, flags, xcr0};

/// Executions by the interpreter before a block is translated.
const THRESHOLD: u8 = 12;
/// Nanoseconds between two flushes below which the threshold grows, and above which it shrinks.
const SHORT_LIFE: u64 = 200_000_000;
const LONG_LIFE: u64 = 4 * SHORT_LIFE;
/// Bytes of code of one vCPU and of its tables, unless told otherwise.
const CODE_SIZE: usize = 128 << 20;
/// Most bytes: jumps reach everywhere.
const MAX_CODE_SIZE: usize = 1 << 30;
/// Fewest bytes.
const MIN_CODE_SIZE: usize = 1 << 20;
/// Most bytes that one block can become.
const MAX_BLOCK: usize = 64 << 10;
/// Most instructions in a block.
const MAX_INSTRUCTIONS: usize = 48;
/// Entries of the jump caches that are taken out one by one when all go; with more the caches go as a whole.
const FEW: usize = 1 << 14;
/// In place of the address of a jump: the block's page has changed.
const STALE: u64 = 1;
/// In place of the address of a jump: what is at RIP has become hot enough for a trace.
const HOT: u64 = 2;
/// Executions of a block's code, in thresholds of the first translation, before a trace is made from there.
const HOT_FACTOR: u32 = 32;
/// Added to the address of a jump that leads to another page.
const ACROSS: u64 = 1 << 63;
/// Added to the address of a jump in the same page that leaves the flags in memory.
const IN_MEMORY: u64 = 1 << 62;
/// Added to the address of a jump to code that checks every access by itself.
const TO_PLAIN: u64 = 1 << 61;
/// What was added.
const SITE_BITS: u64 = ACROSS | IN_MEMORY | TO_PLAIN;
/// Contexts that translations are made for.
const CONTEXTS: usize = 2048;
const WAYS: usize = 1 << 16;
/// In `Jit::ways`: the conditional jump.
const TAKEN: u8 = 1;
/// In `Jit::ways`: on with the next instruction.
const STRAIGHT: u8 = 2;
/// Of the context: 32-bit code.
const CODE_32: u16 = 8;
/// Of the context: where the usable segments of 32-bit code begin.
const SEGMENTS: u16 = 4;
/// Of a place's context: every access is checked by itself.
const PLAIN: u16 = 1 << 15;
/// Of the context: the x87 unit is on and its exceptions are masked. The bit is that of CS, which is never usable.
const X87: u16 = SEGMENTS + 1;
/// Of the context: AVX-512 is on.
const AVX512: u16 = 10;

/// Where generated code finds what it needs.
struct Slots {
    registers: u32,
    vectors: u32,
    masks: u32,
    segments: u32,
    rip: Mem,
    mxcsr: Mem,
    flags: Mem,
    me: Mem,
    tlb: Mem,
    pending: Mem,
    mask: Mem,
    jumps: Mem,
    code: Mem,
    code_page: Mem,
    other_jumps: Mem,
    kernel_entries: Mem,
    context: Mem,
    stack_tag: Mem,
    stack_host: Mem,
    stack_limit: Mem,
    stack_delta: Mem,
    host_rsp: Mem,
    temp: Mem,
    temp2: Mem,
    temp3: Mem,
    /// The first of the places for host addresses of spans.
    spans: u32,
    second: Mem,
    touched: Mem,
    set: Mem,
    set_second: Mem,
    host_mxcsr: Mem,
    fpu_loaded: Mem,
    fpu_area: Mem,
    wide: Mem,
    fip: Mem,
    fcs: Mem,
    fdp: Mem,
    fds: Mem,
}

/// What a translation is made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    /// Host address of the first byte.
    host: u64,
    linear: u64,
    context: u16,
}

impl Place {
    /// Whether its code may be at any linear address: user code of 64 bits.
    fn is_shared(&self) -> bool {
        self.context & (1 | CODE_32) == 1 && is_far(self.linear)
    }

    /// What the translation is found by.
    fn key(self) -> Self {
        Self { linear: home(self.linear, self.is_shared()), ..self }
    }
}

/// Whether code at `linear` may be at other addresses too: neither it nor anything that its operands and direct jumps
/// can be at is so far up or down that the address makes a difference.
fn is_far(linear: u64) -> bool {
    const REACH: u64 = 1 << 32;
    linear.wrapping_sub(REACH) < (1 << 47) - 2 * REACH
}

/// Where code is counted and found: no address when it may be at any.
fn home(linear: u64, is_shared: bool) -> u64 {
    if is_shared { 1 << 62 } else { linear }
}

/// Where a translation can be entered.
#[derive(Clone, Copy)]
struct Entries {
    /// For everybody, with the flags in memory; it checks whether the translation holds.
    entry: u64,
    /// For links in the same page, with the flags in memory.
    head_memory: u64,
    /// The same with the flags in RFLAGS.
    head: u64,
}

struct Translation {
    entries: Entries,
    /// More than a straight run was looked for.
    is_trace: bool,
    page: Page,
    /// The other pages that it was made from.
    others: Box<[Page]>,
}

/// A page that holds code of a translation.
#[derive(Clone, Copy)]
struct Page {
    /// An address in it.
    linear: u64,
    /// Where that is.
    host: u64,
    watched: Watched,
    /// What it is in [`CodePage`].
    ids: PageIds,
}

impl Translation {
    /// The linear address of one of its pages, when its first instruction is at `linear`.
    fn now(&self, page: &Page, linear: u64) -> u64 {
        page.linear.wrapping_sub(self.page.linear).wrapping_add(linear)
    }

    fn is_valid(&self) -> bool {
        self.page.watched.is_unchanged() && self.others.iter().all(|page| page.watched.is_unchanged())
    }
}

/// About the translations that there are.
#[derive(Default)]
struct Sizes {
    /// Bytes of guest code, of all and of the largest.
    guest: u64,
    largest: u64,
    /// Those with an instruction that lies in two pages.
    crossing: u64,
    /// Jumps that lead straight to another.
    links: u64,
}

/// The translator of one vCPU. The first fields are reached by generated code.
#[repr(C)]
pub(crate) struct Jit {
    me: *mut Cpu,
    tlb: *const TlbEntry,
    pending: *const AtomicU32,
    jumps: *const Jump,
    /// The jump cache of the same context but CPL 3, or not CPL 3.
    other_jumps: *const Jump,
    code: *const CodePage,
    /// Linear address of the page of the code that runs, which can be at any.
    code_page: u64,
    /// The page of the stack: linear address, host address, and below which offset 8 bytes fit; 0: not known.
    stack_tag: u64,
    stack_host: u64,
    stack_limit: u64,
    /// `stack_host` minus `stack_tag`.
    stack_delta: u64,
    host_rsp: u64,
    temp: u64,
    temp2: u64,
    temp3: u64,
    /// Host addresses that a translation has checked, while it runs.
    spans: [u64; spans::SPANS],
    /// The TLB's second level.
    second: *const SecondEntry,
    touched: *const u8,
    /// The TLB set of `tlb`.
    set: u64,
    /// The same, shifted as for numbers of entries of the second level.
    set_second: u64,
    host_mxcsr: u32,
    /// Which events can be served now.
    mask: u32,
    /// The x87 unit, or `fpu` while Rust code runs, has the guest's registers, which `X86State` has not.
    fpu_loaded: u32,
    fpu: x87::Area,
    /// The host's registers, while translated code runs, are the guest's beyond YMM0 to YMM15 too: ZMM0 to ZMM31 and the
    /// mask registers. While they are not, the upper halves of ZMM0 to ZMM15 are zeros in both.
    wide: u32,
    context: u16,
    /// Executions by the interpreter before a block is translated.
    pub(crate) threshold: u8,
    /// The threshold follows how long the room for code lasts.
    is_adaptive: bool,
    /// Most instructions in a block.
    most: usize,
    /// Bytes that code and instructions may have.
    size: usize,
    without: Without,
    lazy_flags: bool,
    /// Blocks do not lead straight to others (`-d nochain`).
    alone: bool,
    lockstep: Option<Box<lockstep::Lockstep>>,
    /// How often everything was dropped for want of room, and how many nanoseconds that took at most.
    pub(crate) flushes: u64,
    longest_flush: u64,
    /// Processor time of this thread when it was over.
    last_flush: u64,
    sizes: Sizes,
    invalidated: u64,
    profile: Option<Arc<Profile>>,
    arena: Arena<Insn>,
    /// Kept from one translation to the next.
    tools: Option<Box<emit::Tools>>,
    pages: Vec<trace::Bytes>,
    stubs: Stubs,
    cache: Option<CodeCache>,
    /// Lane B.
    pub(crate) identity: identity::Identity,
    /// A jump cache without entries: user code that belongs elsewhere is not jumped to.
    closed: JumpTable,
    /// The page tables for which `is_closed` was found out.
    closed_for: u64,
    /// User code of the present address space belongs into a process.
    is_closed: bool,
    /// A jump cache for each context; the unused ones are empty.
    tables: Box<[JumpTable]>,
    /// Which entries were made in them since they were empty, when those are fewer than [`FEW`].
    noted: Vec<(u16, u64)>,
    /// [`Tlb::epoch`](crate::mmu::Tlb::epoch) that the page of the stack belongs to.
    epoch: u64,
    map: HashMap<Place, Translation, BuildHasherDefault<Mix>>,
    executions: Executions,
    /// Which way a conditional jump went more often, by [`way_slot`]: 0 where nobody knows, else [`TAKEN`] or
    /// [`STRAIGHT`].
    ways: Box<[u8]>,
    /// Where other pages than the first differed among address spaces: traces stay in that one.
    narrow: HashSet<Place, BuildHasherDefault<Mix>>,
    /// What straight runs count down.
    heat: Arena<u32>,
    /// By linear and host address, what [`CodePage`] calls a page.
    page_ids: HashMap<(u64, u64), u32, BuildHasherDefault<Mix>>,
    /// The last one given out; none is used again.
    last_page_id: u32,
    /// Blocks translated since the start.
    pub(crate) made: u64,
    /// Bytes of guest code in them, and ticks of the host's time-stamp counter that it took.
    made_bytes: u64,
    translating: u64,
    /// Where the code was left by a jump that could be linked.
    site: u64,
    /// RIP at that time.
    left_at: u64,
    /// Where code was entered last: when it is left at once, its place is looked up again.
    last: u64,
}

impl Jit {
    pub(crate) fn new(signals: &CpuSignals) -> Self {
        Self {
            me: std::ptr::null_mut(),
            tlb: std::ptr::null(),
            pending: signals.pending_word(),
            jumps: std::ptr::null(),
            other_jumps: std::ptr::null(),
            code: std::ptr::null(),
            code_page: 0,
            stack_tag: 0,
            stack_host: 0,
            stack_limit: 0,
            stack_delta: 0,
            host_rsp: 0,
            temp: 0,
            temp2: 0,
            temp3: 0,
            spans: [0; spans::SPANS],
            second: std::ptr::null(),
            touched: std::ptr::null(),
            set: 0,
            set_second: 0,
            host_mxcsr: 0,
            mask: 0,
            fpu_loaded: 0,
            fpu: x87::Area::new(),
            wide: 0,
            context: 0,
            threshold: THRESHOLD,
            is_adaptive: false,
            most: MAX_INSTRUCTIONS,
            size: CODE_SIZE,
            without: Without::default(),
            lazy_flags: false,
            alone: false,
            lockstep: None,
            flushes: 0,
            longest_flush: 0,
            last_flush: 0,
            sizes: Sizes::default(),
            invalidated: 0,
            profile: None,
            arena: Arena::default(),
            tools: None,
            pages: Vec::new(),
            stubs: Stubs::default(),
            cache: None,
            identity: identity::Identity::default(),
            closed: JumpTable::default(),
            closed_for: u64::MAX,
            is_closed: false,
            tables: Box::default(),
            noted: Vec::new(),
            epoch: 0,
            map: HashMap::default(),
            executions: Executions::default(),
            ways: Box::default(),
            narrow: HashSet::default(),
            heat: Arena::default(),
            page_ids: HashMap::default(),
            last_page_id: 0,
            made: 0,
            made_bytes: 0,
            translating: 0,
            site: 0,
            left_at: 0,
            last: 0,
        }
    }

    /// Makes room for code; without it everything is left to the interpreter.
    pub(crate) fn enable(&mut self, options: &Options, profile: Option<Arc<Profile>>, signals: &CpuSignals) {
        self.size = options.code_size.unwrap_or(CODE_SIZE).clamp(MIN_CODE_SIZE, MAX_CODE_SIZE);
        self.without = options.without;
        self.lazy_flags = options.lazy_flags;
        self.lockstep = options.lockstep.then(Box::default);
        self.threshold = options.threshold.unwrap_or(THRESHOLD);
        self.is_adaptive = options.threshold.is_none();
        if options.one_instruction {
            self.most = 1;
        }
        let anonymous = profile.as_ref().is_some_and(|profile| profile.needs_anonymous());
        let Some(mut cache) = CodeCache::new(self.size, anonymous) else { return };
        let (code, stubs) = stubs::make(cache.next(), &self.without, run_one);
        if let Some(profile) = &profile {
            profile.show(cache.next(), &code, "stubs");
        }
        self.profile = profile;
        cache.add(&code, &[]);
        cache.keep();
        self.stubs = stubs;
        self.cache = Some(cache);
        self.tables = std::iter::repeat_with(JumpTable::default).take(CONTEXTS).collect();
        self.executions = Executions::new();
        if options.runs_processes() {
            self.identity.enable(options.lane_b, self.size, signals);
            self.closed = JumpTable::make(self.no_jump());
        }
        self.ways = vec![0; WAYS].into();
        self.choose_table();
    }

    /// Drops every translation. Not while one runs.
    pub(crate) fn clear(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.clear();
            if self.noted.len() < FEW {
                let none = self.no_jump();
                for &(context, linear) in &self.noted {
                    if let Some(table) = self.tables.get_mut(usize::from(context))
                        && !table.is_empty()
                    {
                        table.forget_pair(linear, none);
                    }
                }
            } else {
                self.tables.fill_with(JumpTable::default);
            }
            self.noted.clear();
            self.map.clear();
            self.executions.forget_translations();
            self.page_ids.clear();
            self.heat.clear();
            self.narrow.clear();
            self.arena.clear();
            self.sizes = Sizes::default();
            if let Some(lockstep) = &mut self.lockstep {
                lockstep.clear();
            }
            self.site = 0;
            self.choose_table();
        }
    }

    /// Drops every translation for want of room.
    fn flush(&mut self) {
        let start = thread_time();
        self.clear();
        // What is translated next has to be executed often again. Where the room does not last, only more of that pays.
        self.executions.forget();
        let lasted = start.saturating_sub(self.last_flush);
        if self.is_adaptive {
            self.threshold = match () {
                _ if lasted < SHORT_LIFE => self.threshold.saturating_mul(2),
                _ if lasted > LONG_LIFE => (self.threshold / 2).max(THRESHOLD),
                _ => self.threshold,
            };
        }
        self.last_flush = thread_time();
        self.flushes += 1;
        self.longest_flush = self.longest_flush.max(self.last_flush - start);
    }

    /// Notes that a block of `guest` bytes at `linear` became `parts`: code and where it runs, on the straight path and
    /// off it.
    fn note_block(&mut self, linear: u64, guest: u64, crossing: bool, parts: [(u64, &[u8]); 2]) {
        self.made += 1;
        self.made_bytes += guest;
        self.sizes.guest += guest;
        self.sizes.largest = self.sizes.largest.max(guest);
        self.sizes.crossing += u64::from(crossing);
        crate::log::log_translation(linear, parts);
        if let Some(profile) = &self.profile {
            for ((at, code), suffix) in parts.into_iter().zip(["", "-cold"]) {
                profile.show(at, code, &format!("tb-0x{linear:x}{suffix}"));
            }
        }
    }

    /// Completes `status`.
    pub(crate) fn describe(&self, status: &mut accel::JitStatus) {
        let Some(cache) = &self.cache else { return };
        *status = accel::JitStatus {
            tier: 2,
            code: cache.used() as u64,
            room: self.size as u64,
            blocks: self.map.len() as u64,
            guest: self.sizes.guest,
            largest: self.sizes.largest,
            crossing: self.sizes.crossing,
            links: self.sizes.links,
            made: self.made,
            made_bytes: self.made_bytes,
            translating: (u128::from(self.translating) * 1_000_000_000
                / u128::from(crate::system::control::tsc_hz())) as u64,
            invalidated: self.invalidated,
            flushes: self.flushes,
            longest_flush: self.longest_flush,
            ..*status
        };
    }

    /// A page of code with its number.
    fn page(&mut self, linear: u64, host: u64, watched: Watched) -> Page {
        let mut number = |linear: u64| {
            let next = self.last_page_id + 1;
            let id = *self.page_ids.entry((linear, host & !0xfff)).or_insert(next);
            self.last_page_id = self.last_page_id.max(id);
            id
        };
        let ids = PageIds { linear: number(linear & !0xfff), host: number(home(0, true)) };
        Page { linear, host, watched, ids }
    }
}

/// Whether the host has what generated code needs: executable shared memory.
pub(crate) fn host_is_able(without: Without) -> Result<(), &'static str> {
    if without.shm {
        return Err("executable shared memory is not used");
    }
    CodeCache::new(4096, false).map(drop).ok_or("the host does not allow executable shared memory")
}

/// Executes one instruction for generated code: 0 when the next one in the block is to follow.
extern "sysv64" fn run_one(cpu: *mut Cpu, insn: *const Insn) -> u64 {
    // SAFETY: generated code passes the pointer that `enter` gave it, and an instruction of a live translation; no
    // other reference to the processor exists while generated code runs.
    let (cpu, insn) = unsafe { (&mut *cpu, &*insn) };
    let next = cpu.state.rip;
    if let Some(lockstep) = &mut cpu.jit.lockstep {
        // What needs the interpreter is its alone.
        lockstep.stopped = true;
        cpu.state.rip = next.wrapping_sub(insn.len.into());
        return stubs::LEAVE;
    }
    cpu.counts.interpreted += 1;
    cpu.end = insn;
    let fpu = insn.flags & F_FPU != 0 && cpu.jit.unload_fpu(&mut cpu.state.x87);
    match (insn.exec)(cpu, insn) {
        Ok(()) => {}
        Err(fault) => cpu.failed(insn, next.wrapping_sub(insn.next.into()), fault),
    }
    let answer = cpu.instruction_done(next);
    if fpu && answer != stubs::LEAVE {
        cpu.jit.load_fpu(&cpu.state.x87);
    }
    answer
}

impl Cpu {
    /// What translations depend on: CPL 3, which vector instructions run natively, 32-bit code and which segments it
    /// can use.
    #[inline]
    pub(crate) fn context(&self) -> u16 {
        let s = &self.state;
        let sse = s.cr0 & (cr0::EM | cr0::TS) == 0 && s.cr4 & cr4::OSFXSR != 0 && s.mxcsr & 0x1f80 == 0x1f80;
        let x87 = s.cr0 & (cr0::EM | cr0::TS) == 0 && s.x87.fcw & 0x3f == 0x3f;
        let avx =
            sse && s.cr4 & cr4::OSXSAVE != 0 && s.xcr0 & (xcr0::SSE | xcr0::AVX) == xcr0::SSE | xcr0::AVX;
        let wide = avx && s.xcr0 & xcr0::AVX512 == xcr0::AVX512;
        let common = u16::from(s.cpl == 3)
            | u16::from(sse) << 1
            | u16::from(avx) << 2
            | u16::from(x87) << X87
            | u16::from(wide) << AVX512;
        if self.long {
            return common;
        }
        common | CODE_32 | u16::from(legacy32::usable_segments(s).unwrap_or(0)) << SEGMENTS
    }

    /// [`Place::is_shared`] for code at `linear` in the present mode.
    #[inline]
    fn is_shared(&self, linear: u64) -> bool {
        self.long && self.state.cpl == 3 && is_far(linear)
    }

    /// Whether nothing needs an instruction-by-instruction look.
    #[inline]
    fn is_ordinary(&self) -> bool {
        (self.long || self.is_flat_32())
            && !self.state.interrupt_shadow
            && self.state.rflags & (flags::TF | flags::RF) == 0
            && self.debug.exec | self.debug.data | self.debug.ports == 0
            && !(self.debugger.is_active && self.debugger.concerns(self.linear_rip()))
            && !self.aligned
    }

    /// 32-bit protected or compatibility mode with the segments that translated code presupposes.
    fn is_flat_32(&self) -> bool {
        self.bits == 32 && self.protected() && !self.v86() && legacy32::usable_segments(&self.state).is_some()
    }

    /// Events that would be served before the next instruction.
    fn events_in_reach(&self) -> u32 {
        let off = |event: Event, held: bool| if held { event as u32 } else { 0 };
        !(off(Event::Intr, self.state.rflags & flags::IF == 0) | off(Event::Nmi, self.state.nmi_blocked))
    }

    /// What follows an instruction that the interpreter has executed for generated code, which goes on at `next`.
    #[inline]
    fn instruction_done(&mut self, next: u64) -> u64 {
        if self.debug.hit != 0 {
            self.trap(0);
            return stubs::LEAVE;
        }
        if self.attention && !self.calm() {
            return stubs::LEAVE;
        }
        let context = self.jit.context;
        self.refresh();
        if self.signals.pending() & self.jit.mask != 0 || self.shutdown {
            return stubs::LEAVE;
        }
        self.drop_idle_rf();
        if !self.is_ordinary() {
            stubs::LEAVE
        } else if self.end.is_null() || self.state.rip != next || context != self.jit.context {
            stubs::GO
        } else {
            stubs::STAY
        }
    }

    /// Clears RF, which IRET has loaded, ahead of the next instruction, which would clear it: without breakpoints nobody
    /// sees the difference but software interrupts, which push it, and MOV DR, which general detection refuses.
    #[inline]
    fn drop_idle_rf(&mut self) {
        if self.state.rflags & flags::RF != 0
            && self.debug.exec | self.debug.data | self.debug.ports == 0
            && self.state.dr[7] & crate::debug::GD == 0
            && !self.may_be_software_interrupt()
        {
            self.state.rflags &= !flags::RF;
        }
    }

    /// Whether the instruction at RIP may be INT n, INT3, INT1 or INTO.
    fn may_be_software_interrupt(&self) -> bool {
        let rip = self.state.rip;
        if !self.long && self.state.seg[1].base != 0 {
            return true;
        }
        let set = self.code_set();
        let Some(host) = self.tlb.code(set, rip).or_else(|| self.tlb.exec(set, rip)) else { return true };
        for n in 0..(0x1000 - (rip & 0xfff)).min(15) {
            match crate::mmu::get::<u8>((host + n) as *mut u8) {
                0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => {}
                0x40..=0x4f if self.long => {}
                opcode => return matches!(opcode, 0xcc..=0xce | 0xf1),
            }
        }
        true
    }

    /// Whether a look at events, which is due, would find none that can be served now.
    fn calm(&mut self) -> bool {
        let calm = self.signals.pending() & self.events_in_reach() == 0
            && self.state.activity == Activity::Running
            && !self.want_exclusive
            && !self.shutdown;
        if calm {
            self.attention = false;
            self.interest = self.events_in_reach();
        }
        calm
    }

    /// Shows generated code the present state of what is derived.
    #[inline]
    fn refresh(&mut self) {
        let context = self.context();
        if self.jit.identity.is_enabled() {
            self.refresh_lane();
        }
        if context != self.jit.context {
            self.jit.context = context;
            self.jit.choose_table();
        }
        let tlb = self.tlb.entries_of(self.set);
        if tlb != self.jit.tlb || self.jit.epoch != self.tlb.epoch() {
            self.jit.tlb = tlb;
            (self.jit.second, self.jit.touched) = self.tlb.second_of(self.set);
            self.jit.set = self.set.into();
            self.jit.set_second = u64::from(self.set) << SECOND_SHIFT;
            self.jit.epoch = self.tlb.epoch();
            self.jit.stack_limit = 0;
        }
        self.jit.code = self.tlb.code_of(self.code_set());
        self.jit.mask = self.events_in_reach();
    }

    /// The TLB set with which code is fetched.
    #[inline]
    fn code_set(&self) -> u8 {
        u8::from(self.state.cpl != 3)
    }

    /// Lets generated code find this processor. Once on each thread that runs it, before it does.
    pub(crate) fn enter_thread(&mut self) {
        self.jit.me = self;
        if self.jit.cache.is_some() {
            // SAFETY: FSGSBASE was checked; nothing else on this thread relies on the GS base.
            unsafe { set_gs_base(self as *mut Self as u64, self.jit.without.fsgsbase) };
        }
    }

    /// Runs translated code from here on, as far as there is any; false: the interpreter has to go on.
    #[inline]
    pub(crate) fn run_translated(&mut self) -> bool {
        if self.jit.cache.is_none() || !self.is_ordinary() {
            return false;
        }
        if let Some(block) = self.cold_block() {
            self.interpret(block);
            return true;
        }
        self.refresh();
        if self.jit.is_closed && self.run_in_process() {
            return true;
        }
        if self.jit.lockstep.is_some() {
            return self.run_in_lockstep();
        }
        let linear = self.state.rip;
        let alone = enabled(Item::NoChain);
        if alone != self.jit.alone {
            self.jit.alone = alone;
            self.jit.clear();
        }
        if self.jit.left_at != linear {
            // An interrupt came in between.
            self.jit.site = 0;
        }
        let jump = self.jit.places(linear).into_iter().find(|jump| jump.linear == linear).map(|jump| *jump);
        let usable =
            self.jit.site == 0 && self.jit.last != linear && self.tlb.code(self.code_set(), linear).is_some();
        let code = match jump {
            Some(jump) if usable => jump.code,
            _ => match self.find_translation(linear) {
                Some(code) => code,
                None => {
                    self.jit.site = 0;
                    self.jit.forget_jump(linear);
                    return false;
                }
            },
        };
        self.jit.last = linear;
        self.enter_code(code);
        true
    }

    /// The interpreter's block at RIP, when that is known, and too cold to have a translation.
    #[inline]
    fn cold_block(&mut self) -> Option<*const [Insn]> {
        let (block, host, linear) = self.known_block()?;
        if self.jit.identity.is_enabled() {
            self.refresh_lane();
            if self.jit.is_closed && self.state.cpl == 3 {
                return None;
            }
        }
        let is_shared = self.is_shared(linear);
        let jit = &mut self.jit;
        if jit.lockstep.is_some() {
            return None;
        }
        let cold = jit.executions.add_if_cold(host, home(linear, is_shared), jit.threshold);
        cold.then(|| {
            jit.site = 0;
            block
        })
    }

    /// Runs the translation whose entry is `code`, and what it leads to.
    fn enter_code(&mut self, code: u64) {
        self.log_entry(code);
        self.jit.refresh_wide(&self.state);
        self.counts.entered += 1;
        // SAFETY: `enter` is code made for this signature; `code` is the entry of a translation in the cache, made for
        // the present mode, whose instructions, stamps and tables live until `clear`, which is not called from it.
        self.jit.site = unsafe {
            let enter: extern "sysv64" fn(*mut Self, u64) -> u64 =
                std::mem::transmute::<u64, extern "sysv64" fn(*mut Self, u64) -> u64>(self.jit.stubs.enter);
            enter(self, code)
        };
        self.jit.unload_fpu(&mut self.state.x87);
        self.jit.left_at = self.state.rip;
        // Interrupts may have been allowed or held off meanwhile.
        self.interest = self.jit.mask;
    }

    /// The code for RIP, translated now when it is hot.
    #[inline(never)]
    fn find_translation(&mut self, linear: u64) -> Option<u64> {
        self.counts.searched += 1;
        let left = self.jit.cache.as_ref()?.left();
        if left < MAX_BLOCK || self.jit.arena.size() > left {
            self.jit.flush();
        }
        let set = self.code_set();
        let host = self.exec_host(linear, set).ok()?.ok()?;
        let plain = self.jit.site > HOT && self.jit.site & TO_PLAIN != 0;
        // Most of what is looked for here is cold.
        let home = home(linear, self.is_shared(linear));
        if !plain && self.jit.executions.add_if_cold(host, home, self.jit.threshold) {
            return None;
        }
        let context = if plain { self.jit.context | PLAIN } else { self.jit.context };
        let place = Place { host, linear, context };
        let key = place.key();
        let mut replaced = None;
        if let Some(t) = self.jit.map.get(&key).filter(|t| !t.others.is_empty()) {
            let others: Vec<(u64, u64)> =
                t.others.iter().map(|page| (t.now(page, linear), page.host)).collect();
            if others.iter().any(|&(linear, host)| self.exec_host(linear, set) != Ok(Ok(host))) {
                replaced = self.jit.map.remove(&key).map(|t| t.entries);
                self.jit.forget_jump(linear);
                self.jit.narrow.insert(key);
            }
        }
        let found = self.jit.map.get(&key);
        let entries = match found {
            Some(t) if t.is_valid() && (self.jit.site != HOT || t.is_trace) => t.entries,
            Some(t) if t.is_valid() => {
                replaced = Some(t.entries);
                self.translate(place, true)?
            }
            _ => {
                replaced = found.map(|t| t.entries).or(replaced);
                if self.jit.executions.add(host, home) < self.jit.threshold && !plain {
                    return None;
                }
                if replaced.is_some() {
                    self.jit.executions.reset(host, home);
                }
                // Plain code stays in its page, which whoever leads there has checked.
                let at_once = self.jit.threshold == 0 || self.jit.lockstep.is_some();
                self.translate(place, at_once && !plain)?
            }
        };
        // A link in the same page is not checked again: the page must be the one that the jump was made in.
        let same = self.tlb.code(set, linear) == Some(host);
        // That they are there was seen above or by the translation.
        if let Some(t) = self.jit.map.get(&key) {
            for page in std::iter::once(&t.page).chain(&t.others) {
                self.tlb.fill_code(set, t.now(page, linear), page.host, page.ids);
            }
        }
        if let Some(cache) = &mut self.jit.cache {
            if let Some(old) = replaced {
                self.jit.invalidated += u64::from(self.jit.site != HOT);
                cache.patch(old.entry, &jump(old.entry, entries.entry));
                cache.patch(old.head_memory, &jump(old.head_memory, entries.head_memory));
                cache.patch(old.head, &jump(old.head, entries.head));
            }
            if self.jit.site > HOT {
                let (site, across) = (self.jit.site & !SITE_BITS, self.jit.site & ACROSS != 0);
                let in_memory = self.jit.site & IN_MEMORY != 0;
                if (across || same) && !self.jit.alone {
                    self.jit.sizes.links += 1;
                    let to = match () {
                        _ if across => entries.entry,
                        _ if in_memory => entries.head_memory,
                        _ => entries.head,
                    };
                    cache.patch(site, &jump(site, to));
                }
            }
        }
        let entry = entries.entry;
        if !plain && !self.jit.alone {
            self.jit.note_jump(linear, entry);
        }
        Some(entry)
    }
}

/// Processor time that this thread has used, in nanoseconds.
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Where it is noted which way the conditional jump at host address `host` goes.
fn way_slot(host: u64) -> usize {
    (host ^ host >> 16) as usize % WAYS
}

/// `jmp to` for address `at`.
fn jump(at: u64, to: u64) -> [u8; 5] {
    let [a, b, c, d] = (to.wrapping_sub(at + 5) as u32).to_le_bytes();
    [0xe9, a, b, c, d]
}

/// Sets the GS base; by a system call where the host has no FSGSBASE (for user space too), or `slowly` is wanted.
///
/// # Safety
/// Nothing else on this thread may rely on the GS base.
unsafe fn set_gs_base(base: u64, slowly: bool) {
    const HWCAP2_FSGSBASE: usize = 1 << 1;
    const ARCH_SET_GS: libc::c_long = 0x1001;
    if slowly || rustix::param::linux_hwcap().1 & HWCAP2_FSGSBASE == 0 {
        // SAFETY: the caller vouches for the base; the call changes nothing else.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
        return;
    }
    // SAFETY: FSGSBASE was checked; the caller vouches for the rest.
    unsafe { std::arch::asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
}
