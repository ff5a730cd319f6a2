//! The registers of one processor.

use crate::reg::{cr0, flags, seg};
use crate::segment::{Segment, TableRegister};

/// What a processor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// Executing instructions.
    #[default]
    Running = 0,
    /// HLT: waits for an interrupt, NMI or INIT.
    Halted = 1,
    /// After INIT on an application processor: waits for a start-up message.
    WaitForSipi = 2,
    /// A triple fault stopped it until reset.
    Shutdown = 3,
}

/// The x87 unit (SDM vol. 1, chapter 8). MMX registers are the low 64 bits of `regs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct X87 {
    /// R0 to R7 by physical number (not ST(i)), 80 bits each in the low 10 bytes.
    pub regs: [[u8; 16]; 8],
    /// Control word.
    pub fcw: u16,
    /// Status word, with TOP in bits 11 to 13.
    pub fsw: u16,
    /// Abridged tag word, as FXSAVE stores it: bit i set when R(i) is not empty.
    pub ftw: u8,
    /// Last opcode (11 bits).
    pub fop: u16,
    /// Last instruction's selector.
    pub fcs: u16,
    /// Last operand's selector.
    pub fds: u16,
    /// Last instruction's offset.
    pub fip: u64,
    /// Last operand's offset.
    pub fdp: u64,
}

impl Default for X87 {
    /// As after FNINIT.
    fn default() -> Self {
        Self { regs: [[0; 16]; 8], fcw: 0x37f, fsw: 0, ftw: 0, fop: 0, fcs: 0, fds: 0, fip: 0, fdp: 0 }
    }
}

impl X87 {
    /// Number of the register that is ST(0).
    pub fn top(&self) -> usize {
        usize::from(self.fsw >> 11 & 7)
    }
}

/// Every architectural register of one processor. Values are exact whenever no instruction is in progress.
///
/// The layout is fixed (`repr(C)`) so that generated code can address the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct X86State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// Instruction pointer (an offset in CS).
    pub rip: u64,
    /// Always 0: what an address without a base register adds.
    pub zero: u64,
    /// RFLAGS, with bit 1 set.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub seg: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table.
    pub idtr: TableRegister,
    /// Control register 0.
    pub cr0: u64,
    /// Page-fault address.
    pub cr2: u64,
    /// Page-table base (and PCID).
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Extended features, with LMA kept up to date.
    pub efer: u64,
    /// Extended control register 0.
    pub xcr0: u64,
    /// The four PAE page-directory pointers loaded with CR3 (legacy PAE paging).
    pub pdptr: [u64; 4],
    /// Current privilege level.
    pub cpl: u8,
    /// Running, halted, ...
    pub activity: Activity,
    /// Interrupts are held off until after the next instruction (STI, MOV SS).
    pub interrupt_shadow: bool,
    /// NMIs are held off until IRET.
    pub nmi_blocked: bool,
    /// Debug registers DR0 to DR3 (4 and 5 unused), DR6, DR7.
    pub dr: [u64; 8],
    /// SYSCALL selectors and 32-bit target.
    pub star: u64,
    /// SYSCALL target.
    pub lstar: u64,
    /// SYSCALL target from compatibility mode.
    pub cstar: u64,
    /// SYSCALL flag mask.
    pub fmask: u64,
    /// What SWAPGS brings in.
    pub kernel_gs_base: u64,
    /// SYSENTER code segment.
    pub sysenter_cs: u64,
    /// SYSENTER stack pointer.
    pub sysenter_esp: u64,
    /// SYSENTER instruction pointer.
    pub sysenter_eip: u64,
    /// What is added to the host's counter to give the guest's TSC.
    pub tsc_offset: u64,
    /// IA32_TSC_ADJUST.
    pub tsc_adjust: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// Page attribute table.
    pub pat: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// MTRR default type.
    pub mtrr_deftype: u64,
    /// MTRR fixed ranges.
    pub mtrr_fixed: [u64; 11],
    /// MTRR variable ranges: base, mask.
    pub mtrr_var: [[u64; 2]; 8],
    /// Machine-check status.
    pub mcg_status: u64,
    /// Machine-check control.
    pub mcg_ctl: u64,
    /// Machine-check banks: control, status, address, miscellaneous.
    pub mc_banks: [[u64; 4]; 10],
    /// Protection keys for user pages.
    pub pkru: u32,
    /// SSE control and status.
    pub mxcsr: u32,
    /// x87 and MMX.
    pub x87: X87,
    /// ZMM0 to ZMM31; XMM and YMM are their low parts.
    pub zmm: [[u8; 64]; 32],
    /// AVX-512 mask registers.
    pub opmask: [u64; 8],
}

impl Default for X86State {
    /// As after power-up (SDM vol. 3, table 10-1), with EDX = 0.
    fn default() -> Self {
        let mut state = Self {
            gpr: [0; 16],
            rip: 0xfff0,
            zero: 0,
            rflags: flags::FIXED,
            seg: [Segment::real_mode(0, false); 6],
            ldtr: Segment { limit: 0xffff, attributes: Segment::PRESENT | 2, ..Segment::default() },
            tr: Segment { limit: 0xffff, attributes: Segment::PRESENT | 11, ..Segment::default() },
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            cr0: cr0::ET | cr0::NW | cr0::CD,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            pdptr: [0; 4],
            cpl: 0,
            activity: Activity::Running,
            interrupt_shadow: false,
            nmi_blocked: false,
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            tsc_offset: 0,
            tsc_adjust: 0,
            tsc_aux: 0,
            pat: 0x0007_0406_0007_0406,
            misc_enable: 1,
            mtrr_deftype: 0,
            mtrr_fixed: [0; 11],
            mtrr_var: [[0; 2]; 8],
            mcg_status: 0,
            mcg_ctl: u64::MAX,
            mc_banks: [[u64::MAX, 0, 0, 0]; 10],
            pkru: 0,
            mxcsr: 0x1f80,
            x87: X87 { fcw: 0x40, ftw: 0xff, ..X87::default() },
            zmm: [[0; 64]; 32],
            opmask: [0; 8],
        };
        state.seg[seg::CS] = Segment { base: 0xffff_0000, ..Segment::real_mode(0xf000, true) };
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_up_starts_at_the_reset_vector() {
        let state = X86State::default();
        assert_eq!(state.seg[seg::CS].base + state.rip, 0xffff_fff0);
        assert_eq!((state.cr0, state.rflags), (0x6000_0010, 2));
    }
}
