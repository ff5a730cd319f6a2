//! What the comparison with the host cannot see: when the unit is off, and where save areas have its registers.

use crate::testing::{Bench, Raised};
use x86::reg::{cr0, cr4, gpr, seg, vector};
use x86::{Segment, X86State};

/// Where the code is.
const CODE: u64 = 0x1000;
/// kmovq k1, k2; vmovdqa64 zmm1, zmm2
const BOTH: [&[u8]; 2] = [&[0xc4, 0xe1, 0xf8, 0x90, 0xca], &[0x62, 0xf1, 0xfd, 0x48, 0x6f, 0xca]];

/// A processor of 32-bit protected mode with everything on; `None` where guests are not shown AVX-512.
fn bench() -> Option<(Bench, X86State)> {
    let bench = Bench::new("max", 1 << 20).unwrap();
    let mut s = X86State { rip: CODE, xcr0: 0xe7, ..X86State::default() };
    s.cr0 = cr0::PE | cr0::ET | cr0::NE;
    s.cr4 = cr4::OSFXSR | cr4::OSXSAVE;
    s.seg = [Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 0x10 }; 6];
    s.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc09b, selector: 8 };
    super::host_is_able().then_some((bench, s))
}

/// The vector of the exception that `code` raises.
fn step(bench: &mut Bench, state: &X86State, code: &[u8]) -> Result<(), u8> {
    bench.memory().write(CODE, code);
    bench.set_state(state);
    bench.step().map_err(|Raised { vector, .. }| vector)
}

#[test]
fn control_registers_switch_the_unit_off() {
    let Some((mut bench, state)) = bench() else { return };
    let mut with = |change: fn(&mut X86State)| {
        let mut state = state.clone();
        change(&mut state);
        BOTH.map(|code| step(&mut bench, &state, code))
    };
    assert_eq!(with(|_| ()), [Ok(()); 2]);
    assert_eq!(with(|s| s.cr0 |= cr0::TS), [Err(vector::NM); 2]);
    assert_eq!(with(|s| s.cr4 &= !cr4::OSXSAVE), [Err(vector::UD); 2]);
    assert_eq!(with(|s| s.cr4 &= !cr4::OSFXSR), [Ok(()); 2]);
    for xcr0 in [7u64, 0xe3, 0xc7, 0xa7, 0x67] {
        let state = X86State { xcr0, cr0: state.cr0 | cr0::TS, ..state.clone() };
        for code in BOTH {
            assert_eq!(step(&mut bench, &state, code), Err(vector::UD), "XCR0 {xcr0:#x}");
        }
    }
}

#[test]
fn xcr0_has_all_of_it_or_nothing() {
    let Some((mut bench, mut state)) = bench() else { return };
    for (value, good) in [(0xe7, true), (7, true), (0xe3, false), (0x67, false), (0xc7, false), (0xe1, false)]
    {
        state.gpr[gpr::RAX] = value;
        let result = step(&mut bench, &state, &[0x0f, 0x01, 0xd1]);
        assert_eq!(result, if good { Ok(()) } else { Err(vector::GP) }, "XCR0 {value:#x}");
    }
}

#[test]
fn areas_have_the_registers_where_cpuid_says() {
    const AREA: u64 = 0x4000;
    let Some((mut bench, mut state)) = bench() else { return };
    state.gpr[gpr::RSI] = AREA;
    (state.gpr[gpr::RAX], state.gpr[gpr::RDX]) = (u64::MAX >> 32, u64::MAX >> 32);
    state.opmask[7] = 0x0123_4567_89ab_cdef;
    state.zmm[5][32..].fill(0x55);
    state.zmm[20].fill(0x20);
    let leaf = |n: u32| crate::testing::cpuid("max").unwrap().read(0xd, n);
    let at = |n: u32| u64::from(leaf(n).ebx);
    // xsave [esi]. ZMM16 to ZMM31 are of 64-bit mode.
    assert_eq!(step(&mut bench, &state, &[0x0f, 0xae, 0x26]), Ok(()));
    let memory = bench.memory();
    assert_eq!(memory.read_int(AREA + at(5) + 56, 8), state.opmask[7]);
    assert_eq!(memory.read_int(AREA + at(6) + 5 * 32, 8), 0x5555_5555_5555_5555);
    assert_eq!(memory.read_int(AREA + at(7) + 4 * 64, 8), 0);
    assert_eq!(memory.read_int(AREA + 512, 8) & 0xe0, 0xe0);
    assert_eq!(at(7) + u64::from(leaf(7).eax), 0x680 + 1024);
    // xsavec [esi], without what is in its initial state, close together.
    memory.write(AREA, &[0; 0xb00]);
    state.gpr[gpr::RAX] = 0xe4;
    state.zmm[20].fill(0);
    assert_eq!(step(&mut bench, &state, &[0x0f, 0xc7, 0x26]), Ok(()));
    let memory = bench.memory();
    assert_eq!(memory.read_int(AREA + 512, 8), 0x60);
    assert_eq!(memory.read_int(AREA + 520, 8), 1 << 63 | 0xe4);
    assert_eq!(memory.read_int(AREA + 576 + 256 + 56, 8), state.opmask[7]);
    assert_eq!(memory.read_int(AREA + 576 + 256 + 64 + 5 * 32, 8), 0x5555_5555_5555_5555);
    // xrstor [esi] into other registers: what was left out becomes zero, what the mode has not stays.
    let mut other = state.clone();
    other.opmask = [1; 8];
    other.zmm = [[0xee; 64]; 32];
    assert_eq!(step(&mut bench, &other, &[0x0f, 0xae, 0x2e]), Ok(()));
    let after = bench.state();
    assert_eq!(after.opmask, state.opmask);
    assert_eq!((&after.zmm[5][32..], &after.zmm[4][32..]), (&[0x55; 32][..], &[0; 32][..]));
    assert_eq!((&after.zmm[5][..16], &after.zmm[20]), (&[0xee; 16][..], &[0xee; 64]));
}
