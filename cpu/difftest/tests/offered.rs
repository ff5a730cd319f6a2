//! What a model does not offer is undefined, and what it offers is executed; instructions whose results are the machine's
//! own.

use difftest::{Guest, Mode, State};
use x86::reg::{flags, vector};

/// Features with one of their instructions each (64-bit mode, operands in registers or at [RSI]).
const FEATURES: &[(&str, &[u8])] = &[
    ("sse4.2", &[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1]), // crc32 rax, rcx
    ("sse4.1", &[0x66, 0x0f, 0x38, 0x40, 0xc1]),       // pmulld xmm0, xmm1
    ("ssse3", &[0x66, 0x0f, 0x38, 0x00, 0xc1]),        // pshufb xmm0, xmm1
    ("sse4a", &[0xf2, 0x0f, 0x79, 0xc1]),              // insertq xmm0, xmm1
    ("popcnt", &[0xf3, 0x48, 0x0f, 0xb8, 0xc1]),       // popcnt rax, rcx
    ("movbe", &[0x0f, 0x38, 0xf0, 0x06]),              // movbe eax, [rsi]
    ("aes", &[0x66, 0x0f, 0x38, 0xdc, 0xc1]),          // aesenc xmm0, xmm1
    ("pclmulqdq", &[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0]), // pclmulqdq xmm0, xmm1, 0
    ("rdrand", &[0x48, 0x0f, 0xc7, 0xf0]),             // rdrand rax
    ("rdseed", &[0x48, 0x0f, 0xc7, 0xf8]),             // rdseed rax
    ("fsgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xc8]),     // rdgsbase rax
    ("bmi1", &[0xc4, 0xe2, 0xf0, 0xf2, 0xc1]),         // andn rax, rcx, rcx
    ("bmi2", &[0xc4, 0xe2, 0xf3, 0xf5, 0xc1]),         // pdep rax, rcx, rcx
    ("adx", &[0x66, 0x48, 0x0f, 0x38, 0xf6, 0xc1]),    // adcx rax, rcx
    ("clflushopt", &[0x66, 0x0f, 0xae, 0x3e]),         // clflushopt [rsi]
    ("clwb", &[0x66, 0x0f, 0xae, 0x36]),               // clwb [rsi]
    ("sha-ni", &[0x0f, 0x38, 0xc8, 0xc1]),             // sha1nexte xmm0, xmm1
    ("gfni", &[0x66, 0x0f, 0x38, 0xcf, 0xc1]),         // gf2p8mulb xmm0, xmm1
    ("rdpid", &[0xf3, 0x0f, 0xc7, 0xf8]),              // rdpid rax
    ("rdtscp", &[0x0f, 0x01, 0xf9]),                   // rdtscp
    ("cx16", &[0x48, 0x0f, 0xc7, 0x0e]),               // cmpxchg16b [rsi]
    ("avx", &[0xc5, 0xf4, 0x58, 0xc1]),                // vaddps ymm0, ymm1, ymm1
    ("avx2", &[0xc5, 0xf5, 0xfc, 0xc1]),               // vpaddb ymm0, ymm1, ymm1
    ("fma", &[0xc4, 0xe2, 0x75, 0x98, 0xc1]),          // vfmadd132ps ymm0, ymm1, ymm1
    ("f16c", &[0xc4, 0xe2, 0x7d, 0x13, 0xc1]),         // vcvtph2ps ymm0, xmm1
    ("vaes", &[0xc4, 0xe2, 0x75, 0xdc, 0xc1]),         // vaesenc ymm0, ymm1, ymm1
    ("vpclmulqdq", &[0xc4, 0xe3, 0x75, 0x44, 0xc1, 0]), // vpclmulqdq ymm0, ymm1, ymm1, 0
    ("avx-vnni", &[0xc4, 0xe2, 0x75, 0x50, 0xc1]),     // vpdpbusd ymm0, ymm1, ymm1
    ("xsave", &[0x0f, 0xae, 0x26]),                    // xsave [rsi]
    ("xsaveopt", &[0x0f, 0xae, 0x36]),                 // xsaveopt [rsi]
    ("xsavec", &[0x0f, 0xc7, 0x26]),                   // xsavec [rsi]
];

fn state() -> State {
    let mut state = State::new(Mode::Long);
    state.gpr[6] = difftest::Place::HIGH.scratch;
    state
}

fn is_undefined(guest: &mut Guest, code: &[u8]) -> bool {
    guest.run(code, &mut state()).is_some_and(|fault| fault.vector == vector::UD)
}

#[test]
fn a_feature_that_is_off_is_undefined_and_one_that_is_on_is_not() {
    let supported = engine::supported_features();
    for (name, code) in FEATURES {
        let mut without = Guest::with_model(&format!("max,-{name}")).unwrap();
        assert!(is_undefined(&mut without, code), "{name} is off and runs");
        if supported.has(name) {
            let mut with = Guest::with_model("max").unwrap();
            let result = with.run(code, &mut state());
            assert_eq!(result, None, "{name} is on");
        }
    }
}

#[test]
fn what_older_processors_ignore_is_ignored() {
    let mut guest = Guest::with_model("qemu64,-abm,-bmi1").unwrap();
    // tzcnt ecx, esi as bsf; lzcnt ecx, esi as bsr.
    for (code, expected) in [([0xf3u8, 0x0f, 0xbc, 0xce], 4), ([0xf3, 0x0f, 0xbd, 0xce], 7)] {
        let mut state = state();
        state.gpr[6] = 0x90;
        assert_eq!(guest.run(&code, &mut state), None);
        assert_eq!(state.gpr[1], expected);
    }
    // rdsspq rax, endbr64, a reserved no-operation.
    for code in [&[0xf3u8, 0x48, 0x0f, 0x1e, 0xc8][..], &[0xf3, 0x0f, 0x1e, 0xfa], &[0x0f, 0x1a, 0xc0]] {
        let mut state = state();
        state.gpr[0] = 77;
        assert_eq!(guest.run(code, &mut state), None);
        assert_eq!(state.gpr[0], 77);
    }
}

#[test]
fn random_numbers_fill_their_register_and_set_carry_only() {
    let mut guest = Guest::with_model("max").unwrap();
    for operation in [0xf0u8, 0xf8] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let mut state = state();
            (state.gpr[0], state.rflags) = (u64::MAX, flags::FIXED | flags::ARITH);
            assert_eq!(guest.run(&[0x66, 0x0f, 0xc7, operation], &mut state), None);
            assert_eq!(state.gpr[0] >> 16, u64::MAX >> 16);
            assert_eq!(state.rflags & flags::ARITH, flags::CF);
            let mut state = self::state();
            state.gpr[0] = u64::MAX;
            assert_eq!(guest.run(&[0x0f, 0xc7, operation], &mut state), None);
            assert_eq!(state.gpr[0] >> 32, 0);
            let mut state = self::state();
            assert_eq!(guest.run(&[0x48, 0x0f, 0xc7, operation], &mut state), None);
            seen.insert(state.gpr[0]);
        }
        assert_eq!(seen.len(), 8);
    }
}

