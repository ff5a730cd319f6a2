//! The translator against the interpreter: random straight code from random registers.

use super::classify::{self, Kind, Vectors};
use crate::options::{Options, Without};
use crate::tests::system::protected;
use crate::tests::{Bench, long};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use irq::Event;
use std::time::Duration;
use x86::reg::flags;

struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.number() >> 8) % limit
    }
}

const ALL: Vectors =
    Vectors { sse: true, avx: false, avx512: false, x87: true, bmi2: false, zero_counts: false };

/// A random instruction that the translator does something about.
fn instruction(random: &mut Random, bits: u8) -> (Vec<u8>, Instruction) {
    loop {
        let mut bytes = Vec::new();
        match random.below(10) {
            0 => bytes.push(0x66),
            1 => bytes.push(0xf2 | random.below(2) as u8),
            2 => bytes.push(0xf0),
            _ => {}
        }
        if bits == 32 && random.below(8) == 0 {
            bytes.push(
                *[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67].get(random.below(7) as usize).unwrap_or(&0x3e),
            );
        }
        if random.below(8) == 0 {
            bytes.push(0xd8 | random.below(8) as u8);
        } else if bits == 64 && random.below(3) != 0 {
            bytes.push(0x40 | random.below(16) as u8);
        }
        if random.below(3) == 0 {
            bytes.push(0x0f);
            match random.below(12) {
                0 | 1 => bytes.push(0x38 | (random.below(2) as u8) << 1),
                2 => bytes.push(0xa3 | (random.below(4) as u8) << 3), // BT and relatives
                _ => {}
            }
        }
        for _ in 0..12 {
            bytes.push(random.number() as u8);
        }
        let i = Decoder::with_ip(bits.into(), &bytes, 0x1000, DecoderOptions::NONE).decode();
        if i.is_invalid() {
            continue;
        }
        let wanted = match classify::kind(&i, ALL) {
            Kind::Native | Kind::Divide | Kind::Lea | Kind::Push | Kind::Pop | Kind::Leave => true,
            Kind::System => true,
            Kind::Interpret => random.below(40) == 0 && !i.is_privileged(),
            _ => false,
        };
        let slow = matches!(
            i.mnemonic(),
            Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdrand | Mnemonic::Rdseed | Mnemonic::Cpuid
        );
        if wanted && !slow && !i.has_rep_prefix() && !i.has_repne_prefix() | i.op0_register().is_xmm() {
            bytes.truncate(i.len());
            return (bytes, i);
        }
    }
}

fn registers(bench: &mut Bench, random: &mut Random, code: &[u8]) {
    bench.memory.write(0x1000, code);
    let mut s = bench.cpu.state.clone();
    for r in &mut s.gpr {
        *r = match random.below(16) {
            0 => random.number(),
            1 => BORDERS[random.below(BORDERS.len() as u64) as usize]
                .wrapping_add(random.below(33))
                .wrapping_sub(16),
            2 | 3 => 0x20ff0 + random.below(32),
            _ => 0x2_0000 + random.below(0x8000),
        };
    }
    s.gpr[4] = 0x8000 - 8 * random.below(4);
    if bench.cpu.bits == 32 {
        s.gpr.iter_mut().for_each(|r| *r &= 0xffff_ffff);
        if random.below(8) == 0 {
            s.gpr[3] = (0xffff_fff0 + random.below(32)) & 0xffff_ffff;
        }
    }
    for z in &mut s.zmm[..16] {
        for b in &mut z[..16] {
            *b = random.number() as u8;
        }
        if random.below(2) == 0 {
            for (n, b) in z[..16].iter_mut().enumerate() {
                *b = [0, 0, 0x80, 0x3f][n % 4];
            }
        }
    }
    s.x87.fcw = 0x37f | (random.below(16) << 8) as u16 & 0xf00;
    s.x87.fsw = (random.below(8) << 11) as u16;
    s.x87.ftw = random.number() as u8 | 0x18;
    for r in &mut s.x87.regs {
        for (n, b) in r[..10].iter_mut().enumerate() {
            *b = if n < 8 { random.number() as u8 } else { [0, 0x40][n & 1] };
        }
        r[7] |= 0x80;
    }
    s.rip = 0x1000;
    s.rflags = 2 | random.number() & flags::ARITH;
    s.activity = x86::Activity::Running;
    s.seg[4].base = 0x1_0000;
    s.seg[5].base = 0x1_8000;
    bench.cpu.load_state(&s);
}

