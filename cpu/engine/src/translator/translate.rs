//! From guest memory to a translation.

use super::classify::{self, Vectors};
use super::{
    AVX512, CODE_32, Entries, HOT_FACTOR, PLAIN, Page, Place, SEGMENTS, Translation, X87, asm, emit,
    legacy32, lockstep, stubs, trace::Trace, x87,
};
use crate::cpu::Cpu;
use crate::insn::{F_FPU, Insn};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use std::arch::x86_64::_rdtsc;

impl Cpu {
    /// Translates what is at `place`: a straight run, or a trace from there.
    pub(super) fn translate(&mut self, place: Place, is_trace: bool) -> Option<Entries> {
        // SAFETY: no requirement.
        let start = unsafe { _rdtsc() };
        let entries = self.translate_now(place, is_trace);
        // SAFETY: no requirement.
        self.jit.translating += unsafe { _rdtsc() }.wrapping_sub(start);
        entries
    }

    fn translate_now(&mut self, place: Place, is_trace: bool) -> Option<Entries> {
        let watched = self.watch(place.host)?;
        if watched.ticket != 0 {
            return None;
        }
        let bits = if place.context & CODE_32 != 0 { 32 } else { 64 };
        let page = place.linear & !0xfff;
        if bits == 32 && page == 0xffff_f000 {
            // The address of the next instruction may wrap.
            return None;
        }
        let Trace { mut instructions, mut others, bytes } = self.trace(place, bits, is_trace)?;
        if instructions.is_empty() {
            let (end, instruction) = self.crossing(place, bits, &bytes[(place.linear & 0xfff) as usize..])?;
            if instruction.is_invalid() {
                return None;
            }
            others = vec![end];
            instructions.push(instruction);
        }
        for i in &mut instructions {
            // Compilers write TZCNT where BSF does as well, for what processors without it make of the prefix.
            if let Some(plain) = crate::features::without_prefix(i.code())
                && !crate::features::offered(&self.model, i.code())
            {
                i.set_code(plain);
            }
        }
        let mut insns: Vec<Insn> = instructions
            .iter()
            .map(|i| {
                let exec = self.executor(i);
                let next = i.next_ip().wrapping_sub(place.linear) as u16;
                let mut insn = crate::decode::convert(i, crate::decode::Mode { bits }, exec, next);
                if x87::concerns(i) {
                    insn.flags |= F_FPU;
                }
                insn
            })
            .collect();
        let without = self.jit.without;
        let avx = place.context & 4 != 0 && stubs::has_avx(&without);
        let bmi2 = asm::has_bmi2(&without);
        let x87 = place.context >> X87 & 1 != 0 && !without.xsave;
        let avx512 = place.context >> AVX512 & 1 != 0 && stubs::has_avx512(&without);
        let sse = place.context & 2 != 0;
        let vectors = Vectors { sse, avx, avx512, x87, bmi2, zero_counts: true };
        if bits == 32 {
            instructions.iter_mut().for_each(legacy32::modernize);
        }
        let is_lockstep = self.jit.lockstep.is_some();
        let mut kinds = emit::kinds(&instructions, &insns, vectors);
        if self.jit.lockstep.is_some() {
            let most =
                kinds.iter().zip(&instructions).take_while(|(k, i)| lockstep::is_comparable(**k, i)).count();
            instructions.truncate(most);
            insns.truncate(most);
            kinds.truncate(most);
            if most == 0 {
                return None;
            }
        }
        let first = self.jit.page(place.linear, place.host, watched);
        let guest = instructions.iter().map(|i| i.len() as u64).sum();
        // Of a trace, the first straight run.
        let mut straight = place.linear;
        for i in instructions.iter().take_while(|i| (i.ip() ^ place.linear) & !0xfff == 0) {
            straight = if i.ip() == straight { i.next_ip() } else { break };
        }
        let second = others.first().filter(|_| instructions.len() == 1).map(|page| page.host);
        let length = straight.wrapping_sub(place.linear) as usize;
        self.log_source(place.linear, length, &bytes[(place.linear & 0xfff) as usize..], second);
        let insns = self.jit.arena.add(&insns);
        let heat = (!is_trace && bits == 64 && place.context & PLAIN == 0 && self.jit.lockstep.is_none())
            .then(|| self.jit.heat.add(&[HOT_FACTOR * u32::from(self.jit.threshold)]).as_ptr() as u64);
        let live_at = |target: u64| flags_live(bits, &bytes[..], page, target);
        let source = emit::Source {
            start: place.linear,
            instructions: &instructions,
            insns,
            kinds: &kinds,
            page: first,
            others: &others,
            heat,
            groups: bits == 64 && place.context & PLAIN == 0,
            loops: is_trace
                && self.jit.most > 1
                && bits == 64
                && place.context & PLAIN == 0
                && !self.jit.alone
                && !is_lockstep,
            lockstep: is_lockstep,
            vectors,
            bits,
            segments: if bits == 64 { u8::MAX } else { (place.context >> SEGMENTS) as u8 & !2 },
            exact: !self.jit.lazy_flags,
            user: place.context & 1 != 0,
            shared: place.is_shared(),
            context: place.context & !PLAIN,
            live_at: &live_at,
        };
        let cache = self.jit.cache.as_mut()?;
        let (origin, cold) = (cache.next(), cache.next_cold());
        let mut tools = self.jit.tools.take().unwrap_or_else(|| Box::new(emit::Tools::new()));
        let entries = emit::block(&mut tools, origin, cold, &self.jit.stubs, &source);
        let (hot_code, cold_code) = tools.code();
        if !cache.add(hot_code, cold_code) {
            return None;
        }
        if let Some(lockstep) = &mut self.jit.lockstep {
            lockstep.add(entries.entry, &instructions, insns, &kinds, u64::from(bits / 8));
        }
        let crossing = instructions.len() == 1 && !others.is_empty();
        self.jit.note_block(place.linear, guest, crossing, [(origin, hot_code), (cold, cold_code)]);
        self.jit.tools = Some(tools);
        self.jit.pages.push(bytes);
        self.jit.executions.note_translation(place.host, place.key().linear);
        self.jit.map.insert(
            place.key(),
            Translation { entries, is_trace: heat.is_none(), page: first, others: others.into() },
        );
        Some(entries)
    }

