//! x87 and MMX instructions on the host's x87 unit.
//!
//! The guest's registers come into the unit when a block first needs them (`load`), and stay there until the code is
//! left or the interpreter executes an instruction of the unit itself; other slow paths put them aside in an XSAVE
//! area and bring them back. Blocks use the unit only while the guest's control word masks every exception, so that
//! none can become the host's; all else is the interpreter's. Instruction and operand pointers are kept in the state
//! block, since the unit's own would tell where generated code lies.

use super::Jit;
use super::asm::*;
use super::classify::Kind;
use super::emit::{ColdPath, Emitter};
use super::stubs::{T0, T1};
use crate::Cpu;
use crate::fpu::{legacy_area, load_legacy_area};
use iced_x86::{Code, CpuidFeature as F, Instruction, OpKind, Register};
use x86::X87;

/// An XSAVE area in the standard format with the x87 component (SDM vol. 1, 13.4).
#[repr(C, align(64))]
pub(super) struct Area {
    bytes: [u8; 576],
}

/// Offset of XSTATE_BV.
const STATE_BV: usize = 512;

impl Area {
    pub(super) fn new() -> Self {
        Self { bytes: [0; 576] }
    }

    fn fill(&mut self, x87: &X87) {
        let mut legacy = [0; 160];
        legacy_area(x87, true, &mut legacy);
        // Opcode and pointers stay in the state block.
        legacy[6..24].fill(0);
        self.bytes[..160].copy_from_slice(&legacy);
        self.bytes[STATE_BV..].fill(0);
        self.bytes[STATE_BV] = 1;
    }

    fn take(&self, x87: &mut X87) {
        let mut legacy = [0; 160];
        legacy.copy_from_slice(&self.bytes[..160]);
        let old = *x87;
        load_legacy_area(x87, true, &legacy);
        (x87.fop, x87.fcs, x87.fds, x87.fip, x87.fdp) = (old.fop, old.fcs, old.fds, old.fip, old.fdp);
    }
}

/// Prepares the area for the unit, which the code then loads.
pub(super) extern "sysv64" fn load(cpu: *mut Cpu) {
    // SAFETY: generated code passes the pointer that `enter` gave it; no other reference to the processor exists then.
    let cpu = unsafe { &mut *cpu };
    cpu.jit.load_fpu(&cpu.state.x87);
}

impl Jit {
    pub(super) fn load_fpu(&mut self, x87: &X87) {
        self.fpu.fill(x87);
        self.fpu_loaded = 1;
    }

    /// Brings the registers back to the state block when they are in the area; says whether they were.
    pub(super) fn unload_fpu(&mut self, x87: &mut X87) -> bool {
        if std::mem::take(&mut self.fpu_loaded) == 0 {
            return false;
        }
        self.fpu.take(x87);
        true
    }
}

/// Whether the host has what this file needs.
pub(super) fn host_is_able() -> bool {
    is_x86_feature_detected!("xsave")
}

/// Whether `i` works on the x87 unit's registers, or may look at them.
pub(super) fn concerns(i: &Instruction) -> bool {
    let unit = i.cpuid_features().iter().any(|f| {
        matches!(
            f,
            F::FPU
                | F::FPU287
                | F::FPU387
                | F::MMX
                | F::FXSR
                | F::XSAVE
                | F::XSAVEOPT
                | F::XSAVEC
                | F::XSAVES
        )
    });
    // It reports what is pending, though it is older than the unit.
    let waits = i.code() == Code::Wait;
    // They touch MMX registers even when their source is in memory.
    let converts = matches!(i.code(), Code::Cvtpi2ps_xmm_mmm64 | Code::Cvtpi2pd_xmm_mmm64);
    unit || waits
        || converts
        || (0..i.op_count()).any(|n| {
            i.op_kind(n) == OpKind::Register && (i.op_register(n).is_mm() || i.op_register(n).is_st())
        })
}

