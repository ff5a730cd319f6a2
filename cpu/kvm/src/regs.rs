//! Registers, from [`X86State`] to KVM's structures and back.

use kvm_bindings::{
    KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW, KVM_X86_SHADOW_INT_MOV_SS,
    KVM_X86_SHADOW_INT_STI, kvm_debugregs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
    kvm_vcpu_events,
};
use x86::reg::seg;
use x86::{Segment, TableRegister, X86State};

pub(crate) const MSR_TSC: u32 = 0x10;
/// MSRs that are not kept in the state and that are 0 after a reset: KVM's clocks (old and new numbers), speculation
/// control, extended supervisor state, machine checks' status and the adjustment of the time-stamp counter.
pub(crate) const UNKEPT_MSRS: [u32; 8] = [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x48, 0xda0, 0x17a, 0x3b];
const EFLAGS_VM: u64 = 1 << 17;
const CR0_PE: u64 = 1;

fn segment(from: &Segment) -> kvm_segment {
    let bit = |n: u16| (from.attributes >> n & 1) as u8;
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: (from.attributes & 15) as u8,
        s: bit(4),
        dpl: from.dpl(),
        present: bit(7),
        avl: bit(12),
        l: bit(13),
        db: bit(14),
        g: bit(15),
        unusable: bit(7) ^ 1,
        padding: 0,
    }
}

fn segment_back(from: &kvm_segment) -> Segment {
    let bits = u16::from(from.type_ & 15)
        | u16::from(from.s & 1) << 4
        | u16::from(from.dpl & 3) << 5
        | u16::from(from.present & 1) << 7
        | u16::from(from.avl & 1) << 12
        | u16::from(from.l & 1) << 13
        | u16::from(from.db & 1) << 14
        | u16::from(from.g & 1) << 15;
    let attributes = if from.unusable != 0 { bits & !Segment::PRESENT } else { bits };
    Segment { base: from.base, limit: from.limit, attributes, selector: from.selector }
}

fn table(from: TableRegister) -> kvm_dtable {
    kvm_dtable { base: from.base, limit: from.limit, padding: [0; 3] }
}

fn table_back(from: &kvm_dtable) -> TableRegister {
    TableRegister { base: from.base, limit: from.limit }
}

/// The general registers.
pub(crate) fn general(state: &X86State) -> kvm_regs {
    let g = &state.gpr;
    kvm_regs {
        rax: g[0],
        rcx: g[1],
        rdx: g[2],
        rbx: g[3],
        rsp: g[4],
        rbp: g[5],
        rsi: g[6],
        rdi: g[7],
        r8: g[8],
        r9: g[9],
        r10: g[10],
        r11: g[11],
        r12: g[12],
        r13: g[13],
        r14: g[14],
        r15: g[15],
        rip: state.rip,
        rflags: state.rflags,
    }
}

/// Reads the general registers.
pub(crate) fn general_back(from: &kvm_regs, state: &mut X86State) {
    let r = from;
    state.gpr = [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    state.rip = r.rip;
    state.rflags = r.rflags;
}

/// Segment, table and control registers.
pub(crate) fn system(state: &X86State, cr8: u64, apic_base: u64) -> kvm_sregs {
    kvm_sregs {
        es: segment(&state.seg[0]),
        cs: segment(&state.seg[1]),
        ss: segment(&state.seg[2]),
        ds: segment(&state.seg[3]),
        fs: segment(&state.seg[4]),
        gs: segment(&state.seg[5]),
        tr: segment(&state.tr),
        ldt: segment(&state.ldtr),
        gdt: table(state.gdtr),
        idt: table(state.idtr),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8,
        efer: state.efer,
        apic_base,
        interrupt_bitmap: [0; 4],
    }
}

/// Reads segment, table and control registers. The general ones have been read.
pub(crate) fn system_back(from: &kvm_sregs, state: &mut X86State) {
    let segments = [&from.es, &from.cs, &from.ss, &from.ds, &from.fs, &from.gs];
    state.seg = segments.map(segment_back);
    state.tr = segment_back(&from.tr);
    state.ldtr = segment_back(&from.ldt);
    state.gdtr = table_back(&from.gdt);
    state.idtr = table_back(&from.idt);
    (state.cr0, state.cr2, state.cr3, state.cr4, state.efer) =
        (from.cr0, from.cr2, from.cr3, from.cr4, from.efer);
    state.cpl = match (state.cr0 & CR0_PE != 0, state.rflags & EFLAGS_VM != 0) {
        (false, _) => 0,
        (true, true) => 3,
        (true, false) => state.seg[seg::SS].dpl(),
    };
}

/// The debug registers.
pub(crate) fn debug(state: &X86State) -> kvm_debugregs {
    kvm_debugregs {
        db: [state.dr[0], state.dr[1], state.dr[2], state.dr[3]],
        dr6: state.dr[6],
        dr7: state.dr[7],
        ..kvm_debugregs::default()
    }
}

/// Reads the debug registers.
pub(crate) fn debug_back(from: &kvm_debugregs, state: &mut X86State) {
    state.dr[..4].copy_from_slice(&from.db);
    (state.dr[6], state.dr[7]) = (from.dr6, from.dr7);
}

/// What holds interrupts off; nothing is being delivered.
pub(crate) fn events(state: &X86State) -> kvm_vcpu_events {
    let mut out = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        ..kvm_vcpu_events::default()
    };
    if state.interrupt_shadow {
        out.interrupt.shadow = (KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS) as u8;
    }
    out.nmi.masked = state.nmi_blocked.into();
    out
}