#[test]
fn straight_code_does_the_same_in_both_tiers() {
    compare(|| long(&[]), 64, 0x1234_5678_9abc_def1, &HOT, false);
}

/// REP STOS and REP MOVS about the borders of pages, upwards and downwards, over each other and over themselves.
#[test]
fn repeated_strings_do_the_same_in_both_tiers() {
    let forms: [&[u8]; 8] = [
        &[0xf3, 0xaa],
        &[0xf3, 0xab],
        &[0xf3, 0x48, 0xab],
        &[0xf3, 0xa4],
        &[0xf3, 0xa5],
        &[0xf3, 0x48, 0xa5],
        &[0xfd, 0xf3, 0x48, 0xa5, 0xfc],
        &[0x67, 0xf3, 0xa4],
    ];
    let (mut a, mut b) = (long(&[]), long(&[]));
    a.cpu.set_options(&HOT, None);
    let mut random = Random(0x0bad_5eed_1234_5671);
    for case in 0..1_500 {
        let form = forms[random.below(forms.len() as u64) as usize];
        let mut code = form.to_vec();
        code.push(0xf4);
        let seed = random.number() | 1;
        registers(&mut a, &mut Random(seed), &code);
        registers(&mut b, &mut Random(seed), &code);
        let border = |random: &mut Random| match random.below(8) {
            0 => BORDERS[random.below(BORDERS.len() as u64) as usize].wrapping_sub(random.below(40)),
            _ => 0x2_0000 + (random.below(6) << 12) + random.below(80) * 53 % 4200,
        };
        let count = if random.below(4) == 0 { random.below(5) } else { random.below(600) };
        let (from, to) = (border(&mut random), border(&mut random));
        let to = if random.below(4) == 0 { from.wrapping_add(random.below(32)) } else { to };
        for bench in [&mut a, &mut b] {
            let mut s = bench.cpu.state.clone();
            s.rflags |= if case % 16 == 0 { flags::DF } else { 0 };
            (s.gpr[1], s.gpr[6], s.gpr[7]) = (count, from, to);
            bench.cpu.load_state(&s);
        }
        let (x, y) = (a.cpu.run_blocks(60), b.cpu.run_blocks(60));
        let text = format!("case {case}: {form:02x?} {count:#x} from {from:#x} to {to:#x}");
        assert_eq!(x, y, "{text}");
        assert_eq!(a.cpu.state.gpr, b.cpu.state.gpr, "{text}");
        assert_eq!((a.cpu.state.rip, a.cpu.state.cr2), (b.cpu.state.rip, b.cpu.state.cr2), "{text}");
        assert_eq!(a.cpu.rflags(), b.cpu.rflags(), "{text}");
        for (from, size) in [(0, 0x3000), (0x1_e000, 0xc000), (0x1f_e000, 0x2000)] {
            let (mut p, mut q) = (vec![0; size], vec![0; size]);
            a.memory.read(from, &mut p);
            b.memory.read(from, &mut q);
            assert!(p == q, "memory {from:#x} + {:?}, {text}", (0..size).find(|&n| p[n] != q[n]));
        }
    }
    assert!(a.cpu.jit.made > 300, "{} translations", a.cpu.jit.made);
}

#[test]
fn straight_32_bit_code_does_the_same_in_both_tiers() {
    compare(|| flat_32(&[]), 32, 0xfeed_5678_9abc_def1, &HOT, false);
}