/// How `i`, which [`concerns`] the unit, is translated where the unit can be used.
pub(super) fn kind(i: &Instruction) -> Option<Kind> {
    use Code::*;
    match i.code() {
        Wait => Some(Kind::Nothing),
        Fldcw_m2byte => Some(Kind::LoadControl),
        Fnstcw_m2byte | Fnstsw_m2byte | Fnstsw_AX => None,
        Fninit | Fnclex | Fneni | Fndisi | Fnsetpm | Fnstenv_m14byte | Fnstenv_m28byte | Fldenv_m14byte
        | Fldenv_m28byte | Fnsave_m94byte | Fnsave_m108byte | Frstor_m94byte | Frstor_m108byte | Fstsw_AX => {
            Some(Kind::Interpret)
        }
        // Whether a source in memory makes the registers valid differs among processors.
        Cvtpi2ps_xmm_mmm64 | Cvtpi2pd_xmm_mmm64 if i.op1_kind() == OpKind::Memory => Some(Kind::Interpret),
        _ if i.is_save_restore_instruction() => Some(Kind::Interpret),
        _ => None,
    }
}

/// Whether `i` leaves its address in the instruction pointer.
pub(super) fn is_remembered(i: &Instruction) -> bool {
    let x87 = i.cpuid_features().iter().any(|f| matches!(f, F::FPU | F::FPU287 | F::FPU387))
        || (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_st())
        || i.mnemonic() == iced_x86::Mnemonic::Fisttp;
    x87 && !matches!(
        i.code(),
        Code::Fnstcw_m2byte | Code::Fnstsw_m2byte | Code::Fnstsw_AX | Code::Fldcw_m2byte
    )
}

impl Emitter<'_> {
    /// Makes sure that the unit holds the guest's registers.
    pub(super) fn need_fpu(&mut self, live: u32) {
        if std::mem::replace(&mut self.fpu, true) {
            return;
        }
        self.give_up_rflags(live);
        let (from, back) = (self.a.label(), self.a.label());
        self.a.cmp32_mem(self.slots.fpu_loaded, 0);
        self.a.jcc(CC_E, from);
        self.a.bind(back);
        self.push_cold(from, Some(back), ColdPath::LoadFpu);
    }

    /// Where the memory operand is, for the operand pointer: called with its linear address in T0. False when it is
    /// not its offset too.
    pub(super) fn note_operand(&mut self, i: &Instruction) -> bool {
        if !is_remembered(i) {
            return true;
        }
        if let Register::FS | Register::GS = i.memory_segment() {
            return false;
        }
        self.a.store(self.slots.temp2, T0);
        true
    }

    /// After an instruction of the unit: its pointers.
    pub(super) fn remember(&mut self, i: &Instruction) {
        if !is_remembered(i) {
            return;
        }
        self.rip(T1, i.ip());
        self.a.store(self.slots.fip, T1);
        self.a.load16z(T1, self.slots.selector(x86::reg::seg::CS as u8));
        self.a.store16(self.slots.fcs, T1);
        if (0..i.op_count()).all(|n| i.op_kind(n) != OpKind::Memory) {
            return;
        }
        let mut segment = i.memory_segment().number() as u8;
        if self.source.bits == 64 {
            let stack = matches!(i.memory_base().full_register(), Register::RSP | Register::RBP);
            segment = if stack { x86::reg::seg::SS as u8 } else { x86::reg::seg::DS as u8 };
        }
        self.a.load(T1, self.slots.temp2);
        self.a.store(self.slots.fdp, T1);
        self.a.load16z(T1, self.slots.selector(segment));
        self.a.store16(self.slots.fds, T1);
    }

    /// FLDCW: natively while it masks every exception. False when nothing was emitted.
    pub(super) fn load_control(&mut self, n: usize, live: u32) -> bool {
        const MASKS: i32 = 0x3f;
        let i = self.source.instructions[n];
        let before = self.a.code.len();
        if !self.address(&i) {
            self.a.code.truncate(before);
            return false;
        }
        self.a.code.truncate(before);
        self.need_fpu(live);
        self.address(&i);
        let back = self.check(n, 2, false, live, 1);
        let slow = self.a.label();
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        // Another processor may change the word in memory after the look at it.
        self.a.load16z(T1, Mem::Base(T0, 0));
        self.a.mov(T0, T1);
        self.a.and32_imm(T0, MASKS);
        self.a.alu_imm8(false, CMP, T0, MASKS as i8);
        self.a.jcc(CC_NE, slow);
        self.a.store16(self.slots.temp, T1);
        self.a.fldcw(self.slots.temp);
        self.a.bind(back);
        true
    }
}
