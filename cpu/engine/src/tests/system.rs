//! Privileged behaviour that QEMU's TCG has not, or not as processors do: the comparison with QEMU leaves it out.

use super::*;
use crate::system::{Cause, TaskSwitch};
use x86::reg::{flags, vector};

/// 32-bit protected mode without paging, flat segments: code at 0x1000, handlers as in [`long`] (vector to port 0x80,
/// then HLT), stack below 0x8000.
pub(crate) fn protected(code: &[u8]) -> Bench {
    let mut b = bench();
    b.memory.write_int(0xa008, 8, 0x00cf_9b00_0000_ffff);
    b.memory.write_int(0xa010, 8, 0x00cf_9300_0000_ffff);
    b.memory.write_int(0xa018, 8, 0x00cf_fb00_0000_ffff);
    b.memory.write_int(0xa020, 8, 0x00cf_f300_0000_ffff);
    b.memory.write_int(0xa028, 8, 0x0040_9300_0000_0fff);
    for v in 0..32u64 {
        let to = 0x2000 + v * 16;
        b.memory.write_int(0x9000 + v * 8, 8, 0x8e00_0008_0000 | to);
        b.memory.write(to, &[0xb0, v as u8, 0xe6, 0x80, 0xf4]);
    }
    b.memory.write(0x1000, code);
    let mut s = X86State { rip: 0x1000, ..X86State::default() };
    s.gpr[4] = 0x8000;
    s.cr0 = cr0::PE | cr0::ET | cr0::NE;
    s.cr4 = cr4::DE;
    (s.gdtr.base, s.gdtr.limit) = (0xa000, 0x7f);
    (s.idtr.base, s.idtr.limit) = (0x9000, 0x7ff);
    s.seg = [Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 0x10 }; 6];
    s.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc09b, selector: 8 };
    s.tr = Segment { base: 0xb000, limit: 0x67, attributes: 0x8b, selector: 0x30 };
    b.cpu.load_state(&s);
    b
}

/// The vector whose handler ran, and the first pushed words (error code first, where there is one).
fn outcome(b: &mut Bench) -> (u32, u64) {
    run(b);
    let vector = b.world.out.lock().last().map_or(u32::MAX, |o| o.1);
    let size = if b.cpu.long { 8 } else { 4 };
    (vector, b.memory.read_int(b.cpu.state.gpr[4], size))
}

#[test]
fn segment_limits_and_null_segments_fault() {
    // mov ax,0x28; mov ds,ax; mov al,[0x1000] (the limit is 0xfff)
    let mut b = protected(&[0x66, 0xb8, 0x28, 0, 0x8e, 0xd8, 0xa0, 0, 0x10, 0, 0]);
    assert_eq!(outcome(&mut b), (13, 0));
    // The last byte is still inside; a word there is not.
    let mut b =
        protected(&[0x66, 0xb8, 0x28, 0, 0x8e, 0xd8, 0xa0, 0xff, 0x0f, 0, 0, 0x66, 0xa1, 0xff, 0x0f, 0, 0]);
    assert_eq!(outcome(&mut b), (13, 0));
    assert_eq!(b.memory.read_int(b.cpu.state.gpr[4] + 4, 4), 0x100b);
    // xor eax,eax; mov fs,ax; mov al,fs:[0]
    let mut b = protected(&[0x31, 0xc0, 0x8e, 0xe0, 0x64, 0xa0, 0, 0, 0, 0]);
    assert_eq!(outcome(&mut b), (13, 0));
    // A store to a code segment: mov cs:[0],al
    let mut b = protected(&[0x2e, 0xa2, 0, 0, 0, 0]);
    assert_eq!(outcome(&mut b), (13, 0));
}

#[test]
fn guarded_debug_registers_fault() {
    // mov eax,0x2400; mov dr7,eax; mov eax,dr0
    let mut b = protected(&[0xb8, 0, 0x24, 0, 0, 0x0f, 0x23, 0xf8, 0x0f, 0x21, 0xc0]);
    assert_eq!(outcome(&mut b), (1, 0x1008));
    assert_eq!(b.cpu.state.dr[6] & 0xf000, 0x2000);
    assert_eq!(b.cpu.state.dr[7] & 0x2000, 0);
}