#[test]
fn traces_do_the_same_as_the_interpreter() {
    compare(|| long(&[]), 64, 0x1234_5678_9abc_def7, &HOT, true);
    let options = Options { tiny_tlb: true, ..HOT };
    compare(|| long(&[]), 64, 0x1234_5678_9abc_def9, &options, true);
}

/// Operands at few bases, whose distances are known: fields, steps of unrolled loops, long additions, about the borders
/// of pages and of what is mapped, with bases that move and flags that are held in between.
#[test]
fn operands_that_are_checked_together_do_the_same() {
    let operands = |random: &mut Random| match random.below(8) {
        0 => instruction(random, 64),
        _ => operand_at_few_bases(random),
    };
    let tiny = Options { tiny_tlb: true, ..HOT };
    compare_of(operands, || long(&[]), 64, 0x1234_5678_9abc_defb, &HOT, Form::Branches);
    compare_of(operands, || long(&[]), 64, 0x1234_5678_9abc_defd, &tiny, Form::Straight);
}

/// The same operands in loops of a few rounds.
#[test]
fn loops_do_the_same() {
    let tiny = Options { tiny_tlb: true, ..HOT };
    compare_of(operand_at_few_bases, || long(&[]), 64, 0x1234_5678_9abc_dee1, &HOT, Form::Loop);
    compare_of(operand_at_few_bases, || long(&[]), 64, 0x1234_5678_9abc_dee3, &tiny, Form::Loop);
}

/// What is put around random instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Straight,
    /// Jumps and calls between them.
    Branches,
    /// A loop that R14 counts.
    Loop,
}

/// An instruction with an operand at RBX, RDI or R10, perhaps indexed by RCX or R11, or one that moves such a base.
fn operand_at_few_bases(random: &mut Random) -> (Vec<u8>, Instruction) {
    use iced_x86::{Code, Encoder, MemoryOperand};
    const BASES: [Register; 3] = [Register::RBX, Register::RDI, Register::R10];
    const OTHERS: [Register; 6] =
        [Register::RAX, Register::R9, Register::R11, Register::RCX, Register::R13, Register::RDI];
    let base = BASES[random.below(3) as usize];
    let other = OTHERS[random.below(6) as usize];
    let index = match random.below(5) {
        0 => Register::RCX,
        1 => Register::R11,
        _ => Register::None,
    };
    let at = MemoryOperand::with_base_index_scale_displ_size(
        base,
        index,
        if index == Register::None { 1 } else { 1 << random.below(4) },
        random.below(96) as i64 - 32,
        8,
    );
    let made = match random.below(16) {
        0 => Instruction::with2(Code::Add_rm64_imm8, base, random.below(64) as i32 - 32),
        1 => Instruction::with2(Code::Lea_r64_m, base, MemoryOperand::with_base_displ(base, 16)),
        2 => Instruction::with1(Code::Inc_rm64, base),
        3 => Instruction::with2(Code::Mov_r64_rm64, base, BASES[random.below(3) as usize]),
        4 => Instruction::with2(Code::Xor_rm32_r32, Register::ECX, Register::ECX),
        5 | 6 => Instruction::with2(Code::Adc_r64_rm64, other, at),
        7 => Instruction::with2(Code::Adc_rm64_r64, at, other),
        8 => Instruction::with2(Code::Mov_rm64_r64, at, other),
        9 => Instruction::with2(Code::Mov_r32_rm32, Register::EAX, at),
        10 => Instruction::with2(Code::Cmp_rm8_imm8, at, 5),
        11 => Instruction::with2(Code::Movups_xmm_xmmm128, Register::XMM1, at),
        12 => Instruction::with2(Code::Movaps_xmmm128_xmm, at, Register::XMM1),
        13 => Instruction::with2(Code::Sbb_rm64_r64, other, Register::RAX),
        14 => Instruction::with2(Code::Xchg_rm64_r64, at, other),
        _ => Instruction::with1(Code::Push_rm64, at),
    };
    let mut encoder = Encoder::new(64);
    let made = made.expect("an instruction");
    encoder.encode(&made, 0x1000).expect("its encoding");
    let bytes = encoder.take_buffer();
    let i = Decoder::with_ip(64, &bytes, 0x1000, DecoderOptions::NONE).decode();
    (bytes, i)
}

