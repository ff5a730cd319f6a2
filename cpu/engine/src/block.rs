//! Decoded blocks, keyed by the host address of their first byte (one per physical address) and the mode.

use crate::cpu::Cpu;
use crate::decode::{self, Mode};
use crate::fault::Fault;
use crate::insn::{Exec, Insn};
use crate::mmu::{Access, Tlb};
use guestmem::PAGE_SIZE;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

/// Most instructions in a block.
const MAX_INSNS: usize = 48;
/// Instructions held before everything is dropped.
const MAX_HELD: usize = 1 << 20;
const JUMPS: usize = 1 << 13;

/// A straight run of instructions within one page.
pub(crate) struct Block {
    pub(crate) insns: Box<[Insn]>,
    stamp: *const AtomicU32,
    stamp_value: u32,
}

impl Block {
    #[inline(always)]
    fn is_valid(&self) -> bool {
        // SAFETY: the stamp belongs to a RAM block that the memory map keeps alive; a new map drops all blocks.
        unsafe { (*self.stamp).load(Ordering::Relaxed) == self.stamp_value }
    }
}

#[derive(Clone, Copy)]
struct Jump {
    linear: u64,
    context: u64,
    block: *const Block,
}

#[derive(Default)]
pub(crate) struct Mix(u64);
impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64((*b).into());
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// All decoded blocks of one vCPU.
pub(crate) struct BlockCache {
    map: HashMap<u64, Box<Block>, BuildHasherDefault<Mix>>,
    /// Blocks that were replaced; freed when no pointer to them can be left.
    #[expect(clippy::vec_box, reason = "pointers to the blocks stay valid")]
    stale: Vec<Box<Block>>,
    jumps: Box<[Jump]>,
    generation: u64,
    held: usize,
    /// A block that is not kept: across pages, or not in RAM.
    single: [Insn; 1],
}

impl BlockCache {
    pub(crate) fn new() -> Self {
        let none = decode::convert(&Instruction::default(), Mode { bits: 64 }, decode::undefined, 0);
        Self {
            map: HashMap::default(),
            stale: Vec::new(),
            jumps: vec![Jump { linear: 0, context: 0, block: std::ptr::null() }; JUMPS].into(),
            generation: 1,
            held: 0,
            single: [none],
        }
    }

    /// Forgets which linear address leads to which block.
    pub(crate) fn unlink(&mut self) {
        self.generation += 1;
    }

    /// Drops every block. Not while one runs.
    pub(crate) fn clear(&mut self) {
        self.map.clear();
        self.stale.clear();
        self.held = 0;
        self.unlink();
    }
}

/// Which codes may execute: a memo of the model's features.
pub(crate) struct Features {
    pub(crate) memo: Box<[u8]>,
}

impl Features {
    pub(crate) fn new() -> Self {
        Self { memo: vec![0; 8192].into() }
    }
}

impl Cpu {
    /// The instructions at CS:RIP.
    #[inline]
    pub(crate) fn find_block(&mut self) -> Result<*const [Insn], Fault> {
        let rip = self.state.rip;
        let linear = if self.long {
            rip
        } else {
            let cs = &self.state.seg[1];
            if rip > cs.limit.into() {
                return Err(Fault::gp(0));
            }
            rip.wrapping_add(cs.base) & 0xffff_ffff
        };
        let user = self.state.cpl == 3;
        let context = self.blocks.generation << 8 | u64::from(self.bits) | u64::from(user);
        let slot = (linear ^ linear >> 13) as usize % JUMPS;
        let jump = self.blocks.jumps[slot];
        if jump.linear == linear && jump.context == context {
            // SAFETY: blocks live until `clear`, which changes the generation.
            let block = unsafe { &*jump.block };
            if block.is_valid() {
                return Ok(&raw const *block.insns);
            }
        }
        self.find_block_slow(linear, context, slot, user)
    }