#[test]
fn breakpoints_stop_a_string_instruction_in_its_middle() {
    let mut b = protected(&[0xf3, 0xab, 0xf4]); // rep stosd; hlt
    b.cpu.state.gpr[1] = 8;
    b.cpu.state.gpr[7] = 0x5000;
    b.cpu.state.dr[0] = 0x5008;
    b.cpu.state.dr[7] = 0x000d_0401; // writes of 4 bytes
    b.cpu.debug_changed();
    assert_eq!(outcome(&mut b), (1, 0x1000));
    assert_eq!((b.cpu.state.gpr[1], b.cpu.state.gpr[7]), (5, 0x500c));
    assert_eq!(b.cpu.state.dr[6] & 0xf, 1);
}

#[test]
fn an_instruction_breakpoint_hits_once_with_rf() {
    // The handler of #DB returns with RF set: or dword [esp+8],0x10000; iret
    let mut b = protected(&[0x40, 0x40, 0x40, 0xf4]);
    b.memory.write(0x2010, &[0x81, 0x4c, 0x24, 8, 0, 0, 1, 0, 0x43, 0xcf]);
    b.cpu.state.dr[1] = 0x1001;
    b.cpu.state.dr[7] = 0x404;
    b.cpu.debug_changed();
    run(&mut b);
    assert_eq!((b.cpu.state.gpr[0], b.cpu.state.gpr[3]), (3, 1));
    assert_eq!(b.cpu.rflags() & flags::RF, 0);
}

#[test]
fn faults_push_rf_and_traps_do_not() {
    let mut b = protected(&[0x0f, 0x0b]);
    run(&mut b);
    assert_ne!(b.memory.read_int(b.cpu.state.gpr[4] + 8, 4) & flags::RF, 0);
    let mut b = protected(&[0xcc]);
    run(&mut b);
    assert_eq!(b.memory.read_int(b.cpu.state.gpr[4] + 8, 4) & flags::RF, 0);
}

#[test]
fn a_single_step_waits_after_mov_ss() {
    // mov ss,ax; inc ebx; inc ebx
    let mut b = protected(&[0x8e, 0xd0, 0x43, 0x43, 0xf4]);
    b.cpu.state.gpr[0] = 0x10;
    b.cpu.state.rflags |= flags::TF;
    assert_eq!(outcome(&mut b), (1, 0x1003));
    assert_eq!(b.cpu.state.gpr[3], 1);
    assert_eq!(b.cpu.state.dr[6] & 0x4000, 0x4000);
}

#[test]
fn a_task_with_the_trap_bit_starts_with_a_debug_exception() {
    let mut b = protected(&[0xea, 0, 0, 0, 0, 0x38, 0]); // jmp 0x38:0
    b.memory.write_int(0xa030, 8, 0x0000_8b00_b000_0067);
    b.memory.write_int(0xa038, 8, 0x0000_8900_c000_0067);
    for (at, v) in
        [(0x20, 0x3000), (0x24, 2), (0x38, 0x7000), (0x4c, 8), (0x50, 0x10), (0x54, 0x10), (0x64, 1)]
    {
        b.memory.write_int(0xc000 + at, 4, v);
    }
    b.memory.write(0x3000, &[0x43, 0xf4]);
    assert_eq!(outcome(&mut b), (1, 0x3000));
    assert_eq!(b.cpu.state.dr[6] & 0x8000, 0x8000);
    assert_eq!(b.cpu.state.tr.selector, 0x38);
    assert_ne!(b.cpu.state.cr0 & cr0::TS, 0);
    // Back: a task that is busy is not switched to.
    let switch = TaskSwitch { selector: 0x38, cause: Cause::Jump, next: 0, flags: 2 };
    assert_eq!(b.cpu.switch_task(switch).map_err(|f| (f.vector(), f.code())), Err((vector::GP, Some(0x38))));
}

