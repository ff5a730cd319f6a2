//! What `-d in_asm,int,cpu_reset` shows, in QEMU's layout.

use crate::cpu::Cpu;
use crate::exceptions::Source;
use crate::insn::Insn;
use iced_x86::{Decoder, DecoderOptions, Formatter as _, GasFormatter};
use report::log::{Item, enabled, in_range, write};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use x86::dump::DumpOptions;
use x86::reg::vector;

/// Bytes of an instruction shown on its first line.
const BYTES: usize = 8;
/// Deliveries are numbered.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Appends the instructions of `bytes`, which are at `address`, in AT&T syntax.
fn append_code(text: &mut String, bits: u8, address: u64, bytes: &[u8]) {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_gas_show_mnemonic_size_suffix(true);
    options.set_gas_space_after_memory_operand_comma(true);
    options.set_space_after_operand_separator(true);
    options.set_rip_relative_addresses(true);
    options.set_uppercase_hex(false);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_signed_immediate_operands(true);
    let mut operands = String::new();
    for insn in &mut Decoder::with_ip(bits.into(), bytes, address, DecoderOptions::NONE) {
        let at = insn.ip().wrapping_sub(address) as usize;
        let all = bytes.get(at..at + insn.len()).unwrap_or(&[]);
        for (n, part) in all.chunks(BYTES).enumerate() {
            let shown: String = part.iter().map(|b| format!("{b:02x} ")).collect();
            let _ = write!(text, "0x{:08x}:  ", insn.ip().wrapping_add((n * BYTES) as u64));
            if n > 0 {
                let _ = writeln!(text, "{shown}");
                continue;
            }
            operands.clear();
            formatter.format(&insn, &mut operands);
            let (mnemonic, rest) = operands.split_once(' ').unwrap_or((&operands, ""));
            let _ = writeln!(text, "{shown:<24} {mnemonic:<8} {}", rest.trim_start());
        }
    }
}

/// The guest's instructions at linear address `linear`.
fn disassemble(bits: u8, linear: u64, bytes: &[u8]) -> String {
    let mut text = String::from("----------------\nIN: \n");
    append_code(&mut text, bits, linear, bytes);
    text.push('\n');
    text
}

/// Shows the host's instructions that the guest's at `linear` became: on the straight path, and off it.
pub(crate) fn log_translation(linear: u64, [(hot, code), (cold, other)]: [(u64, &[u8]); 2]) {
    if !enabled(Item::OutAsm) || !in_range(linear) {
        return;
    }
    let mut text =
        format!("OUT: [size={}]\n  -- guest addr 0x{linear:016x} + tb prologue\n", code.len() + other.len());
    append_code(&mut text, 64, hot, code);
    if !other.is_empty() {
        text.push_str("  -- tb slow paths + alignment\n");
        append_code(&mut text, 64, cold, other);
    }
    write(format_args!("{text}\n"));
}

impl Cpu {
    /// Shows a block that was just decoded from `bytes` at `linear`.
    pub(crate) fn log_code(&self, linear: u64, insns: &[Insn], bytes: &[u8]) {
        if enabled(Item::InAsm) && in_range(linear) {
            let length = insns.last().map_or(0, |i| usize::from(i.next));
            write(format_args!("{}", disassemble(self.bits, linear, &bytes[..length.min(bytes.len())])));
        }
    }

    /// Shows the guest's code that is about to be translated: `guest` bytes at `linear`, of which `code` has those in the
    /// first page, and the rest is at host address `second`.
    pub(crate) fn log_source(&self, linear: u64, guest: usize, code: &[u8], second: Option<u64>) {
        if !enabled(Item::InAsm) || !in_range(linear) {
            return;
        }
        let mut bytes = code[..guest.min(code.len())].to_vec();
        if let Some(host) = second {
            let mut rest = vec![0; guest - bytes.len()];
            crate::block::copy_code(host, &mut rest);
            bytes.extend(rest);
        }
        write(format_args!("{}", disassemble(self.bits, linear, &bytes)));
    }