#[test]
fn slower_forms_do_the_same() {
    let without = Without {
        bmi2: true,
        avx: true,
        avx512: true,
        fsgsbase: true,
        xsave: true,
        shm: false,
        processes: false,
    };
    let options = Options { without, tiny_tlb: true, ..HOT };
    compare(|| long(&[]), 64, 0x1234_5678_9abc_def3, &options, false);
    compare(|| flat_32(&[]), 32, 0xfeed_5678_9abc_def3, &options, false);
    let options = Options { one_instruction: true, code_size: Some(0), ..HOT };
    compare(|| long(&[]), 64, 0x1234_5678_9abc_def5, &options, false);
}

/// Operands with displacements whose addresses have 32 bits are not left to the interpreter.
#[test]
fn narrow_addresses_are_computed_in_the_block() {
    // mov ecx,1000; mov ebx,0x3000; l: mov eax,[ebx+8]; mov [ebx+12],eax; dec ecx; jnz l; hlt
    let start = [0xb9, 0xe8, 3, 0, 0, 0xbb, 0, 0x30, 0, 0];
    let narrow: &[u8] = &[0x8b, 0x43, 8, 0x89, 0x43, 12, 0x49, 0x75, 0xf7, 0xf4];
    let wide: &[u8] = &[0x67, 0x8b, 0x43, 8, 0x67, 0x89, 0x43, 12, 0xff, 0xc9, 0x75, 0xf4, 0xf4];
    for mut bench in [flat_32(&[&start, narrow].concat()), long(&[&start, wide].concat())] {
        bench.cpu.set_options(&HOT, None);
        assert_eq!(bench.cpu.run_loop(), accel::Exit::Halted);
        let interpreted = bench.cpu.counts.interpreted;
        assert!(interpreted < 20, "{interpreted} instructions were interpreted");
    }
}

#[test]
fn lock_step_finds_a_wrong_translation_and_no_other() {
    // mov ecx,1000; l: mov eax,0x11223344; add [0x3000],eax; push rax; pop rdx; dec ecx; jnz l; hlt
    let code = [
        0xb9, 0xe8, 3, 0, 0, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x01, 0x04, 0x25, 0, 0x30, 0, 0, 0x50, 0x5a, 0xff,
        0xc9, 0x75, 0xee, 0xf4,
    ];
    let mut bench = long(&code);
    bench.cpu.set_options(&Options { lockstep: true, ..HOT }, None);
    assert_eq!(bench.cpu.run_loop(), accel::Exit::Halted);
    assert_eq!(bench.memory.read_int(0x3000, 4), u64::from(0x1122_3344u32.wrapping_mul(1000)));
    assert!(bench.cpu.jit.made > 2);
    let cache = bench.cpu.jit.cache.as_mut().expect("code");
    let at = cache.find(&code[5..10]).expect("the instruction");
    cache.patch(at + 1, &[0x45]);
    bench.cpu.state.rip = 0x1000;
    bench.cpu.state.activity = x86::Activity::Running;
    assert_eq!(bench.cpu.run_loop(), accel::Exit::Failed);
}