#[test]
fn alignment_is_checked_at_cpl_3() {
    // popf (AC set); mov eax,[0x5001]
    let mut b = protected(&[0x9d, 0xa1, 1, 0x50, 0, 0]);
    let s = &mut b.cpu.state;
    s.cr0 |= cr0::AM;
    s.cpl = 3;
    s.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc0fb, selector: 0x1b };
    s.seg[seg::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc0f3, selector: 0x23 };
    b.memory.write_int(0xb004, 4, 0x7000);
    b.memory.write_int(0xb008, 4, 0x10);
    b.memory.write_int(0x8000, 4, flags::AC | 2);
    b.cpu.mode_changed();
    assert_eq!(outcome(&mut b), (17, 0));
    assert_eq!(b.memory.read_int(b.cpu.state.gpr[4] + 4, 4), 0x1001);
}

#[test]
fn addresses_that_are_not_canonical() {
    let far = 1u64 << 47;
    // jmp rbx: the branch faults, not its target
    let mut b = long(&[0xff, 0xe3]);
    b.cpu.state.gpr[3] = far;
    assert_eq!(outcome(&mut b), (13, 0));
    assert_eq!(b.memory.read_int(b.cpu.state.gpr[4] + 8, 8), 0x1000);
    // mov al,[rbx]
    let mut b = long(&[0x8a, 0x03]);
    b.cpu.state.gpr[3] = far;
    assert_eq!(outcome(&mut b).0, 13);
    // mov al,[rbp]: the stack segment; the handler's own stack is fine
    let mut b = long(&[0x8a, 0x45, 0]);
    b.cpu.state.gpr[5] = far;
    assert_eq!(outcome(&mut b).0, 12);
    // mov ecx,0xc0000101; mov edx,0x8000; wrmsr
    let mut b = long(&[0xb9, 1, 1, 0, 0xc0, 0xba, 0, 0x80, 0, 0, 0x0f, 0x30]);
    assert_eq!(outcome(&mut b).0, 13);
    // A stack pointer that is not canonical, with nothing to deliver #SS on, is a double fault's business: the
    // machine stops.
    let mut b = long(&[0x50]);
    b.cpu.state.gpr[4] = far;
    assert_eq!(b.cpu.run_loop(), Exit::Shutdown);
}

#[test]
fn process_contexts_keep_their_translations() {
    // Two sets of tables, as [`long`]'s, which map 0x20_0000 to different pages.
    let mut b = long(&[]);
    for (top, page) in [(0x10000u64, 0x20_0000u64), (0x14000, 0x0)] {
        b.memory.write_int(top, 8, top + 0x1007);
        b.memory.write_int(top + 0x1000, 8, top + 0x2007);
        b.memory.write_int(top + 0x2000, 8, 0x87);
        b.memory.write_int(top + 0x2008, 8, page | 0x87);
    }
    b.memory.write_int(0x20_0000, 8, 0x1111);
    b.memory.write_int(0x5000, 8, 0x2222);
    b.cpu.cr4_mask |= cr4::PCIDE;
    // mov cr4,rax; mov cr3,rbx; mov r8,[0x205000]; mov cr3,rcx; mov r9,[0x205000]; hlt
    let code = [
        0x0f, 0x22, 0xe0, 0x0f, 0x22, 0xdb, 0x4c, 0x8b, 0x04, 0x25, 0, 0x50, 0x20, 0, 0x0f, 0x22, 0xd9, 0x4c,
        0x8b, 0x0c, 0x25, 0, 0x50, 0x20, 0, 0xf4,
    ];
    b.memory.write(0x1000, &code);
    b.memory.write_int(0x20_5000, 8, 0x1111);
    b.cpu.state.gpr[0] = b.cpu.state.cr4 | cr4::PCIDE;
    b.cpu.state.gpr[3] = 0x14005;
    b.cpu.state.gpr[1] = 0x10007;
    run(&mut b);
    assert_eq!((b.cpu.state.gpr[8], b.cpu.state.gpr[9]), (0x2222, 0x1111));
    // The tables of context 5 change; with bit 63 the old translation stays, without it goes.
    for (bit, expected) in [(1u64 << 63, 0x2222), (0, 0x1111)] {
        b.memory.write_int(0x16008, 8, 0x20_0087);
        b.cpu.state.rip = 0x1003;
        b.cpu.state.activity = x86::Activity::Running;
        b.cpu.state.gpr[3] = 0x14005 | bit;
        run(&mut b);
        assert_eq!(b.cpu.state.gpr[8], expected, "{bit:#x}");
    }
    // A context number without CR4.PCIDE, and setting PCIDE with one in CR3, are faults.
    let mut b = long(&[0x0f, 0x22, 0xe0]);
    b.cpu.cr4_mask |= cr4::PCIDE;
    b.cpu.state.cr3 |= 5;
    b.cpu.state.gpr[0] = b.cpu.state.cr4 | cr4::PCIDE;
    assert_eq!(outcome(&mut b).0, 13);
}

