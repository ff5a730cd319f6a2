//! `x/i`: instructions in AT&T syntax, spelled as QEMU's monitor spells them.

use iced_x86::{CodeSize, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind};
use std::fmt::Write as _;

/// Longest instruction in bytes.
pub(crate) const MAX_LENGTH: usize = 15;
/// Bytes shown on one line.
const LINE: usize = 8;

/// Writes the instruction at the start of `bytes` as one line (two or more when it has many bytes); returns its length.
/// `None`: more bytes are needed than there are.
pub(crate) fn line(out: &mut String, bits: u32, address: u64, bytes: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::with_ip(bits, bytes, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    decoder.decode_out(&mut instruction);
    let (length, text) = if !instruction.is_invalid() {
        (instruction.len(), spell(&instruction, &bytes[..instruction.len()]))
    } else if bytes.len() >= MAX_LENGTH {
        (1, format!("{:<8} 0x{:02x}", ".byte", bytes[0]))
    } else {
        return None;
    };
    for (index, chunk) in bytes[..length].chunks(LINE).enumerate() {
        let mut hex = String::new();
        for byte in chunk {
            let _ = write!(hex, "{byte:02x} ");
        }
        let at = address.wrapping_add((index * LINE) as u64);
        let _ = if index == 0 {
            writeln!(out, "0x{at:08x}:  {hex:<24} {text}")
        } else {
            writeln!(out, "0x{at:08x}:  {}", hex.trim_end())
        };
    }
    Some(length)
}

/// Mnemonic, padded, and operands.
fn spell(instruction: &Instruction, bytes: &[u8]) -> String {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_gas_show_mnemonic_size_suffix(true);
    options.set_gas_space_after_memory_operand_comma(true);
    options.set_rip_relative_addresses(true);
    options.set_signed_immediate_operands(shows_sign(instruction));
    options.set_signed_memory_displacements(true);
    options.set_small_hex_numbers_in_decimal(true);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_leading_zeros(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);

    // Prefixes are part of the mnemonic.
    let mut mnemonic = String::new();
    let mut operands = text.as_str();
    loop {
        let (word, rest) = operands.split_once(' ').unwrap_or((operands, ""));
        mnemonic.push_str(word);
        operands = rest.trim_start();
        if !matches!(word, "lock" | "rep" | "repe" | "repz" | "repne" | "repnz" | "xacquire" | "xrelease")
            || operands.is_empty()
        {
            break;
        }
        mnemonic.push(' ');
    }
    let mnemonic = mnemonic_of(instruction, mnemonic);
    let mut operands = operands.to_owned();
    match instruction.mnemonic() {
        Mnemonic::Imul
            if instruction.op_count() == 3
                && instruction.op1_kind() == OpKind::Register
                && instruction.op0_register() == instruction.op1_register() =>
        {
            // Both registers are shown, also when they are the same.
            if let Some(register) = operands.rsplit(", ").next().map(str::to_owned) {
                operands = format!("{operands}, {register}");
            }
        }
        Mnemonic::Nop if bytes.last() == Some(&0x90) => return format!("{:<8} ", "nop"),
        Mnemonic::Jmp | Mnemonic::Call
            if matches!(instruction.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32) =>
        {
            operands = operands.replace(", ", ":");
        }
        _ => {}
    }
    if instruction.code_size() == CodeSize::Code64
        && let Some(segment) = ignored_segment(bytes)
        && !instruction.is_string_instruction()
        && let Some(open) = operands.find('(')
    {
        let start = operands[..open].rfind(", ").map_or(0, |at| at + 2);
        if !operands[start..].starts_with(['%', '*']) {
            operands.insert_str(start, segment);
        }
    }
    format!("{mnemonic:<8} {operands}")
}

/// Immediates that were shorter than their operand are shown with a sign, unless they are bit masks.
fn shows_sign(instruction: &Instruction) -> bool {
    let extended = (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    });
    extended && !matches!(instruction.mnemonic(), Mnemonic::And | Mnemonic::Or | Mnemonic::Xor)
}

/// The mnemonic with the size suffix where it is expected, and without where it is not.
fn mnemonic_of(instruction: &Instruction, mut mnemonic: String) -> String {
    match instruction.mnemonic() {
        Mnemonic::Leave | Mnemonic::Verr | Mnemonic::Verw => {
            mnemonic.truncate(if instruction.mnemonic() == Mnemonic::Leave { 5 } else { 4 });
        }
        Mnemonic::Rdrand | Mnemonic::Rdseed => mnemonic.push(match instruction.op0_register().size() {
            2 => 'w',
            4 => 'l',
            _ => 'q',
        }),
        Mnemonic::Vmgexit => "vmmcall".clone_into(&mut mnemonic),
        _ if mnemonic.starts_with("set")
            && mnemonic.ends_with('b')
            && instruction.condition_code() != iced_x86::ConditionCode::None =>
        {
            mnemonic.pop();
        }
        _ => {}
    }
    mnemonic
}