    /// Shows that the block at RIP is entered, which is at `code` in the host's memory.
    #[inline]
    pub(crate) fn log_entry(&self, code: u64) {
        if enabled(Item::Exec) || enabled(Item::Cpu) {
            self.log_entry_now(code);
        }
    }

    #[cold]
    fn log_entry_now(&self, code: u64) {
        let base = if self.long { 0 } else { self.state.seg[1].base };
        let pc = self.state.rip.wrapping_add(base);
        if !in_range(pc) {
            return;
        }
        if enabled(Item::Exec) {
            let (index, context) = (self.index, self.context());
            write(format_args!(
                "Trace {index}: 0x{code:x} [{base:016x}/{pc:016x}/{context:08x}/{:08x}] \n",
                self.bits
            ));
        }
        if enabled(Item::Cpu) {
            write(format_args!("{}", self.dump(enabled(Item::Fpu))));
        }
    }

    /// The registers as the log shows them.
    fn dump(&self, fpu: bool) -> String {
        let mut state = self.state.clone();
        state.rflags = self.rflags();
        state.dump(DumpOptions { fpu, condition_codes: true, a20_masked: self.a20 != u64::MAX })
    }

    /// Shows what is about to be delivered; `before`: the exception whose delivery led to it.
    pub(crate) fn log_delivery(&self, v: u8, source: Source, code: Option<u16>, before: Option<u8>) {
        if !enabled(Item::Int) {
            return;
        }
        match source {
            Source::Exception => {
                let before = before.map_or(u32::MAX, u32::from);
                write(format_args!("check_exception old: 0x{before:x} new 0x{v:x}\n"));
            }
            Source::External if v != vector::NMI => {
                write(format_args!("Servicing hardware INT=0x{v:02x}\n"));
            }
            _ => {}
        }
        if !self.protected() {
            return;
        }
        let s = &self.state;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let last = if v == vector::PF {
            format!("CR2={:016x}", s.cr2)
        } else {
            format!("env->regs[R_EAX]={:016x}", s.gpr[0])
        };
        write(format_args!(
            "{number:6}: v={v:02x} e={:04x} i={} cpl={} IP={:04x}:{:016x} pc={:016x} SP={:04x}:{:016x} {last}\n{}",
            code.unwrap_or(0),
            u8::from(source == Source::Software),
            s.cpl,
            s.seg[1].selector,
            s.rip,
            s.seg[1].base.wrapping_add(s.rip),
            s.seg[2].selector,
            s.gpr[4],
            self.dump(false),
        ));
    }

    pub(crate) fn log_triple_fault(&self) {
        report::log_item!(CpuReset, "Triple fault\n");
    }

    /// Shows the registers before they are reset.
    pub(crate) fn log_reset(&self) {
        if enabled(Item::CpuReset) {
            write(format_args!("CPU Reset (CPU {})\n{}", self.index, self.dump(true)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_reads_as_in_qemu() {
        let text = disassemble(16, 0xffff_fff0, &[0xea, 0x5b, 0xe0, 0, 0xf0]);
        assert!(
            text.starts_with("----------------\nIN: \n0xfffffff0:  ea 5b e0 00 f0           ljmp"),
            "{text}"
        );
        let code = [0x6a, 0x0e, 0xe9, 0x9b, 0, 0, 0];
        let text = disassemble(64, 0xffff_ffff_bc44_c07e, &code);
        assert!(text.contains("0xffffffffbc44c07e:  6a 0e                    pushq    $0xe\n"), "{text}");
        assert!(text.contains("0xffffffffbc44c080:  e9 9b 00 00 00           jmp"), "{text}");
        let text = disassemble(64, 0x1000, &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(text.contains("0x00001000:  48 b8 01 02 03 04 05 06  mov"), "{text}");
        assert!(text.contains("\n0x00001008:  07 08 \n"), "{text}");
    }
}