#[test]
fn xgetbv_shows_components_and_which_are_in_use() {
    let mut guest = Guest::with_model("max").unwrap();
    let mut ask = |index: u64, change: &dyn Fn(&mut State)| {
        let mut state = state();
        state.gpr[1] = index;
        change(&mut state);
        let fault = guest.run(&[0x0f, 0x01, 0xd0], &mut state);
        fault.map_or(Ok(state.gpr[0]), |fault| Err(fault.vector))
    };
    let wide = difftest::has_wide();
    assert_eq!(ask(0, &|_| ()), Ok(if wide { 0xe7 } else { 7 }));
    assert_eq!(ask(1, &|_| ()), Ok(0));
    assert_eq!(ask(1, &|state| state.xsave[160] = 1), Ok(2));
    assert_eq!(ask(1, &|state| state.xsave[576] = 1), Ok(4));
    assert_eq!(ask(1, &|state| state.xsave[0] = 0x7e), Ok(1));
    if wide {
        assert_eq!(ask(1, &|state| state.wide.masks[7] = 1 << 63), Ok(0x20));
        assert_eq!(ask(1, &|state| state.wide.upper[15][31] = 1), Ok(0x40));
        assert_eq!(ask(1, &|state| state.wide.high[15][63] = 1), Ok(0x80));
    }
    assert_eq!(ask(2, &|_| ()), Err(vector::GP));
}
