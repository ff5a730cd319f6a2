//! Decoded blocks, keyed by the host address of their first byte (one per physical address) and the mode.

use crate::arena::Arena;
use crate::cpu::Cpu;
use crate::decode::{self, Mode};
use crate::fault::Fault;
use crate::insn::{Exec, Insn};
use crate::mmu::Access;
use guestmem::PAGE_SIZE;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction};
use std::collections::HashMap;
use std::collections::hash_map::IntoValues;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

/// Most instructions in a block.
const MAX_INSNS: usize = 48;
/// Instructions held before everything is dropped.
const MAX_HELD: usize = 1 << 20;
/// Dropped blocks that are freed with each new one, and chunks of their instructions with every so many.
const FREED: usize = 16;
const JUMPS: usize = 1 << 15;
/// Bytes of code that are looked at for one block.
const WINDOW: usize = 256;

/// A straight run of instructions: within one page, or one instruction across two.
pub(crate) struct Block {
    /// In the cache's arena.
    pub(crate) insns: *const [Insn],
    /// Bytes of all its instructions.
    bytes: u32,
    stamp: *const AtomicU32,
    stamp_value: u32,
    second: Option<Second>,
    unsettled: Option<Unsettled>,
}

/// Where an instruction goes on in another page.
struct Second {
    host: u64,
    stamp: *const AtomicU32,
    stamp_value: u32,
}

/// Another vCPU may still write the page unnoticed: the bytes are compared before the block runs.
struct Unsettled {
    ticket: u64,
    host: u64,
    source: Box<[u8]>,
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
    key: u64,
    block: *const Block,
}

const NO_JUMP: Jump = Jump { linear: 0, context: 0, key: 0, block: std::ptr::null() };

/// A table with nothing in it: no context is 0. What is never written takes no memory.
fn no_jumps() -> Box<[Jump]> {
    // SAFETY: integers and pointers alone, for which zeroes are valid.
    unsafe { Box::<[Jump]>::new_zeroed_slice(JUMPS).assume_init() }
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
    /// The instructions of all blocks.
    insns: Arena<Insn>,
    /// Blocks that were replaced; freed when no pointer to them can be left.
    #[expect(clippy::vec_box, reason = "pointers to the blocks stay valid")]
    stale: Vec<Box<Block>>,
    /// What was dropped as a whole is freed little by little, so that nobody has to wait for it.
    dropped: Vec<IntoValues<u64, Box<Block>>>,
    dropped_insns: Vec<Vec<Insn>>,
    jumps: Box<[Jump]>,
    held: usize,
    /// Most instructions in a block.
    most: usize,
    /// A block that is not kept.
    single: [Insn; 1],
    /// Memory for the block that is being decoded.
    decoded: Vec<Insn>,
}

impl BlockCache {
    pub(crate) fn new() -> Self {
        let none = decode::convert(&Instruction::default(), Mode { bits: 64 }, decode::undefined, 0);
        Self {
            map: HashMap::default(),
            insns: Arena::default(),
            stale: Vec::new(),
            dropped: Vec::new(),
            dropped_insns: Vec::new(),
            jumps: no_jumps(),
            held: 0,
            most: MAX_INSNS,
            single: [none],
            decoded: Vec::new(),
        }
    }

    /// Whether blocks have one instruction only.
    pub(crate) fn set_single(&mut self, single: bool) {
        self.most = if single { 1 } else { MAX_INSNS };
    }

    /// Blocks held.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Drops every block. Not while one runs.
    pub(crate) fn clear(&mut self) {
        self.jumps.fill(NO_JUMP);
        self.dropped_insns.append(&mut self.insns.take());
        self.dropped.push(std::mem::take(&mut self.map).into_values());
        self.stale.clear();
        self.held = 0;
    }

    /// Frees some of what was dropped.
    fn free_some(&mut self) {
        if let Some(blocks) = self.dropped.last_mut()
            && blocks.by_ref().take(FREED).count() < FREED
        {
            self.dropped.pop();
        }
        self.dropped_insns.pop();
    }
}

/// A page under watch.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) stamp: *const AtomicU32,
    pub(crate) value: u32,
    /// The request to the other vCPUs that has to be carried out first; 0 when none has.
    pub(crate) ticket: u64,
}

