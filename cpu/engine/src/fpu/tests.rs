use super::host::{Image, run, run_flags};
use super::*;
use crate::vector::Operands;
use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use x86::reg::{cr4, flags};
use x86::{X86State, X87};

struct Insn(Instruction);

impl Operands for Insn {
    fn register(&self, n: usize) -> usize {
        self.0.op_register(n as u32).number()
    }
    fn is_memory(&self, n: usize) -> bool {
        self.0.op_kind(n as u32) == OpKind::Memory
    }
    fn immediate(&self) -> u8 {
        self.0.immediate8()
    }
    fn second_immediate(&self) -> u8 {
        0
    }
    fn vector_index(&self) -> (usize, u64) {
        (0, 1)
    }
}

/// 512 bytes at offset 0; everything beyond faults.
struct Bench {
    state: Box<X86State>,
    memory: [u8; 512],
    ferr: u32,
}

impl Bench {
    fn new() -> Self {
        let mut state = Box::new(X86State::default());
        state.cr0 = cr0::PE | cr0::NE;
        state.cr4 = cr4::OSFXSR;
        state.x87 = X87::default();
        Self { state, memory: [0; 512], ferr: 0 }
    }

    fn run(&mut self, code: &[u8]) -> Result<(), u8> {
        let insn = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).decode();
        assert!(!insn.is_invalid());
        lookup::<Self>(insn.code()).expect("a row")(self, &Insn(insn))
    }
}

impl Machine for Bench {
    type Insn = Insn;
    type Fault = u8;
    fn x86(&mut self) -> &mut X86State {
        &mut self.state
    }
    fn fault(&mut self, vector: u8) -> u8 {
        vector
    }
    fn set_flags(&mut self, value: u64) {
        self.set_arith_flags(value);
    }
    fn load_gathered<const N: usize>(&mut self, insn: &Insn, displacement: u64) -> Result<[u8; N], u8> {
        self.load_part(insn, displacement)
    }
    fn load<const N: usize>(&mut self, insn: &Insn, _: bool) -> Result<[u8; N], u8> {
        self.load_part(insn, 0)
    }
    fn store<const N: usize>(&mut self, insn: &Insn, value: [u8; N], _: bool) -> Result<(), u8> {
        self.store_part(insn, 0, value)
    }
    fn load_part<const N: usize>(&mut self, insn: &Insn, displacement: u64) -> Result<[u8; N], u8> {
        self.check_store_part(insn, displacement, N)?;
        let at = insn.0.memory_displacement64() as usize + displacement as usize;
        Ok(std::array::from_fn(|i| self.memory[at + i]))
    }
    fn store_part<const N: usize>(
        &mut self,
        insn: &Insn,
        displacement: u64,
        value: [u8; N],
    ) -> Result<(), u8> {
        self.check_store_part(insn, displacement, N)?;
        let at = insn.0.memory_displacement64() as usize + displacement as usize;
        self.memory[at..at + N].copy_from_slice(&value);
        Ok(())
    }
    fn check_store_part(&mut self, insn: &Insn, displacement: u64, size: usize) -> Result<(), u8> {
        let end = insn.0.memory_displacement64() as usize + displacement as usize + size;
        if end <= 512 { Ok(()) } else { Err(vector::PF) }
    }
}

impl FpuMachine for Bench {
    fn insn_start(&self, insn: &Insn) -> u64 {
        insn.0.ip()
    }
    fn operand_pointer(&self, insn: &Insn) -> (u16, u64) {
        (0x2b, insn.0.memory_displacement64())
    }
    fn arith_flags(&self) -> u64 {
        self.state.rflags & flags::ARITH
    }
    fn set_arith_flags(&mut self, value: u64) {
        self.state.rflags = self.state.rflags & !flags::ARITH | value;
    }
    fn check_aligned(&mut self, _: &Insn, _: u64) -> Result<(), u8> {
        Ok(())
    }
    fn fpu_error(&mut self) {
        self.ferr += 1;
    }
}

