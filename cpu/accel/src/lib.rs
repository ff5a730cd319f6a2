//! What runs guest code, seen from the machine: the one trait for every accelerator, and what it needs in return.
#![forbid(unsafe_code)]

use guestmem::AddressSpace;
use irq::CpuSignals;
use std::sync::Arc;
use x86::X86State;

/// The world around one vCPU: ports, registers, its interrupt controller. One object for each vCPU.
///
/// Everything here may be called from the vCPU's thread at any instruction; implementations never block for long.
pub trait CpuIo: Send + Sync {
    /// Reads registers (or RAM) at a physical address. `size` is 1, 2, 4 or 8 bytes; the access may be misaligned.
    fn mmio_read(&self, address: u64, size: u8) -> u64;
    /// Writes registers (or RAM) at a physical address.
    fn mmio_write(&self, address: u64, size: u8, value: u64);
    /// IN. `size` is 1, 2 or 4 bytes.
    fn port_read(&self, port: u16, size: u8) -> u32;
    /// OUT.
    fn port_write(&self, port: u16, size: u8, value: u32);
    /// The interrupt acknowledge cycle: the vector to deliver; `None` when the request went away meanwhile.
    fn acknowledge_interrupt(&self) -> Option<u8>;
    /// IA32_APIC_BASE.
    fn apic_base(&self) -> u64;
    /// Writes IA32_APIC_BASE; false raises #GP.
    fn set_apic_base(&self, value: u64) -> bool;
    /// An x2APIC register or IA32_TSC_DEADLINE; `None` raises #GP.
    fn apic_msr_read(&self, msr: u32) -> Option<u64>;
    /// Writes an x2APIC register; false raises #GP.
    fn apic_msr_write(&self, msr: u32, value: u64) -> bool;
    /// Writes IA32_TSC_DEADLINE while the vCPU's time-stamp counter shows `now` and counts `hz` times in a second; false
    /// raises #GP.
    fn set_tsc_deadline(&self, deadline: u64, now: u64, hz: u64) -> bool;
    /// CR8: bits 7:4 of the task priority.
    fn tpr(&self) -> u8;
    /// Writes CR8.
    fn set_tpr(&self, value: u8);
    /// Called now and then while guest code runs: timers that are due fire here when the thread that keeps them is late.
    fn poll_timers(&self);
    /// The FERR# pin: an unmasked x87 error with CR0.NE = 0 (IRQ 13 on a PC).
    fn fpu_error(&self);
    /// The physical address lines that are let through: all ones, or bit 20 clear while A20 is masked.
    fn a20_mask(&self) -> u64;
}

/// Why [`Vcpu::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// [`irq::Event::Exit`] was posted (it is still posted: the caller takes it).
    Interrupted,
    /// HLT, or waiting for a start-up message: call `run` again once [`Vcpu::wake_mask`] shows an event.
    Halted,
    /// Triple fault; the machine decides (usually a reset).
    Shutdown,
    /// A breakpoint or single step of the debugger.
    Debug,
    /// The accelerator cannot go on; it has said why.
    Failed,
}

/// What the tiers of an accelerator that translates have done for one vCPU, for `info jit`. Counts are since the start,
/// but where they are said to be of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitStatus {
    /// The highest tier that may run: 1 interprets, 2 translates hot code.
    pub tier: u8,
    /// Bytes of code now.
    pub code: u64,
    /// Bytes of code that there is room for.
    pub room: u64,
    /// Translated blocks now.
    pub blocks: u64,
    /// Bytes of guest code in them.
    pub guest: u64,
    /// Bytes of guest code in the largest of them.
    pub largest: u64,
    /// Of them, those with an instruction that lies in two pages.
    pub crossing: u64,
    /// Jumps between them that were linked.
    pub links: u64,
    /// Blocks that were translated.
    pub made: u64,
    /// Bytes of guest code in them.
    pub made_bytes: u64,
    /// Nanoseconds that their translation took.
    pub translating: u64,
    /// Translations replaced because their page had changed.
    pub invalidated: u64,
    /// How often all code was dropped for want of room.
    pub flushes: u64,
    /// Processor time that the longest of these took, in nanoseconds.
    pub longest_flush: u64,
    /// Blocks that tier 1 has decoded, now.
    pub decoded: u64,
    /// Blocks that tier 1 ran.
    pub interpreted_blocks: u64,
    /// Instructions that tier 1 ran one by one, under breakpoints and the like.
    pub careful: u64,
    /// How often tier 2's code was entered from outside.
    pub entered: u64,
    /// Instructions that tier 1 executed for tier 2.
    pub interpreted: u64,
    /// Searches for translations.
    pub searched: u64,
    /// Drops of a whole process context's, or of all translations of addresses.
    pub tlb_flushes: u64,
    /// Drops of one page's.
    pub tlb_pages: u64,
    /// Page-table walks whose result was entered into the TLB.
    pub tlb_fills: u64,
    /// Processes for user code that were started, and that there are.
    pub processes: (u64, u64),
    /// vCPUs for whose user code the host gave no process.
    pub refused: u64,
    /// Address spaces that went to processes, and that came back.
    pub promoted: (u64, u64),
    /// Ways into processes, and reports of theirs.
    pub stays: (u64, u64),
    /// Pieces of code that were translated for processes.
    pub pieces: u64,
    /// Pages that processes asked for.
    pub pages: u64,
    /// Reports of processes by reason: system calls, instructions that are not executed there, jumps and indirect
    /// jumps to code that is not translated, faults, and calls by events.
    pub reasons: [u64; 6],
    /// Pages of processes that were compared with the guest's page tables.
    pub compared: u64,
    /// Nanoseconds in processes, with the way there and back, and for translating.
    pub lane_times: (u64, u64),
}