/// User code is translated once for its physical page, and does with what it computes from RIP what each linear address
/// asks for.
#[test]
fn user_code_at_other_addresses_is_the_same_translation() {
    // mov ecx,20; l: lea rax,[rip+0x100]; add [rip to 0x3000],ecx; call 0x6000; dec ecx; jnz l; ud2
    let code = [
        0xb9, 20, 0, 0, 0, 0x48, 0x8d, 0x05, 0, 1, 0, 0, 0x01, 0x0d, 0xee, 0x1f, 0, 0, 0xe8, 0xe9, 0x4f, 0,
        0, 0xff, 0xc9, 0x75, 0xea, 0x0f, 0x0b,
    ];
    // mov rdx,[rsp]; lea rbx,[rip-16]; ret
    let function = [0x48, 0x8b, 0x14, 0x24, 0x48, 0x8d, 0x1d, 0xf0, 0xff, 0xff, 0xff, 0xc3];
    for options in [HOT, Options { threshold: Some(3), ..HOT }] {
        let mut bench = long(&code);
        bench.memory.write(0x6000, &function);
        // The lowest 2 MiB again, at 5 and at 8 GiB.
        for gib in [5, 8] {
            bench.memory.write_int(0x11000 + 8 * gib, 8, 0x12007);
        }
        let mut user = bench.cpu.state.clone();
        user.cpl = 3;
        user.seg[1].attributes = 0xa0fb;
        user.seg[2].attributes = 0xc0f3;
        bench.cpu.load_state(&user);
        bench.cpu.set_options(&options, None);
        let (mut sum, mut made) = (0, Vec::new());
        for gib in [5, 8, 5, 0, 8] {
            let base = gib << 30;
            for _ in 0..4 {
                (bench.cpu.state.rip, bench.cpu.state.gpr[4]) = (base + 0x1000, base + 0x8000);
                bench.cpu.state.activity = x86::Activity::Running;
                bench.cpu.shutdown = false;
                // There is no task state to find a stack for the handler in.
                assert_eq!(bench.cpu.run_loop(), accel::Exit::Shutdown);
                let gpr = &bench.cpu.state.gpr;
                assert_eq!([gpr[0], gpr[2], gpr[3]], [base + 0x110c, base + 0x1017, base + 0x5ffb]);
                assert_eq!((gpr[1], gpr[4], bench.cpu.state.rip), (0, base + 0x8000, base + 0x101b));
                sum += 210;
                assert_eq!(bench.memory.read_int(0x3000, 4), sum);
            }
            made.push(bench.cpu.jit.made);
        }
        // Addresses of 32 bits have translations of their own.
        assert!(made[0] > 0 && made[0] == made[1] && made[1] == made[2], "{made:?}");
        assert!(made[2] < made[3] && made[3] == made[4], "{made:?}");
    }
}

/// Where addresses stop being mapped, canonical, or 32 or 64 bits wide.
const BORDERS: [u64; 6] = [0, 0x20_0000, 1 << 32, 1 << 47, u64::MAX << 47, 1 << 63];

/// Processor time that a thread has used.
fn used(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; a clock that does not exist is an error, which leaves it alone.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Loops without an end are left when the caller's event comes (the monitor's stop), and interrupted when an interrupt
/// does (a timer), within 100 us of the vCPU's processor time.
#[test]
fn endless_loops_can_be_stopped_at_once() {
    const TRIES: usize = 7;
    let loops: [&[u8]; 5] = [
        &[0xeb, 0xfe],                                                             // jmp $
        &[0xd9, 0xe8, 0xde, 0xc1, 0xeb, 0xfa],                                     // fld1; faddp; jmp
        &[0x31, 0xc0, 0xbf, 0, 0, 8, 0, 0xb9, 0, 0, 8, 0, 0xf3, 0xaa, 0xeb, 0xf0], // rep stosb of 512 KiB
        &[0x48, 0x8d, 0x05, 2, 0, 0, 0, 0xff, 0xe0, 0xeb, 0xf5], // lea rax,[rip+2]; jmp rax; jmp
        &[0xbf, 0, 0, 8, 0, 0xb9, 0, 0, 8, 0, 0xf2, 0xae, 0xeb, 0xf2], // repne scasb of 512 KiB
    ];
    let mut clock = 0;
    // SAFETY: the thread is this one, and `clock` is valid for writing.
    assert_eq!(unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) }, 0);
    for (code, event) in loops.into_iter().flat_map(|code| [(code, Event::Exit), (code, Event::Intr)]) {
        for options in [Options { translate: false, ..HOT }, HOT] {
            let mut took = Vec::new();
            for _ in 0..TRIES {
                let mut bench = long(code);
                bench.cpu.set_options(&options, None);
                bench.cpu.state.rflags |= flags::IF;
                let signals = bench.cpu.signals.clone();
                let raised = std::thread::scope(|scope| {
                    let raised = scope.spawn(move || {
                        std::thread::sleep(Duration::from_millis(5));
                        let raised = used(clock);
                        signals.raise(event);
                        raised
                    });
                    if event == Event::Exit {
                        assert_eq!(bench.cpu.run_loop(), accel::Exit::Interrupted, "{code:02x?}");
                    } else {
                        // Each call ends by a look at events.
                        while bench.cpu.signals.pending() & event as u32 == 0 {
                            bench.cpu.run_blocks(1);
                        }
                    }
                    let now = used(clock);
                    now.saturating_sub(raised.join().expect("the other thread"))
                });
                took.push(raised);
                assert!(bench.cpu.state.rip.wrapping_sub(0x1000) <= code.len() as u64);
            }
            // The other thread may be held up between its two steps.
            took.sort();
            assert!(took[TRIES / 2] < Duration::from_micros(100), "{code:02x?} {event:?}: {took:?}");
        }
    }
}

