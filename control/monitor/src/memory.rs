//! `x`, `xp`, `print`, `i`, `o`: formats and dumps.

use crate::MachineControl;
use crate::disassembly::{self, MAX_LENGTH};
use std::fmt::Write as _;

/// `/COUNT FORMAT SIZE`; the last one used is the next one's default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) count: i64,
    pub(crate) letter: char,
    pub(crate) size: usize,
}

/// Most items in one dump: a terminal is no place for more.
const MAX_ITEMS: i64 = 1 << 20;

impl Format {
    /// Reads `/...` at the start of `rest`, if it is there.
    pub(crate) fn read(rest: &mut &str, last: Self) -> Result<Self, String> {
        let mut format = Self { count: 1, ..last };
        let Some(text) = rest.trim_start().strip_prefix('/') else { return Ok(format) };
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, after) = text.split_at(end);
        let letters = word.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
        let number = &word[..word.len() - letters.len()];
        if !number.is_empty() {
            format.count = number.parse().map_err(|_| "invalid count".to_owned())?;
        }
        for letter in letters.chars() {
            match letter {
                'o' | 'd' | 'u' | 'x' | 'i' | 'c' => format.letter = letter,
                'b' => format.size = 1,
                'h' => format.size = 2,
                'w' => format.size = 4,
                'g' | 'L' => format.size = 8,
                other => return Err(format!("invalid char in format: '{other}'")),
            }
        }
        *rest = after;
        Ok(format)
    }
}

fn character(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        32..=126 => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{byte:02x}'"),
    }
}

/// One value, as `print` shows it.
pub(crate) fn print(value: i64, letter: char) -> String {
    match letter {
        'o' if value != 0 => format!("0{:o}", value.cast_unsigned()),
        'x' if value != 0 => format!("{:#x}", value.cast_unsigned()),
        'o' | 'x' => "0".to_owned(),
        'u' => value.cast_unsigned().to_string(),
        'c' => character(value.to_le_bytes()[0]),
        _ => value.to_string(),
    }
}

/// Memory in lines of 16 bytes (8 for single bytes).
pub(crate) fn dump(
    machine: &dyn MachineControl,
    cpu: usize,
    format: Format,
    address: i64,
    physical: bool,
) -> String {
    let mut out = String::new();
    let bits = format.size * 8;
    let line = if format.size == 1 { 8 } else { 16 };
    let digits = match format.letter {
        'o' => bits.div_ceil(3),
        'x' => bits / 4,
        _ => (bits * 10).div_ceil(33),
    };
    let size = if format.letter == 'c' { 1 } else { format.size };
    let items = format.count.unsigned_abs().min(MAX_ITEMS.unsigned_abs());
    let mut left = usize::try_from(items).unwrap_or(0) * format.size;
    let mut address = address.cast_unsigned();
    if format.count < 0 {
        address = address.wrapping_sub(left as u64);
    }
    while left > 0 {
        let length = left.min(line);
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..length];
        let _ = write!(out, "{address:016x}:");
        let read = if physical {
            machine.read_physical(address, bytes)
        } else {
            machine.read_virtual(cpu, address, bytes)
        };
        if !read {
            out.push_str(" Cannot access memory\n");
            break;
        }
        for item in bytes.chunks(size) {
            let mut wide = [0; 8];
            wide[..item.len()].copy_from_slice(item);
            let value = u64::from_le_bytes(wide);
            let unused = 64 - 8 * item.len();
            let signed = (value << unused).cast_signed() >> unused;
            let _ = match format.letter {
                'o' => write!(
                    out,
                    " {:>digits$}",
                    if value == 0 { "0".to_owned() } else { format!("0{value:o}") }
                ),
                'x' => write!(out, " 0x{value:0digits$x}"),
                'u' => write!(out, " {value:>digits$}"),
                'c' => write!(out, " {}", character(item[0])),
                _ => write!(out, " {signed:>digits$}"),
            };
        }
        out.push('\n');
        address = address.wrapping_add(length as u64);
        left -= length;
    }
    out
}

/// Most instructions in one dump.
const MAX_INSTRUCTIONS: i64 = 1 << 16;

/// `count` instructions from `address` on, as the processor would read them now.
pub(crate) fn disassemble(
    machine: &dyn MachineControl,
    cpu: usize,
    count: i64,
    address: i64,
    physical: bool,
) -> String {
    let bits = machine.code_bits(cpu);
    let mut out = String::new();
    let mut address = address.cast_unsigned();
    for _ in 0..count.clamp(0, MAX_INSTRUCTIONS) {
        let mut bytes = [0; MAX_LENGTH];
        let mut known = 0;
        // Byte by byte, so that an instruction before the end of what is mapped is still shown.
        while known < MAX_LENGTH {
            let (at, one) = (address.wrapping_add(known as u64), &mut bytes[known..=known]);
            let read =
                if physical { machine.read_physical(at, one) } else { machine.read_virtual(cpu, at, one) };
            if !read {
                break;
            }
            known += 1;
        }
        match disassembly::line(&mut out, bits, address, &bytes[..known]) {
            Some(length) => address = address.wrapping_add(length as u64),
            None => {
                let _ = writeln!(out, "0x{address:08x}: unable to read memory");
                break;
            }
        }
    }
    out
}