#[test]
fn reserved_bits_of_control_registers_fault() {
    for (register, value) in [
        (0u8, cr0::PE | cr0::ET),                   // paging off in 64-bit mode
        (0, cr0::PE | cr0::PG | cr0::ET | cr0::NW), // NW without CD
        (0, 1 << 32 | cr0::PE | cr0::PG),
        (4, cr4::OSFXSR), // no PAE
        (4, cr4::PAE | cr4::LA57),
        (4, cr4::PAE | 1 << 40),
        (3, 1 << 52 | 0x10000),
    ] {
        let mut b = long(&[0x0f, 0x22, 0xc3 | register << 3]); // mov cr,rbx
        b.cpu.state.gpr[3] = value;
        assert_eq!(outcome(&mut b), (13, 0), "cr{register} {value:#x}");
    }
}

#[test]
fn reserved_bits_of_model_specific_registers_fault() {
    const EFER: u32 = 0xc000_0080;
    for (register, value, faults) in [
        (EFER, 0x901, false),
        (EFER, 0x1901, true), // SVM is not there
        (EFER, 1 << 40 | 0x901, true),
        (0x200, 0x1000_0006, false),
        (0x200, 0x1000_0002, true), // no such type
        (0x200, 0x1000_0100, true),
        (0x201, 0xf_f000_0800, false),
        (0x201, 0xf_f000_0400, true),
        (0x250, 0x0606_0606_0505_0400, false),
        (0x250, 0x0606_0306_0505_0400, true),
        (0x2ff, 0xc06, false),
        (0x2ff, 0x1c06, true),
    ] {
        // wrmsr; hlt
        let mut b = long(&[0x0f, 0x30, 0xf4]);
        b.cpu.state.gpr[1] = register.into();
        b.cpu.state.gpr[0] = value & 0xffff_ffff;
        b.cpu.state.gpr[2] = value >> 32;
        run(&mut b);
        let raised = b.world.out.lock().last().map(|o| o.1);
        assert_eq!(raised, faults.then_some(13), "{register:#x} {value:#x}");
    }
}

#[test]
fn software_interrupts_of_8086_programs_are_redirected() {
    for (vme, iopl, redirected) in [(true, 0, true), (true, 3, true), (false, 3, false)] {
        let mut b = protected(&[]);
        let s = &mut b.cpu.state;
        s.cr4 = if vme { cr4::VME } else { 0 };
        s.rflags = flags::FIXED | flags::VM | iopl << 12 | flags::VIF;
        s.cpl = 3;
        for g in &mut s.seg {
            *g = Segment { base: 0x4000, limit: 0xffff, attributes: 0xf3, selector: 0x400 };
        }
        (s.rip, s.gpr[4]) = (0, 0x1000);
        b.memory.write(0x4000, &[0xcd, 0x15]); // int 0x15
        b.memory.write_int(0x15 * 4, 4, 0x0400_0100);
        b.memory.write(0x4100, &[0xcc]); // int3: to ring 0
        b.memory.write_int(0x9000 + 3 * 8, 8, 0xee00_0008_2030);
        b.memory.write_int(0x9000 + 0x15 * 8, 8, 0xee00_0008_2150);
        b.memory.write_int(0xb004, 4, 0x7000);
        b.memory.write_int(0xb008, 4, 0x10);
        b.memory.write_int(0xb066, 2, 0x68 + 32);
        b.cpu.state.tr.limit = 0xfff;
        b.cpu.set_rflags(b.cpu.state.rflags);
        b.cpu.mode_changed();
        let (vector, _) = outcome(&mut b);
        assert_eq!(vector, if redirected { 3 } else { 0x15 }, "{vme} {iopl}");
        if redirected {
            // FLAGS as the program sees them.
            let image = b.memory.read_int(0x4ffe, 2);
            assert_eq!(image & 0x3200, if iopl == 3 { 0x3000 } else { 0x3200 });
        }
    }
}