/// Everything is translated at once.
const HOT: Options = Options {
    translate: true,
    threshold: Some(0),
    code_size: None,
    single: false,
    one_instruction: false,
    tiny_tlb: false,
    lazy_flags: false,
    lockstep: false,
    perfmap: false,
    jitdump: false,
    lane_b: crate::LaneB::Off,
    without: Without {
        bmi2: false,
        avx: false,
        avx512: false,
        fsgsbase: false,
        shm: false,
        xsave: false,
        processes: false,
    },
};

/// 32-bit code with SSE, and bases in FS and GS.
fn flat_32(code: &[u8]) -> Bench {
    let mut b = protected(code);
    let mut s = b.cpu.state.clone();
    s.cr4 |= x86::reg::cr4::OSFXSR;
    b.cpu.load_state(&s);
    b
}

/// Where the function in another page is.
const FUNCTION: u64 = 0xa000;
/// push rbp; add rdx, rcx; mov rbp, [0x20010]; pop rbp; ret
const FUNCTION_CODE: [u8; 14] = [0x55, 0x48, 0x01, 0xca, 0x48, 0x8b, 0x2c, 0x25, 0x10, 0, 2, 0, 0x5d, 0xc3];
/// Where the function in the same page is, after what random code reaches.
const NEAR: u64 = 0x1e00;
/// lea rax, [rax + 1]; ret
const NEAR_CODE: [u8; 5] = [0x48, 0x8d, 0x40, 1, 0xc3];
/// Holds the address of [`FUNCTION`].
const POINTER: u64 = 0x1e80;

/// A random jump, call or nothing for the code at `at`, before an instruction of `length` bytes; whether a condition
/// may be used, and whether the flags are defined afterwards.
fn branch(random: &mut Random, at: u64, length: usize, conditions: bool) -> (Vec<u8>, bool) {
    let relative = |size: u64, to: u64| (to.wrapping_sub(at + size) as u32).to_le_bytes();
    match random.below(8) {
        0 | 1 if conditions => (vec![0x70 | random.below(16) as u8, length as u8], false),
        2 => ([&[0xe8][..], &relative(5, FUNCTION)].concat(), true),
        3 => ([&[0xe8][..], &relative(5, NEAR)].concat(), false),
        4 => ([&[0xff, 0x15][..], &relative(6, POINTER)].concat(), true),
        5 => (vec![0xeb, 0], false),
        _ => (Vec::new(), false),
    }
}

/// Runs random code in both tiers.
fn compare(make: impl Fn() -> Bench, bits: u8, seed: u64, options: &Options, branches: bool) {
    let form = if branches { Form::Branches } else { Form::Straight };
    compare_of(|random| instruction(random, bits), make, bits, seed, options, form);
}