/// Reads what holds interrupts off.
pub(crate) fn events_back(from: &kvm_vcpu_events, state: &mut X86State) {
    state.interrupt_shadow = from.interrupt.shadow != 0;
    state.nmi_blocked = from.nmi.masked != 0;
}

/// Shows every MSR that is kept in the state, but for the time-stamp counter, to `visit`.
pub(crate) fn for_each_msr(state: &mut X86State, mut visit: impl FnMut(u32, &mut u64)) {
    visit(0x174, &mut state.sysenter_cs);
    visit(0x175, &mut state.sysenter_esp);
    visit(0x176, &mut state.sysenter_eip);
    visit(0x1a0, &mut state.misc_enable);
    visit(0x277, &mut state.pat);
    visit(0xc000_0081, &mut state.star);
    visit(0xc000_0082, &mut state.lstar);
    visit(0xc000_0083, &mut state.cstar);
    visit(0xc000_0084, &mut state.fmask);
    visit(0xc000_0102, &mut state.kernel_gs_base);
    visit(0xc000_0103, &mut state.tsc_aux);
    visit(0x2ff, &mut state.mtrr_deftype);
    const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
    for (number, value) in FIXED.into_iter().zip(&mut state.mtrr_fixed) {
        visit(number, value);
    }
    for (number, value) in (0x200..).zip(state.mtrr_var.as_flattened_mut()) {
        visit(number, value);
    }
}

/// One MSR.
pub(crate) fn msr(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, ..kvm_msr_entry::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_registers_survive() {
        let mut state =
            X86State { cr0: 0x8005_0033, cr3: 0x1000, cr4: 0x6f0, efer: 0xd01, ..X86State::default() };
        state.seg[seg::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc0f3, selector: 0x2b };
        state.seg[seg::FS] = Segment { base: 0x1234_5678_9abc, ..Segment::default() };
        state.cpl = 3;
        let mut back = X86State::default();
        general_back(&general(&state), &mut back);
        system_back(&system(&state, 0, 0xfee0_0900), &mut back);
        debug_back(&debug(&state), &mut back);
        assert_eq!(back, state);
    }

    #[test]
    fn power_up_is_kvms_real_mode() {
        let state = X86State::default();
        let sregs = system(&state, 0, 0);
        assert_eq!((sregs.cs.base, sregs.cs.selector, sregs.cs.type_), (0xffff_0000, 0xf000, 11));
        assert_eq!((sregs.tr.type_, sregs.tr.present, sregs.tr.s), (11, 1, 0));
        assert_eq!(sregs.fs.unusable, 0);
    }

    #[test]
    fn every_msr_is_visited_once() {
        let mut state = X86State::default();
        let mut seen = std::collections::BTreeSet::new();
        for_each_msr(&mut state, |index, value| {
            assert!(seen.insert(index), "{index:#x}");
            *value = index.into();
        });
        assert_eq!(seen.len(), 12 + 11 + 16);
        assert_eq!((state.mtrr_var[7][1], state.mtrr_fixed[10], state.lstar), (0x20f, 0x26f, 0xc000_0082));
    }
}