/// `op [disp32]` in 64-bit mode.
fn at(opcode: u8, extension: u8, address: u32) -> Vec<u8> {
    let mut code = vec![opcode, extension << 3 | 4, 0x25];
    code.extend(address.to_le_bytes());
    code
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Registers with values of all kinds, some of them empty.
fn random_state(seed: &mut u64) -> X87 {
    let mut x87 = X87 {
        fsw: (random(seed) as u16 & 7) << 11,
        ftw: random(seed) as u8 | random(seed) as u8,
        ..X87::default()
    };
    for value in &mut x87.regs {
        let fraction = random(seed);
        value[..8].copy_from_slice(&(fraction | 1 << 63).to_le_bytes());
        let exponent = match random(seed) % 6 {
            0 => 0x7fff,
            1 => 0,
            _ => 0x3fff + (random(seed) % 64) as u16 - 32,
        };
        value[8..10].copy_from_slice(&(exponent | random(seed) as u16 & 0x8000).to_le_bytes());
    }
    x87
}

/// Compares `code` with the same bytes run by the host on the whole state.
fn compare<const B0: u8, const MODRM: u8>(seed: &mut u64) {
    for _ in 0..200 {
        let mut bench = Bench::new();
        bench.state.x87 = random_state(seed);
        bench.set_arith_flags(random(seed) & flags::ARITH);
        let mut expected = bench.state.x87;
        let mut image = Image::new(&expected);
        let with_flags = matches!((B0, MODRM), (0xda | 0xdb | 0xdf, 0xc0..)) && (B0, MODRM) != (0xda, 0xe9);
        let mut after = bench.arith_flags();
        if with_flags {
            after = run_flags::<B0, MODRM>(&mut image, after) & flags::ARITH;
        } else {
            run::<B0, MODRM>(&mut image);
        }
        image.store(&mut expected);
        assert_eq!(bench.run(&[B0, MODRM]), Ok(()));
        let ours = bench.state.x87;
        assert_eq!(
            (ours.fsw, ours.ftw, ours.regs, bench.arith_flags()),
            (expected.fsw, expected.ftw, expected.regs, after),
            "{B0:x} {MODRM:x}"
        );
    }
}

#[test]
fn any_register_can_be_the_second_operand() {
    let mut seed = 0x1234_5678_9abc_def1;
    macro_rules! all {
        ($($b0:literal $modrm:literal)*) => {$(
            compare::<$b0, $modrm>(&mut seed);
            compare::<$b0, { $modrm + 1 }>(&mut seed);
            compare::<$b0, { $modrm + 3 }>(&mut seed);
            compare::<$b0, { $modrm + 7 }>(&mut seed);
        )*};
    }
    all! {
        0xd8 0xc0 0xd8 0xd0 0xd8 0xd8 0xd8 0xe8 0xd8 0xf0 0xd9 0xc0 0xd9 0xc8 0xda 0xc0 0xda 0xd8 0xdb 0xc8 0xdb 0xe8
        0xdb 0xf0 0xdc 0xc8 0xdc 0xe0 0xdc 0xf8 0xdd 0xc0 0xdd 0xd0 0xdd 0xd8 0xdd 0xe8 0xde 0xc0 0xde 0xe8 0xdf 0xc0
        0xdf 0xe8 0xdf 0xf0
    }
    compare::<0xd9, 0xfb>(&mut seed);
    compare::<0xde, 0xd9>(&mut seed);
    compare::<0xda, 0xe9>(&mut seed);
}

#[test]
fn loads_and_stores() {
    let mut bench = Bench::new();
    bench.memory[8..16].copy_from_slice(&1.5f64.to_le_bytes());
    bench.run(&at(0xdd, 0, 8)).unwrap(); // fld qword
    assert_eq!((bench.state.x87.top(), bench.state.x87.ftw), (7, 0x80));
    assert_eq!((bench.state.x87.fip, bench.state.x87.fdp, bench.state.x87.fds), (0x1000, 8, 0x2b));
    bench.run(&at(0xd8, 1, 100)).unwrap(); // fmul dword [100] = 0
    bench.run(&at(0xdd, 2, 8)).unwrap(); // fst qword: a zero is written too
    assert_eq!(bench.memory[8..16], [0; 8]);
    let before = bench.state.x87;
    assert_eq!(bench.run(&at(0xdd, 3, 508)), Err(vector::PF));
    assert_eq!(bench.state.x87, before);
    bench.run(&at(0xdb, 7, 16)).unwrap(); // fstp tbyte
    assert_eq!(bench.state.x87.ftw, 0);
}

#[test]
fn unmasked_errors_wait() {
    let mut bench = Bench::new();
    bench.memory[0..2].copy_from_slice(&0x37eu16.to_le_bytes());
    bench.run(&at(0xd9, 5, 0)).unwrap(); // fldcw: invalid unmasked
    bench.memory[8..16].fill(0x11);
    bench.run(&at(0xdd, 3, 8)).unwrap(); // fstp of an empty register: recorded, nothing stored or popped
    assert_eq!(bench.memory[8..16], [0x11; 8]);
    assert_eq!((bench.state.x87.fsw & 0x80ff, bench.state.x87.top()), (0x80c1, 0));
    assert_eq!(bench.run(&[0x9b]), Err(vector::MF));
    assert_eq!(bench.run(&[0xd9, 0xe8]), Err(vector::MF));
    assert_eq!(bench.run(&[0x0f, 0x77]), Err(vector::MF));
    assert_eq!(bench.run(&[0xdf, 0xe0]), Ok(())); // fnstsw does not wait
    assert_eq!(bench.state.gpr[0] as u16, bench.state.x87.fsw);
    bench.state.cr0 &= !cr0::NE;
    assert_eq!((bench.run(&[0x9b]), bench.ferr), (Ok(()), 1));
    assert_eq!(bench.run(&[0xdb, 0xe2]), Ok(())); // fnclex
    assert_eq!(bench.state.x87.fsw & 0x80ff, 0);
}

#[test]
fn the_unit_can_be_off() {
    let mut bench = Bench::new();
    bench.state.cr0 |= cr0::TS;
    for code in [&[0xd9, 0xe8][..], &[0xdb, 0xe3], &[0x0f, 0x77], &[0x0f, 0xfc, 0xc1]] {
        assert_eq!(bench.run(code), Err(vector::NM));
    }
    assert_eq!(bench.run(&[0x9b]), Ok(()));
    bench.state.cr0 |= cr0::MP;
    assert_eq!(bench.run(&[0x9b]), Err(vector::NM));
    bench.state.cr0 = cr0::PE | cr0::EM;
    assert_eq!(bench.run(&[0xd9, 0xe8]), Err(vector::NM));
    assert_eq!(bench.run(&[0x0f, 0xfc, 0xc1]), Err(vector::UD));
}

#[test]
fn environments_and_areas_come_back() {
    let mut seed = 77;
    for save in [[0xdd, 6, 4], [0xd9, 6, 4]] {
        let mut bench = Bench::new();
        bench.state.x87 =
            X87 { fip: 0x1234, fcs: 0x23, fdp: 0x567, fds: 0x2b, fop: 0x123, ..random_state(&mut seed) };
        let before = bench.state.x87;
        bench.run(&at(save[0], save[1], 0)).unwrap();
        if save[0] == 0xdd {
            assert_eq!((bench.state.x87.ftw, bench.state.x87.fsw), (0, 0));
            bench.state.x87.regs = [[0; 16]; 8];
        }
        bench.run(&at(save[0], save[2], 0)).unwrap();
        assert_eq!(bench.state.x87, before);
    }
    let mut bench = Bench::new();
    bench.state.x87 = X87 { fip: 0x1234, fcs: 0x23, ..random_state(&mut seed) };
    let before = bench.state.x87;
    let mut area = [0; 160];
    legacy_area(&before, false, &mut area);
    bench.state.x87 = X87::default();
    load_legacy_area(&mut bench.state.x87, false, &area);
    assert_eq!(bench.state.x87, before);
}

#[test]
fn mmx_registers_are_x87_registers() {
    let mut bench = Bench::new();
    bench.state.x87.fsw = 3 << 11;
    bench.state.gpr[0] = 0x00ff_8001;
    bench.run(&[0x0f, 0x6e, 0xc8]).unwrap(); // movd mm1, eax
    let x87 = &bench.state.x87;
    assert_eq!(
        (x87.top(), x87.ftw, &x87.regs[1][..10]),
        (0, 0xff, &[1, 0x80, 0xff, 0, 0, 0, 0, 0, 0xff, 0xff][..])
    );
    bench.run(&[0x0f, 0xfc, 0xc9]).unwrap(); // paddb mm1, mm1
    assert_eq!(bench.state.x87.regs[1][..4], [2, 0, 0xfe, 0]);
    bench.run(&[0x0f, 0x72, 0xf1, 4]).unwrap(); // pslld mm1, 4
    assert_eq!(bench.state.x87.regs[1][..4], [0x20, 0, 0xe0, 0x0f]);
    bench.run(&[0xf3, 0x0f, 0xd6, 0xd1]).unwrap(); // movq2dq xmm2, mm1
    assert_eq!(bench.state.zmm[2][..4], [0x20, 0, 0xe0, 0x0f]);
    bench.run(&[0x0f, 0x77]).unwrap();
    assert_eq!(bench.state.x87.ftw, 0);
}

/// Every instruction of these features has an executor, but for those of the 8087 and 287 alone.
#[test]
fn nothing_is_missing() {
    let names = |code: Code| format!("{code:?}");
    let elsewhere = |name: &str| name.starts_with("D3NOW") || name.contains("SETPM") || name == "Femms";
    let missing: Vec<String> = Code::values()
        .filter(|code| {
            let name = names(*code);
            // Cyrix's extended MMX and FPU instructions, and waiting forms (decoded as WAIT and the plain form).
            let cyrix = [
                "Paveb",
                "Paddsiw",
                "Pmagw",
                "Pdistib",
                "Psubsiw",
                "Pmv",
                "Pmulhrw_mm",
                "Pmulhriw",
                "Pmachriw",
            ];
            let old = [
                "Frstpm",
                "Fstdw_AX",
                "Fstsg_AX",
                "Fnstdw_AX",
                "Fnstsg_AX",
                "Ftstp",
                "Frint2",
                "Frichop",
                "Frinear",
                "Frndint2",
                // With the XSAVE instructions.
                "Fxsave",
                "Fxrstor",
            ];
            let waiting = ["Fstenv", "Fstcw", "Fstsw", "Fsave", "Fclex", "Finit", "Feni", "Fdisi", "Fsetpm"];
            let x87 = name.starts_with('F') && !name.starts_with("Far")
                || name.contains("_mm_")
                || name.ends_with("_mm");
            x87 && !elsewhere(&name)
                && ![&cyrix[..], &old, &waiting].concat().iter().any(|p| name.starts_with(p))
        })
        .filter(|code| lookup::<Bench>(*code).is_none())
        .map(names)
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_pending_exception_that_is_passed_over_stays_the_guests() {
    let mut bench = Bench::new();
    bench.state.cr0 &= !cr0::NE;
    bench.state.x87 = X87 { fcw: 0x40, fsw: 0x8481, ftw: 0, ..X87::default() };
    // fld1, then fadd st, st(0), with an invalid operation pending and unmasked.
    bench.run(&[0xd9, 0xe8]).expect("no exception");
    bench.run(&[0xd8, 0xc0]).expect("no exception");
    assert_eq!(bench.ferr, 2);
    assert_eq!((bench.state.x87.fcw, bench.state.x87.fsw & 0x8081), (0x40, 0x8081));
}