/// The same with instructions from `instruction`.
fn compare_of(
    instruction: impl Fn(&mut Random) -> (Vec<u8>, Instruction),
    make: impl Fn() -> Bench,
    bits: u8,
    seed: u64,
    options: &Options,
    form: Form,
) {
    let branches = form == Form::Branches;
    let (mut a, mut b) = (make(), make());
    assert_eq!(super::host_is_able(Without::default()), Ok(()));
    a.cpu.set_options(options, None);
    let cases = std::env::var("TINAMOU_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(5_000);
    let cases = if *options == HOT { cases } else { cases / 5 };
    let mut random = Random(seed);
    let mut ran = 0;
    let mut made = 0;
    // What was not compared may have left the two different.
    let mut skipped_one = false;
    while ran < cases {
        let mut code = Vec::new();
        // What is undefined now, and what was at any time.
        let (mut undefined, mut ever) = (0, 0);
        let mut list = Vec::new();
        let mut bad = false;
        for _ in 0..=random.below(if branches { 12 } else { 6 }) {
            let (bytes, i) = instruction(&mut random);
            let (read, written) = classify::flags(&i, classify::kind(&i, ALL));
            bad |= i.rflags_read() & undefined != 0 || read == classify::ARITH && undefined != 0;
            let mut skipped = 0;
            if branches {
                let at = 0x1000 + code.len() as u64;
                let (jump, defined) = branch(&mut random, at, bytes.len(), undefined == 0);
                code.extend(&jump);
                undefined = if defined { 0 } else { undefined };
                skipped = undefined;
            }
            undefined = skipped | undefined & !written | i.rflags_undefined();
            if matches!(i.mnemonic(), Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Tzcnt | Mnemonic::Lzcnt) {
                undefined |= classify::ARITH & !iced_x86::RflagsBits::ZF;
            }
            if matches!(i.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr) {
                // Also where the count is a multiple of what goes round.
                undefined |= iced_x86::RflagsBits::OF;
            }
            bad |= i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register();
            // The frame of a fault could wrap.
            bad |= i.op0_register() == Register::SP
                || i.op0_register().full_register() == Register::RSP && (i.op_count() > 1 || bits == 32)
                || bits == 32 && i.mnemonic() == Mnemonic::Leave && !list.is_empty();
            // Counts above 16 give undefined results.
            bad |= matches!(i.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd) && (i.op1_register().size() == 2);
            ever |= undefined;
            code.extend(bytes);
            list.push(i);
        }
        if bad {
            continue;
        }
        ran += 1;
        if ran % 500 == 0 || std::mem::take(&mut skipped_one) {
            // What a case did to tables and handlers would spoil the others.
            made += a.cpu.jit.made;
            (a, b) = (make(), make());
            a.cpu.set_options(options, None);
        }
        if form == Form::Loop {
            code.splice(0..0, [&[0x41, 0xbe][..], &(1 + random.below(4) as u32).to_le_bytes()].concat());
            let counts: [&[u8]; 4] = [
                &[0x49, 0x83, 0xc6, 0xff],                         // add r14, -1
                &[0x41, 0xff, 0xce],                               // dec r14d
                &[0x41, 0xff, 0xce, 0x45, 0x85, 0xf6],             // dec r14d; test r14d, r14d
                &[0x4d, 0x8d, 0x76, 0xff, 0x49, 0x83, 0xfe, 0x00], // lea r14, [r14 - 1]; cmp r14, 0
            ];
            code.extend(counts[random.below(4) as usize]);
            let length = code.len() as u32;
            code.extend([&[0x0f, 0x85][..], &6u32.wrapping_sub(length + 6).to_le_bytes()].concat());
        }
        code.push(0xf4);
        let seed = random.number() | 1;
        if branches {
            for bench in [&mut a, &mut b] {
                bench.memory.write(FUNCTION, &FUNCTION_CODE);
                bench.memory.write(NEAR, &NEAR_CODE);
                bench.memory.write_int(POINTER, 8, FUNCTION);
            }
        }
        registers(&mut a, &mut Random(seed), &code);
        registers(&mut b, &mut Random(seed), &code);
        let before = b.cpu.state.clone();
        let (x, y) = (a.cpu.run_blocks(60), b.cpu.run_blocks(60));
        let text = || {
            let names: Vec<String> = list.iter().map(|i| format!("{:?} {:?}", i.code(), i)).collect();
            format!("case {ran}: {names:#?}\n{code:02x?}\nfrom {:x?}", before.gpr)
        };
        if x.is_none() || y.is_none() {
            skipped_one = true;
            continue;
        }
        assert_eq!(x, y, "{}", text());
        if x == Some(accel::Exit::Shutdown) && ever != 0 {
            skipped_one = true;
            continue;
        }
        let faulted = a.cpu.state.rip < 0x2200 && a.cpu.state.rip >= 0x2000;
        assert_eq!(a.cpu.state.gpr, b.cpu.state.gpr, "registers, {}", text());
        assert_eq!(a.cpu.state.rip, b.cpu.state.rip, "rip, {}", text());
        assert_eq!(a.cpu.state.cr2, b.cpu.state.cr2, "cr2, {}", text());
        assert_eq!(a.cpu.state.rflags, b.cpu.state.rflags, "system flags, {}", text());
        let bases = |bench: &Bench| (bench.cpu.state.seg.map(|s| s.base), bench.cpu.state.kernel_gs_base);
        assert_eq!(bases(&a), bases(&b), "bases, {}", text());
        assert_eq!(a.cpu.state.zmm, b.cpu.state.zmm, "vectors, {}", text());
        assert_eq!(a.cpu.state.x87, b.cpu.state.x87, "x87, {}", text());
        assert_eq!(a.cpu.state.mxcsr, b.cpu.state.mxcsr, "mxcsr, {}", text());
        if faulted {
            // The handler changes no flags; those that the code left undefined are in the frame.
            let step = u64::from(bits / 8);
            for at in [a.cpu.state.gpr[4] + 2 * step, a.cpu.state.gpr[4] + 3 * step] {
                let read = |bench: &Bench| bench.memory.read_int(at, step as u8);
                let unknown = if ever == 0 { 0 } else { flags::ARITH };
                let (v, w) = (read(&a) & !unknown, read(&b) & !unknown);
                assert_eq!(v, w, "frame {:x} {:x}, {}", read(&a), read(&b), text());
                a.memory.write_int(at, step as u8, v);
                b.memory.write_int(at, step as u8, w);
            }
        } else {
            let mask = [(1, 11), (2, 7), (4, 6), (8, 4), (16, 0), (32, 2)]
                .iter()
                .filter(|(bit, _)| undefined & bit == 0)
                .fold(0, |m, (_, at)| m | 1u64 << at);
            assert_eq!(
                a.cpu.rflags() & mask,
                b.cpu.rflags() & mask,
                "flags {undefined:x} at {:x}, {}",
                a.cpu.state.rip,
                text()
            );
        }
        for page in (0..0x200u64).step_by(if ran % 256 == 0 { 1 } else { 0x33 }) {
            let (mut p, mut q) = (vec![0; 4096], vec![0; 4096]);
            a.memory.read(page << 12, &mut p);
            b.memory.read(page << 12, &mut q);
            if let Some(at) = (0..4096).find(|&n| p[n] != q[n]) {
                panic!(
                    "memory {page:#x}000 + {at:#x}: {:x?} {:x?} x {x:?} rip {:x}, {}",
                    &p[at..at + 8],
                    &q[at..at + 8],
                    a.cpu.state.rip,
                    text()
                );
            }
        }
    }
    assert!(made + a.cpu.jit.made > cases / 2, "{} translations", made + a.cpu.jit.made);
}