impl JitStatus {
    /// Adds another vCPU's.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let pair = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
        Self {
            tier: self.tier.max(other.tier),
            code: self.code + other.code,
            room: self.room + other.room,
            blocks: self.blocks + other.blocks,
            guest: self.guest + other.guest,
            largest: self.largest.max(other.largest),
            crossing: self.crossing + other.crossing,
            links: self.links + other.links,
            made: self.made + other.made,
            made_bytes: self.made_bytes + other.made_bytes,
            translating: self.translating + other.translating,
            invalidated: self.invalidated + other.invalidated,
            flushes: self.flushes + other.flushes,
            longest_flush: self.longest_flush.max(other.longest_flush),
            decoded: self.decoded + other.decoded,
            interpreted_blocks: self.interpreted_blocks + other.interpreted_blocks,
            careful: self.careful + other.careful,
            entered: self.entered + other.entered,
            interpreted: self.interpreted + other.interpreted,
            searched: self.searched + other.searched,
            tlb_flushes: self.tlb_flushes + other.tlb_flushes,
            tlb_pages: self.tlb_pages + other.tlb_pages,
            tlb_fills: self.tlb_fills + other.tlb_fills,
            processes: pair(self.processes, other.processes),
            refused: self.refused + other.refused,
            promoted: pair(self.promoted, other.promoted),
            stays: pair(self.stays, other.stays),
            pieces: self.pieces + other.pieces,
            pages: self.pages + other.pages,
            reasons: std::array::from_fn(|n| self.reasons[n] + other.reasons[n]),
            compared: self.compared + other.compared,
            lane_times: pair(self.lane_times, other.lane_times),
        }
    }
}

/// Memory that a debugger watches: linear addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// The first byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Reads are of interest.
    pub reads: bool,
    /// Writes are.
    pub writes: bool,
}

/// What a debugger outside of the guest wants of a vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugRequest {
    /// One instruction is executed, then [`Vcpu::run`] gives [`Exit::Debug`].
    pub step: bool,
    /// No interrupt is delivered while `step` is set.
    pub hold_interrupts: bool,
    /// Linear addresses of instructions that are not to be executed.
    pub breakpoints: Vec<u64>,
    /// Memory, after an access to which the vCPU is to stand.
    pub watchpoints: Vec<Watchpoint>,
}

/// Why a vCPU stands for a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugStop {
    /// An instruction was executed.
    Step,
    /// The next instruction has a breakpoint.
    Breakpoint,
    /// The last instruction accessed this.
    Watchpoint(Watchpoint),
}

/// One virtual processor. Used by one thread at a time.
pub trait Vcpu: Send {
    /// Runs guest code until something needs the caller.
    fn run(&mut self) -> Exit;
    /// Which events of the mailbox end the present halt: a mask of [`irq::Event`]s, for [`CpuSignals::wait`].
    fn wake_mask(&self) -> u32;
    /// The registers. Exact between calls of `run`.
    fn state(&mut self) -> &X86State;
    /// Replaces the registers (reset, debugger, direct kernel boot); drops cached translations.
    fn set_state(&mut self, state: &X86State);
    /// Translates a linear address as a data read by the present CPL's supervisor view would, without side effects
    /// (no accessed bits, no faults): the physical address, or `None` when it is not mapped.
    fn translate(&mut self, linear: u64) -> Option<u64>;
    /// The time-stamp counter as the guest would read it now.
    fn tsc(&mut self) -> u64;
    /// Moves the time-stamp counter by `ticks` (wrapping), without any other effect: the counter stands still while
    /// the machine is paused.
    fn shift_tsc(&mut self, ticks: u64);
    /// What a debugger wants from now on, in place of what it wanted before; false: the accelerator cannot be debugged.
    fn set_debugger(&mut self, _request: &DebugRequest) -> bool {
        false
    }
    /// Why the last [`Exit::Debug`]; told once.
    fn take_debug_stop(&mut self) -> Option<DebugStop> {
        None
    }
    /// What its tiers have done; `None`: the accelerator does not translate.
    fn jit_status(&mut self) -> Option<JitStatus> {
        None
    }
}

/// What an accelerator is given for each vCPU.
pub struct VcpuSetup {
    /// Number of the vCPU, from 0.
    pub index: u32,
    /// Its local APIC ID (CPUID leaves 1 and 0xB, MSRs).
    pub apic_id: u32,
    /// Its mailbox.
    pub signals: Arc<CpuSignals>,
    /// Its surroundings.
    pub io: Arc<dyn CpuIo>,
    /// Guest-physical memory.
    pub memory: AddressSpace,
    /// What CPUID and the feature MSRs say.
    pub model: Arc<x86::cpuid::CpuidTable>,
}

/// An accelerator, ready to make the vCPUs of one machine.
pub trait Accelerator: Send + Sync {
    /// The name on the command line: `tcg`, `kvm`.
    fn name(&self) -> &'static str;
    /// Makes a vCPU in its power-up state (vCPU 0 running, the others waiting for a start-up message).
    ///
    /// # Errors
    /// The host refused; the text says what.
    fn create_vcpu(&self, setup: VcpuSetup) -> Result<Box<dyn Vcpu>, String>;
}