    #[inline(never)]
    fn find_block_slow(
        &mut self,
        linear: u64,
        context: u64,
        slot: usize,
        user: bool,
    ) -> Result<*const [Insn], Fault> {
        let set = u8::from(!user);
        let host = match self.exec_host(linear, set)? {
            Ok(host) => host,
            Err(physical) => {
                let mut bytes = [0; 15];
                for (n, b) in bytes.iter_mut().enumerate() {
                    *b = self.physical_read(physical + n as u64, 1) as u8;
                }
                return Ok(self.single(&bytes));
            }
        };
        let key = host | u64::from(self.bits) << 56;
        if let Some(block) = self.blocks.map.get(&key)
            && block.is_valid()
        {
            let block: *const Block = &raw const **block;
            self.blocks.jumps[slot] = Jump { linear, context, block };
            // SAFETY: as in `find_block`.
            return Ok(unsafe { &raw const *(*block).insns });
        }
        if self.blocks.held > MAX_HELD {
            self.blocks.clear();
            return self.find_block_slow(linear, self.blocks.generation << 8 | context & 0xff, slot, user);
        }
        // The page's code is watched before its bytes are read.
        let Some((stamp, stamp_value)) = self.watch(host) else { return Err(Fault::restart()) };
        let mut bytes = [0u8; PAGE_SIZE as usize];
        let left = (PAGE_SIZE - (linear & 0xfff)) as usize;
        for (n, b) in bytes[..left].iter_mut().enumerate() {
            *b = crate::mmu::get((host as *mut u8).wrapping_add(n));
        }
        let insns = self.decode(&bytes[..left]);
        if insns.is_empty() {
            // The first instruction crosses into the next page.
            let mut both = [0; 30];
            both[..left].copy_from_slice(&bytes[..left]);
            let next = linear.wrapping_add(left as u64) & self.wrap();
            match self.exec_host(next, set)? {
                Ok(host) => {
                    self.watch(host);
                    for n in 0..15 {
                        both[left + n] = crate::mmu::get((host as *mut u8).wrapping_add(n));
                    }
                }
                Err(physical) => {
                    for n in 0..15 {
                        both[left + n] = self.physical_read(physical + n as u64, 1) as u8;
                    }
                }
            }
            return Ok(self.single(&both[..left + 15]));
        }
        self.blocks.held += insns.len();
        let block = Box::new(Block { insns: insns.into(), stamp, stamp_value });
        let pointer: *const Block = &raw const *block;
        self.blocks.jumps[slot] = Jump { linear, context, block: pointer };
        if let Some(old) = self.blocks.map.insert(key, block) {
            self.blocks.stale.push(old);
        }
        // SAFETY: as in `find_block`.
        Ok(unsafe { &raw const *(*pointer).insns })
    }

    /// The host address of code at `linear`; the inner `Err` is a physical address that is not RAM.
    fn exec_host(&mut self, linear: u64, set: u8) -> Result<Result<u64, u64>, Fault> {
        let slot = Tlb::slot(set, linear);
        if self.tlb.entries[slot].exec != linear & !0xfff {
            let physical = self.fill(linear, Access::Exec, set)?;
            if self.tlb.entries[slot].exec != linear & !0xfff {
                return Ok(Err(physical));
            }
        }
        Ok(Ok(linear.wrapping_add(self.tlb.entries[slot].addend)))
    }

    /// Starts watching the page at host address `host`; its stamp.
    fn watch(&mut self, host: u64) -> Option<(*const AtomicU32, u32)> {
        let r = self.ram.ranges.iter().find(|r| host.wrapping_sub(r.host) <= r.last - r.start)?;
        let page = (r.offset + (host - r.host)) / PAGE_SIZE;
        let fresh = !r.block.holds_code(page);
        let value = r.block.watch_code(page);
        let stamp: *const AtomicU32 = r.block.stamp(page);
        if fresh {
            self.tlb.protect(host & !0xfff);
            self.peers.protect(self.index, host & !0xfff);
        }
        Some((stamp, value))
    }

    fn single(&mut self, bytes: &[u8]) -> *const [Insn] {
        let mut insns = self.decode(bytes);
        if let Some(first) = insns.drain(..).next() {
            self.blocks.single = [first];
        } else {
            self.blocks.single[0].exec = decode::undefined;
        }
        &raw const self.blocks.single
    }

    fn decode(&mut self, bytes: &[u8]) -> Vec<Insn> {
        let mode = Mode { bits: self.bits };
        let rip = self.state.rip;
        let mut decoder = Decoder::with_ip(mode.bits.into(), bytes, rip, DecoderOptions::NONE);
        let mut insns = Vec::with_capacity(8);
        let mut from = Instruction::default();
        while insns.len() < MAX_INSNS && decoder.can_decode() {
            decoder.decode_out(&mut from);
            if decoder.last_error() == DecoderError::NoMoreBytes {
                break;
            }
            let at = from.ip().wrapping_sub(rip) as usize;
            decode::exchange_r8(&mut from, &bytes[at.min(bytes.len())..]);
            let next = from.next_ip().wrapping_sub(rip) as u16;
            let exec = self.executor(&from);
            insns.push(decode::convert(&from, mode, exec, next));
            if report::log::enabled(report::log::Item::InAsm) {
                report::log::write(format_args!("0x{:016x}: {:?}\n", from.ip(), from.code()));
            }
            if from.flow_control() != FlowControl::Next || from.is_invalid() {
                break;
            }
        }
        insns
    }

    /// The function for an instruction: #UD's when the model lacks it.
    fn executor(&mut self, from: &Instruction) -> Exec {
        let code = from.code();
        let memo = self.features.memo[code as usize];
        let allowed = if memo == 0 {
            let ok = crate::features::offered(&self.model, code);
            self.features.memo[code as usize] = 1 + u8::from(ok);
            ok
        } else {
            memo == 2
        };
        // Processors without TZCNT and LZCNT ignore the F3 prefix (SDM volume 2, TZCNT).
        let (code, allowed) = match (allowed, crate::features::without_prefix(code)) {
            (false, Some(plain)) => (plain, true),
            _ => (code, allowed),
        };
        if !allowed || code == Code::INVALID {
            return decode::undefined;
        }
        crate::integer::lookup(code, from)
            .or_else(|| crate::system::lookup(code))
            .or_else(|| crate::vector::lookup::<Cpu>(code))
            .or_else(|| crate::fpu::lookup::<Cpu>(code))
            .unwrap_or(decode::undefined)
    }
}
