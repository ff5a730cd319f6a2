//! Arbitrary code on the interpreter, in every mode, with exceptions delivered as in a machine.

use engine::testing::Bench;
use guestmem::AddressSpace;
use std::cell::RefCell;
use x86::reg::{cr0, cr4, flags, gpr, seg};
use x86::{Segment, TableRegister, X86State};

const RAM: u64 = 1 << 20;
const CODE: u64 = 0x4_0000;
const STACK: u64 = 0x3_0000;
const KERNEL_STACK: u64 = 0x3_8000;
const HANDLERS: u64 = 0x5_0000;
const GDT: u64 = 0x5000;
const IDT: u64 = 0x5100;
const TSS: u64 = 0x5800;
/// Blocks that a run may take.
const BLOCKS: u32 = 64;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new("max", RAM).expect("a processor"));
}

/// The input: a byte for the mode, one that chooses bits of control registers, eight for the general registers, then code.
pub fn run(data: &[u8]) {
    let Some((&[mode, control, ref seeds @ ..], code)) = data.split_first_chunk::<10>() else { return };
    let code = &code[..code.len().min(0x1000)];
    BENCH.with_borrow_mut(|bench| {
        let memory = bench.memory().clone();
        memory.write(0, &vec![0; RAM as usize]);
        let mut state = match mode & 7 {
            0 | 1 => real_mode(&memory),
            2 | 3 => {
                let mut state = boot::protected_mode_state(&memory, CODE as u32);
                tables(&memory, &mut state, false);
                state
            }
            _ => {
                let mut state = boot::long_mode_state(&memory, CODE);
                tables(&memory, &mut state, true);
                state
            }
        };
        state.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT | if control & 1 != 0 { cr4::OSXSAVE } else { 0 };
        state.cr0 |= if control & 2 != 0 { cr0::TS } else { 0 };
        state.cr0 |= if control & 4 != 0 { cr0::EM } else { 0 };
        state.xcr0 = if control & 8 != 0 { 7 } else { 1 };
        state.rflags |= if control & 16 != 0 { flags::TF } else { 0 };
        if mode & 1 != 0 && state.cr0 & cr0::PE != 0 {
            user(&mut state, control);
        }
        for (register, &seed) in state.gpr.iter_mut().zip(seeds.iter().cycle()) {
            // Small numbers, addresses in RAM, and the ends of the address space.
            *register = match seed >> 6 {
                0 => seed.into(),
                1 => u64::from(seed & 0x3f) << 14,
                2 => 0x8000_0000 << (seed & 0x1f),
                _ => u64::from(seed).wrapping_sub(0x100),
            };
        }
        state.gpr[gpr::RSP] = if state.rflags & flags::VM != 0 || mode & 6 == 0 { 0x8000 } else { STACK };
        let _ = bench.run(CODE, code, &state, BLOCKS);
        assert!(bench.state().rflags & flags::FIXED != 0, "the bit that is always set");
    });
}

fn real_mode(memory: &AddressSpace) -> X86State {
    let mut state =
        X86State { rip: CODE & 0xffff, rflags: flags::FIXED, cr0: cr0::ET, ..X86State::default() };
    state.seg[seg::CS] = Segment::real_mode((CODE >> 4) as u16, true);
    state.idtr.limit = 0x3ff;
    // mov bp, sp; inc word [bp]; iret
    memory.write(HANDLERS, &[0x89, 0xe5, 0xff, 0x46, 0x00, 0xcf]);
    for vector in 0..256 {
        memory.write_int(vector * 4, 4, HANDLERS << 12);
    }
    state
}

/// Descriptors for both privileges, a task state, and handlers that go on with the byte after the faulting one.
fn tables(memory: &AddressSpace, state: &mut X86State, long: bool) {
    let code = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    let (data, privilege) = (0x00cf_9300_0000_ffff, 3 << 45);
    let task = 0x0000_8b00_0000_0067 | TSS << 16;
    for (index, descriptor) in (2..).zip([code, data, code | privilege, data | privilege, task, 0]) {
        memory.write_int(GDT + index * 8, 8, descriptor);
    }
    state.gdtr = TableRegister { base: GDT, limit: 0x3f };
    state.idtr = TableRegister { base: IDT, limit: if long { 0x3ff } else { 0x1ff } };
    state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0x30 };
    if long {
        memory.write_int(TSS + 4, 8, KERNEL_STACK);
        // The first 2 MiB are for everyone.
        let mut entry = state.cr3;
        for _ in 0..3 {
            let value = memory.read_int(entry, 8);
            memory.write_int(entry, 8, value | 4);
            entry = value & !0xfff;
        }
    } else {
        memory.write_int(TSS + 4, 8, 0x18 << 32 | KERNEL_STACK);
    }
    for vector in 0..64 {
        let handler = HANDLERS + vector * 16;
        let error_code = matches!(vector, 8 | 10..=14 | 17 | 21);
        let stub: &[u8] = match (long, error_code) {
            // add rsp, 8; inc qword [rsp]; iretq
            (true, true) => &[0x48, 0x83, 0xc4, 0x08, 0x48, 0xff, 0x04, 0x24, 0x48, 0xcf],
            (true, false) => &[0x48, 0xff, 0x04, 0x24, 0x48, 0xcf],
            // add esp, 4; inc dword [esp]; iretd
            (false, true) => &[0x83, 0xc4, 0x04, 0xff, 0x04, 0x24, 0xcf],
            (false, false) => &[0xff, 0x04, 0x24, 0xcf],
        };
        memory.write(handler, stub);
        let size = if long { 16 } else { 8 };
        memory.write_int(IDT + vector * size, 8, 0xee00_0010_0000 | (handler & 0xffff) | handler >> 16 << 48);
    }
}

/// Takes the privilege away.
fn user(state: &mut X86State, control: u8) {
    state.cpl = 3;
    if state.cr0 & cr0::PG == 0 && control & 32 != 0 {
        state.rflags |= flags::VM | if control & 64 != 0 { flags::IOPL } else { 0 };
        state.seg = [Segment { attributes: 0xf3, ..Segment::real_mode(0, false) }; 6];
        state.seg[seg::CS] = Segment { attributes: 0xf3, ..Segment::real_mode((CODE >> 4) as u16, true) };
        state.rip = CODE & 0xffff;
        return;
    }
    for (index, segment) in state.seg.iter_mut().enumerate() {
        segment.selector = if index == seg::CS { 0x23 } else { 0x2b };
        segment.attributes |= 3 << 5;
    }
}