/// The segment of an override prefix that long mode ignores.
fn ignored_segment(bytes: &[u8]) -> Option<&'static str> {
    let prefixes = bytes
        .iter()
        .take_while(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3));
    prefixes.fold(None, |found, byte| match byte {
        0x26 => Some("%es:"),
        0x2e => Some("%cs:"),
        0x36 => Some("%ss:"),
        0x3e => Some("%ds:"),
        0x64 | 0x65 => None,
        _ => found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_spelled_as_qemu_spells_them() {
        for (bits, address, bytes, text) in [
            (
                16,
                0xffff_fff0,
                &[0xea, 0x5b, 0xe0, 0x00, 0xf0][..],
                "ea 5b e0 00 f0           ljmpw    $0xf000:$0xe05b",
            ),
            (
                64,
                0xffff_ffff_8100_0000,
                &[0x48, 0x8d, 0x25, 0x51, 0x3f, 0xa0, 0x01],
                "48 8d 25 51 3f a0 01     leaq     0x1a03f51(%rip), %rsp",
            ),
            (
                64,
                0xffff_ffff_8100_0007,
                &[0x48, 0x8d, 0x3d, 0xf2, 0xff, 0xff, 0xff],
                "48 8d 3d f2 ff ff ff     leaq     -0xe(%rip), %rdi",
            ),
            (
                64,
                0xffff_ffff_8100_000e,
                &[0xb9, 1, 1, 0, 0xc0],
                "b9 01 01 00 c0           movl     $0xc0000101, %ecx",
            ),
            (
                64,
                0xffff_ffff_8100_001a,
                &[0x48, 0xc7, 0xc2, 0, 0, 0, 0x81],
                "48 c7 c2 00 00 00 81     movq     $-0x7f000000, %rdx",
            ),
            (64, 0xffff_ffff_8100_0021, &[0x48, 0x29, 0xd0], "48 29 d0                 subq     %rdx, %rax"),
            (16, 0xffff5, &[0x30, 0x36, 0x2f, 0x32], "30 36 2f 32              xorb     %dh, 0x322f"),
            (64, 0, &[0x66, 0x90], "66 90                    nop      "),
            (
                64,
                0,
                &[0x48, 0x81, 0xe2, 0x7f, 0xff, 0xff, 0xff],
                "48 81 e2 7f ff ff ff     andq     $0xffffffffffffff7f, %rdx",
            ),
            (
                64,
                0,
                &[0x3e, 0xff, 0x0d, 0x88, 0xa0, 0xfc, 1],
                "3e ff 0d 88 a0 fc 01     decl     %ds:0x1fca088(%rip)",
            ),
            (
                64,
                0,
                &[0x48, 0x69, 0xd2, 0x25, 0x49, 0x92, 0x24],
                "48 69 d2 25 49 92 24     imulq    $0x24924925, %rdx, %rdx",
            ),
            (64, 0, &[0xf0, 0x83, 0x44, 0x24, 0xfc, 0], "f0 83 44 24 fc 00        lock addl $0, -4(%rsp)"),
            (64, 0, &[0xf3, 0xa5], "f3 a5                    rep movsl (%rsi), (%rdi)"),
            (64, 0, &[0x0f, 0x94, 0xc0], "0f 94 c0                 sete     %al"),
            (64, 0, &[0xc9], "c9                       leave    "),
            (16, 0x100000, &[0, 0], "00 00                    addb     %al, (%bx, %si)"),
        ] {
            let mut out = String::new();
            assert_eq!(line(&mut out, bits, address, bytes), Some(bytes.len()));
            assert_eq!(out, format!("0x{address:08x}:  {text}\n"));
        }
    }

    #[test]
    fn what_is_no_instruction_is_a_byte() {
        let mut out = String::new();
        assert_eq!(line(&mut out, 64, 0, &[0x06; MAX_LENGTH]), Some(1));
        assert_eq!(out, "0x00000000:  06                       .byte    0x06\n");
        assert_eq!(line(&mut out, 64, 0, &[0x48]), None);
    }
}