    /// The instruction that begins with `first`, the last bytes of a page, and ends in the next page.
    fn crossing(&mut self, place: Place, bits: u8, first: &[u8]) -> Option<(Page, Instruction)> {
        let linear = (place.linear | 0xfff).wrapping_add(1);
        let host = self.exec_host(linear, self.code_set()).ok()?.ok()?;
        let watched = self.watch(host)?;
        if watched.ticket != 0 {
            return None;
        }
        let mut bytes = [0; 30];
        let left = first.len().min(15);
        bytes[..left].copy_from_slice(&first[..left]);
        crate::block::copy_code(host, &mut bytes[left..left + 15]);
        let i =
            Decoder::with_ip(bits.into(), &bytes[..left + 15], place.linear, DecoderOptions::NONE).decode();
        (!i.is_invalid() && i.len() > left).then_some((self.jit.page(linear, host, watched), i))
    }
}

/// Whether code from `target` on, in the page `bytes` at linear address `page`, may read an arithmetic flag before it
/// has written all of them.
fn flags_live(bits: u8, bytes: &[u8], page: u64, target: u64) -> bool {
    let Some(code) = bytes.get(target.wrapping_sub(page) as usize..) else { return true };
    let vectors =
        Vectors { sse: false, avx: false, avx512: false, x87: false, bmi2: false, zero_counts: true };
    let mut live = classify::ARITH;
    for i in Decoder::with_ip(bits.into(), code, target, DecoderOptions::NONE).iter().take(16) {
        if i.is_invalid() || i.flow_control() != FlowControl::Next {
            return true;
        }
        let (read, written) = classify::flags(&i, classify::kind(&i, vectors));
        if read & live != 0 {
            return true;
        }
        live &= !written;
        if live == 0 {
            return false;
        }
    }
    true
}
