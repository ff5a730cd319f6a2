//! Which host registers hold the guest's.

use super::asm::Reg;
use super::stubs::GUEST_RSP;
use iced_x86::Register;

/// The host register of guest register `n`; `None` for those in memory.
pub(super) fn host(n: u8) -> Option<Reg> {
    match n {
        4 => Some(GUEST_RSP),
        9..=11 => None,
        _ => Some(n),
    }
}

/// Number of a general register as in encodings, `None` for AH, CH, DH, BH and others.
pub(super) fn number(r: Register) -> Option<u8> {
    if !r.is_gpr() || matches!(r, Register::AH | Register::CH | Register::DH | Register::BH) {
        return None;
    }
    Some(r.full_register().number() as u8)
}

/// The part of host register `n` with the size of `like`.
pub(super) fn sized(n: u8, like: Register) -> Register {
    let table = match like.size() {
        1 => [
            Register::AL,
            Register::CL,
            Register::DL,
            Register::BL,
            Register::SPL,
            Register::BPL,
            Register::SIL,
            Register::DIL,
            Register::R8L,
            Register::R9L,
            Register::R10L,
            Register::R11L,
            Register::R12L,
            Register::R13L,
            Register::R14L,
            Register::R15L,
        ],
        2 => [
            Register::AX,
            Register::CX,
            Register::DX,
            Register::BX,
            Register::SP,
            Register::BP,
            Register::SI,
            Register::DI,
            Register::R8W,
            Register::R9W,
            Register::R10W,
            Register::R11W,
            Register::R12W,
            Register::R13W,
            Register::R14W,
            Register::R15W,
        ],
        4 => [
            Register::EAX,
            Register::ECX,
            Register::EDX,
            Register::EBX,
            Register::ESP,
            Register::EBP,
            Register::ESI,
            Register::EDI,
            Register::R8D,
            Register::R9D,
            Register::R10D,
            Register::R11D,
            Register::R12D,
            Register::R13D,
            Register::R14D,
            Register::R15D,
        ],
        _ => [
            Register::RAX,
            Register::RCX,
            Register::RDX,
            Register::RBX,
            Register::RSP,
            Register::RBP,
            Register::RSI,
            Register::RDI,
            Register::R8,
            Register::R9,
            Register::R10,
            Register::R11,
            Register::R12,
            Register::R13,
            Register::R14,
            Register::R15,
        ],
    };
    table[usize::from(n & 15)]
}