impl Watched {
    /// Whether the page is as it was.
    #[inline(always)]
    pub(crate) fn is_unchanged(&self) -> bool {
        // SAFETY: the stamp belongs to a RAM block that the memory map keeps alive; a new map drops all translations.
        unsafe { (*self.stamp).load(Ordering::Relaxed) == self.value }
    }
}

fn jump_slot(linear: u64) -> usize {
    (linear ^ linear >> 13) as usize % JUMPS
}

/// Copies code at the host address `from`, which lies within one page of RAM.
pub(crate) fn copy_code(from: u64, to: &mut [u8]) {
    let mut at = 0;
    while at + 8 <= to.len() {
        let word: u64 = crate::mmu::get((from as *mut u8).wrapping_add(at));
        to[at..at + 8].copy_from_slice(&word.to_le_bytes());
        at += 8;
    }
    for (n, byte) in to.iter_mut().enumerate().skip(at) {
        *byte = crate::mmu::get((from as *mut u8).wrapping_add(n));
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
        let linear = if self.long { rip } else { rip.wrapping_add(self.state.seg[1].base) & 0xffff_ffff };
        let user = self.state.cpl == 3;
        let context = self.tlb.generation() << 8 | u64::from(self.bits) | u64::from(user);
        let slot = jump_slot(linear);
        let jump = self.blocks.jumps[slot];
        if jump.linear == linear && jump.context == context {
            // SAFETY: blocks live until `clear`, which empties the table.
            let block = unsafe { &*jump.block };
            if block.is_valid() && self.within_limit(block.bytes) {
                return Ok(block.insns);
            }
        }
        self.find_block_slow(linear, context, slot, user)
    }

    /// The block at CS:RIP, as far as that is known at once, and the host and linear address of its first byte.
    #[inline]
    pub(crate) fn known_block(&self) -> Option<(*const [Insn], u64, u64)> {
        let rip = self.state.rip;
        let linear = if self.long { rip } else { rip.wrapping_add(self.state.seg[1].base) & 0xffff_ffff };
        let context = self.tlb.generation() << 8 | u64::from(self.bits) | u64::from(self.state.cpl == 3);
        let jump = &self.blocks.jumps[jump_slot(linear)];
        if jump.linear != linear || jump.context != context {
            return None;
        }
        // SAFETY: as in `find_block`.
        let block = unsafe { &*jump.block };
        (block.is_valid() && self.within_limit(block.bytes)).then_some((
            block.insns,
            jump.key & ((1 << 56) - 1),
            linear,
        ))
    }

    /// Whether `bytes` bytes of code at RIP lie within the code segment.
    #[inline(always)]
    fn within_limit(&self, bytes: u32) -> bool {
        self.long || self.state.rip + u64::from(bytes) <= u64::from(self.state.seg[1].limit) + 1
    }

    #[inline(never)]
    fn find_block_slow(
        &mut self,
        linear: u64,
        context: u64,
        slot: usize,
        user: bool,
    ) -> Result<*const [Insn], Fault> {
        if !self.within_limit(1) {
            return Err(Fault::gp(0));
        }
        let set = u8::from(!user);
        let Ok(host) = self.exec_host(linear, set)? else { return self.uncached(linear, set) };
        let key = host | u64::from(self.bits) << 56;
        let jump = self.blocks.jumps[slot];
        if jump.linear == linear && jump.key == key {
            // SAFETY: as in `find_block`.
            let block = unsafe { &*jump.block };
            if block.is_valid() && self.within_limit(block.bytes) {
                self.blocks.jumps[slot].context = context;
                return Ok(block.insns);
            }
        }
        if let Some(block) = self.blocks.map.get(&key)
            && block.is_valid()
        {
            let block: *const Block = &raw const **block;
            if let Some(insns) = self.usable(block, linear, key, context, slot, set)? {
                return Ok(insns);
            }
        }
        self.blocks.free_some();
        if self.blocks.held > MAX_HELD {
            self.blocks.clear();
        }
        // The page's code is watched before its bytes are read.
        let Some(watched) = self.watch(host) else { return Err(Fault::restart()) };
        let left = ((PAGE_SIZE - (linear & 0xfff)) as usize).min(WINDOW);
        let mut bytes = [0u8; WINDOW + 15];
        copy_code(host, &mut bytes[..left]);
        let mut source = left;
        let mut insns = std::mem::take(&mut self.blocks.decoded);
        self.decode(&bytes[..left], &mut insns);
        let mut second = None;
        if insns.is_empty() {
            // The first instruction crosses into the next page.
            let next = linear.wrapping_add(left as u64) & self.wrap();
            let Ok(host) = self.exec_host(next, set)? else { return self.uncached(linear, set) };
            let Some(watched) = self.watch(host) else { return Err(Fault::restart()) };
            copy_code(host, &mut bytes[left..left + 15]);
            source = left + 15;
            self.decode(&bytes[..source], &mut insns);
            insns.truncate(1);
            if insns.is_empty() || watched.ticket != 0 {
                return self.uncached(linear, set);
            }
            second = Some(Second { host, stamp: watched.stamp, stamp_value: watched.value });
        }
        if self.debugger.is_active {
            let clear = self.debugger.clear_bytes(linear, left);
            let most = insns.iter().take_while(|i| usize::from(i.next) - usize::from(i.len) < clear).count();
            insns.truncate(most);
        }
        let length = insns.last().map_or(0, |i| u32::from(i.next));
        if !self.within_limit(length) {
            return self.uncached(linear, set);
        }
        self.log_code(linear, &insns, &bytes);
        self.blocks.held += insns.len();
        let unsettled = (watched.ticket != 0).then(|| Unsettled {
            ticket: watched.ticket,
            host,
            source: bytes[..source.min(length as usize)].into(),
        });
        let quick = second.is_none() && unsettled.is_none();
        let block = Box::new(Block {
            insns: self.blocks.insns.add(&insns),
            bytes: length,
            stamp: watched.stamp,
            stamp_value: watched.value,
            second,
            unsettled,
        });
        self.blocks.decoded = insns;
        let pointer: *const Block = &raw const *block;
        if quick {
            self.blocks.jumps[slot] = Jump { linear, context, key, block: pointer };
        }
        if let Some(old) = self.blocks.map.insert(key, block) {
            self.blocks.stale.push(old);
        }
        // SAFETY: as in `find_block`.
        Ok(unsafe { (*pointer).insns })
    }

    /// The instructions of a block found in the map, when they are still those in memory.
    fn usable(
        &mut self,
        block: *const Block,
        linear: u64,
        key: u64,
        context: u64,
        slot: usize,
        set: u8,
    ) -> Result<Option<*const [Insn]>, Fault> {
        // SAFETY: the block is in the map, which this function does not change.
        let b = unsafe { &*block };
        if !self.within_limit(b.bytes) {
            return self.uncached(linear, set).map(Some);
        }
        if let Some(second) = &b.second {
            if let Some(unsettled) = &b.unsettled {
                if !self.peers.settled(self.index, unsettled.host & !0xfff, unsettled.ticket) {
                    return self.uncached(linear, set).map(Some);
                }
                return Ok(None);
            }
            let next = (linear | 0xfff).wrapping_add(1) & self.wrap();
            // SAFETY: as in `Block::is_valid`.
            let valid = unsafe { (*second.stamp).load(Ordering::Relaxed) == second.stamp_value };
            if self.exec_host(next, set)? != Ok(second.host) || !valid {
                return Ok(None);
            }
            return Ok(Some(b.insns));
        }
        if let Some(unsettled) = &b.unsettled {
            let settled = self.peers.settled(self.index, unsettled.host & !0xfff, unsettled.ticket);
            let mut now = [0; WINDOW + 15];
            let now = &mut now[..unsettled.source.len()];
            copy_code(unsettled.host, now);
            if *now != *unsettled.source {
                return Ok(None);
            }
            if settled && let Some(b) = self.blocks.map.get_mut(&key) {
                b.unsettled = None;
                let block: *const Block = &raw const **b;
                self.blocks.jumps[slot] = Jump { linear, context, key, block };
            }
            // SAFETY: as above.
            return Ok(Some(unsafe { (*block).insns }));
        }
        self.blocks.jumps[slot] = Jump { linear, context, key, block };
        Ok(Some(b.insns))
    }

    /// The host address of code at `linear`; the inner `Err` is a physical address that is not RAM.
    pub(crate) fn exec_host(&mut self, linear: u64, set: u8) -> Result<Result<u64, u64>, Fault> {
        if let Some(host) = self.tlb.exec(set, linear) {
            return Ok(Ok(host));
        }
        if self.tlb.promote(set, linear)
            && let Some(host) = self.tlb.exec(set, linear)
        {
            return Ok(Ok(host));
        }
        let physical = self.fill(linear, Access::Exec, set)?;
        Ok(self.tlb.exec(set, linear).ok_or(physical))
    }

    /// Starts watching the page at host address `host`.
    pub(crate) fn watch(&mut self, host: u64) -> Option<Watched> {
        let r = self.ram.ranges.iter().find(|r| host.wrapping_sub(r.host) <= r.last - r.start)?;
        let page = (r.offset + (host - r.host)) / PAGE_SIZE;
        let stamp: *const AtomicU32 = r.block.stamp(page);
        let mut value = 0;
        let (fresh, ticket) = self.peers.watch(self.index, host & !0xfff, || {
            let fresh;
            (value, fresh) = r.block.watch_code(page);
            fresh
        });
        if fresh || ticket != 0 {
            self.tlb.protect(host & !0xfff);
        }
        Some(Watched { stamp, value, ticket })
    }

    /// One instruction that is not kept: not in RAM, or cut off by the segment's limit.
    fn uncached(&mut self, linear: u64, set: u8) -> Result<*const [Insn], Fault> {
        let mut bytes = [0; 15];
        let room = if self.long { 15 } else { u64::from(self.state.seg[1].limit) - self.state.rip + 1 };
        let mut have = 0;
        for n in 0..15.min(room) {
            let at = linear.wrapping_add(n) & self.wrap();
            // Bytes beyond the instruction's end must not fault.
            if n > 0 && at & 0xfff == 0 && self.decodes(&bytes[..have]) {
                break;
            }
            bytes[have] = match self.exec_host(at, set)? {
                Ok(host) => crate::mmu::get(host as *mut u8),
                Err(physical) => self.physical_read(physical, 1) as u8,
            };
            have += 1;
        }
        if have < 15 && !self.decodes(&bytes[..have]) {
            return Err(Fault::gp(0));
        }
        let mut insns = Vec::new();
        self.decode(&bytes[..have], &mut insns);
        if let Some(first) = insns.drain(..).next() {
            self.blocks.single = [first];
            let single = self.blocks.single;
            self.log_code(linear, &single, &bytes);
        } else {
            // More than 15 bytes.
            return Err(Fault::gp(0));
        }
        Ok(&raw const self.blocks.single)
    }

    /// Whether `bytes` start with a whole instruction.
    fn decodes(&self, bytes: &[u8]) -> bool {
        let mut decoder = Decoder::with_ip(self.bits.into(), bytes, self.state.rip, DecoderOptions::NONE);
        let _ = decoder.decode();
        decoder.last_error() != DecoderError::NoMoreBytes
    }

    fn decode(&mut self, bytes: &[u8], insns: &mut Vec<Insn>) {
        let mode = Mode { bits: self.bits };
        let rip = self.state.rip;
        let mut decoder = Decoder::with_ip(mode.bits.into(), bytes, rip, DecoderOptions::NONE);
        insns.clear();
        let mut from = Instruction::default();
        while insns.len() < self.blocks.most && decoder.can_decode() {
            decoder.decode_out(&mut from);
            if decoder.last_error() == DecoderError::NoMoreBytes {
                break;
            }
            let at = from.ip().wrapping_sub(rip) as usize;
            let at = at.min(bytes.len());
            decode::exchange_r8(&mut from, &bytes[at..]);
            let next = from.next_ip().wrapping_sub(rip) as u16;
            let exec = if from.is_invalid() && decode::is_oversized(&bytes[at..], mode.bits) {
                decode::oversized
            } else {
                self.executor(&from)
            };
            insns.push(decode::convert(&from, mode, exec, next));
            if from.flow_control() != FlowControl::Next || from.is_invalid() {
                break;
            }
        }
    }

    /// The function for an instruction: #UD's when the model lacks it.
    pub(crate) fn executor(&mut self, from: &Instruction) -> Exec {
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
        crate::system::lookup(code)
            .or_else(|| crate::integer::lookup(code, from))
            .or_else(|| crate::vector::lookup::<Cpu>(code))
            .or_else(|| crate::fpu::lookup::<Cpu>(code))
            .or_else(|| crate::evex::lookup(code))
            .unwrap_or(decode::undefined)
    }
}
