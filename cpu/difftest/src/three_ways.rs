//! Blocks on the host, in tier 1 and in tier 2.

use crate::blocks::{Block, Vocabulary};
use crate::cases::Maker;
use crate::compare::differences;
use crate::guest::Guest;
use crate::layout::{Mode, WRITABLE};
use crate::native::{Fault, Native, State};
use crate::random::Random;
use engine::{LaneB, Options, Without};
use iced_x86::{Code, Instruction};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use x86::reg::vector;

/// Runs of one block, each with other registers and memory.
const RUNS: u32 = 24;
/// Differences that are told.
const TOLD: usize = 8;

/// What came of a comparison.
#[derive(Clone, Debug, Default)]
pub struct BlockReport {
    /// Blocks made.
    pub blocks: u64,
    /// Times that one ran, on each side.
    pub runs: u64,
    /// Instructions that the host executed, as tier 1 counts them.
    pub instructions: u64,
    /// Runs that an exception ended.
    pub faults: u64,
    /// Blocks left out because the host lacks an instruction.
    pub host_lacks: u64,
    /// Runs that differed.
    pub differences: u64,
    /// The first of them.
    pub examples: Vec<String>,
    /// How often each code was in a block.
    pub codes: BTreeMap<(Mode, Code), u64>,
    /// How tier 2 was set up, and what it did.
    pub tier2: String,
}

/// A running comparison.
pub struct ThreeWays {
    native: Native,
    tier1: Guest,
    tier2: Guest,
    maker: Maker,
    memories: [Vec<u8>; 3],
    report: BlockReport,
}

/// How a seed sets tier 2 up: rare paths, and features that hosts may lack.
fn options(seed: u64) -> Options {
    let mut random = Random::new(seed ^ 0x7469_6572);
    let lane_b = if random.one_in(4) { LaneB::Always } else { LaneB::Off };
    Options {
        threshold: Some(0),
        tiny_tlb: random.one_in(3),
        code_size: random.one_in(4).then_some(1 << 20),
        lane_b,
        without: Without {
            bmi2: random.one_in(4),
            avx: random.one_in(8),
            // The guests have it, or the host could not be compared.
            avx512: false,
            // Without it there is no lane B.
            fsgsbase: lane_b == LaneB::Off && random.one_in(8),
            shm: false,
            xsave: random.one_in(8),
            processes: false,
        },
        ..Options::default()
    }
}

impl ThreeWays {
    /// Ready to run.
    ///
    /// # Errors
    /// The host or the engine refused.
    pub fn new(seed: u64) -> Result<Self, String> {
        let native = Native::new().map_err(|error| error.to_string())?;
        let maker = Maker::new(seed, native.fs_base());
        let options = options(seed);
        let report = BlockReport { tier2: format!("{options:?}"), ..BlockReport::default() };
        Ok(Self {
            native,
            tier1: Guest::delivering(None)?,
            tier2: Guest::delivering(Some(&options))?,
            maker,
            memories: std::array::from_fn(|_| vec![0; WRITABLE]),
            report,
        })
    }

    /// Compares for `time`, or until `instructions` have been executed, whichever comes first.
    ///
    /// # Errors
    /// The engine lacks the model, or a guest went astray.
    pub fn run(mut self, time: Duration, instructions: u64) -> Result<BlockReport, String> {
        let offered = engine::testing::offered("max")?;
        let end = Instant::now() + time;
        let mut vocabularies =
            [Mode::Long, Mode::Flat].map(|mode| (mode, Vocabulary::new(mode, &mut self.maker, &offered)));
        while Instant::now() < end && self.report.instructions < instructions {
            let (mode, vocabulary) = &mut vocabularies[usize::from(self.maker.random.one_in(4))];
            let block = self.maker.block(*mode, vocabulary);
            self.report.blocks += 1;
            Maker::tally(&block, &mut self.report.codes);
            self.tier1.load_block(block.at, &block.code);
            self.tier2.load_block(block.at, &block.code);
            for _ in 0..RUNS {
                if let Some(code) = self.compare(&block)? {
                    vocabulary.forget(code);
                    self.report.host_lacks += 1;
                    break;
                }
            }
        }
        self.report.tier2 = format!("{}: {}", self.report.tier2, self.tier2.status());
        Ok(self.report)
    }

    /// Runs blocks for `time` whose pointers lead to where this process has its own memory, the translator's code and
    /// tables too: a guest sees its page tables' faults there, in tier 2 as in tier 1. Gives how many runs ended with
    /// one.
    ///
    /// # Errors
    /// The engine lacks the model; or what differed.
    pub fn attack(mut self, time: Duration) -> Result<u64, String> {
        let offered = engine::testing::offered("max")?;
        let end = Instant::now() + time;
        let mut faults = 0;
        let vocabularies =
            [Mode::Long, Mode::Flat].map(|mode| (mode, Vocabulary::new(mode, &mut self.maker, &offered)));
        while Instant::now() < end {
            let goals = own_memory()?;
            let (mode, vocabulary) = &vocabularies[usize::from(self.maker.random.one_in(4))];
            let block = self.maker.block(*mode, vocabulary);
            self.tier1.load_block(block.at, &block.code);
            self.tier2.load_block(block.at, &block.code);
            for _ in 0..RUNS {
                let mut before = self.maker.block_state(&block);
                self.maker.go_astray(&block, &mut before, &goals);
                self.tier1.set_scratch(&self.maker.memory);
                self.tier2.set_scratch(&self.maker.memory);
                let (mut tier1, mut tier2) = (before.clone(), before.clone());
                let (first, _) =
                    self.tier1.step_block(&mut tier1).map_err(|error| self.astray(&block, error))?;
                let second = self.tier2.run_block(&mut tier2).map_err(|error| self.astray(&block, error))?;
                faults += u64::from(second.is_some());
                self.tier1.read_scratch(&mut self.memories[1]);
                self.tier2.read_scratch(&mut self.memories[2]);
                let nothing = Instruction::default();
                let here = block.mark(tier1.rip.wrapping_sub(before.rip) as usize);
                let (insn, open) = here.map_or((&nothing, 0), |mark| (&mark.insn, mark.undefined));
                let mut list = differences(insn, &before, &tier2, &tier1, second.is_some(), open);
                if first != second {
                    list.push(format!("{second:x?}, tier 1 {first:x?}"));
                }
                if self.memories[1] != self.memories[2] {
                    list.push("memory".to_owned());
                }
                if !list.is_empty() {
                    let text = listing(&block, &before, &tier1);
                    return Err(format!("{text}{} (the other is tier 1)", list.join("\n  ")));
                }
            }
        }
        Ok(faults)
    }

    /// One run of `block`; gives the instruction that the host does not have.
    fn compare(&mut self, block: &Block) -> Result<Option<Code>, String> {
        let before = self.maker.block_state(block);
        self.native.scratch().copy_from_slice(&self.maker.memory);
        self.tier1.set_scratch(&self.maker.memory);
        self.tier2.set_scratch(&self.maker.memory);
        let mut states = [before.clone(), before.clone(), before.clone()];
        let [host, tier1, tier2] = &mut states;
        // SAFETY: blocks keep to the code and data pages and their guard pages, or fault (see `blocks`).
        let host_fault = unsafe { self.native.run(&block.code, host) };
        let (first, count) = self.tier1.step_block(tier1).map_err(|error| self.astray(block, error))?;
        let second = self.tier2.run_block(tier2).map_err(|error| self.astray(block, error))?;
        let at = |state: &State| block.mark(state.rip.wrapping_sub(before.rip) as usize);
        let undefined = |fault: Option<Fault>| fault.is_some_and(|fault| fault.vector == vector::UD);
        if undefined(host_fault) && !undefined(first) {
            let code = at(host).map_or(Code::INVALID, |mark| mark.insn.code());
            return Ok(Some(code));
        }
        self.report.runs += 1;
        self.report.instructions += count;
        self.report.faults += u64::from(host_fault.is_some());
        self.memories[0].copy_from_slice(self.native.scratch());
        self.tier1.read_scratch(&mut self.memories[1]);
        self.tier2.read_scratch(&mut self.memories[2]);
        let mut list = Vec::new();
        let nothing = Instruction::default();
        let (insn, open) = at(host).map_or((&nothing, 0), |mark| (&mark.insn, mark.undefined));
        for (name, state, fault, memory) in
            [("tier 1", &*tier1, first, &self.memories[1]), ("tier 2", &*tier2, second, &self.memories[2])]
        {
            let start = list.len();
            let mut theirs = host_fault;
            // Linux says that the page is present where user code may not go.
            if let Some(fault) = theirs.as_mut().filter(|fault| fault.address >> 12 == 0x7_ffff_ffff) {
                fault.code &= !1;
            }
            // An operand across the end of a segment of 4 GiB: faults or wraps around, as the processor likes (SDM volume 3, 5.3).
            let end =
                |fault: &Fault| block.mode == Mode::Flat && !(0x40..0xffff_ffc0).contains(&fault.address);
            if fault.is_some_and(|fault| end(&fault))
                && theirs.is_some_and(|fault| matches!(fault.vector, vector::GP | vector::SS))
            {
                theirs = fault;
            }
            if fault != theirs {
                list.push(format!("{fault:x?}, host {host_fault:x?}"));
            }
            list.extend(differences(insn, &before, state, host, fault.is_some(), open));
            if let Some(n) = (0..WRITABLE).find(|n| self.memories[0][*n] != memory[*n]) {
                let (ours, host) = (&memory[n..], &self.memories[0][n..]);
                let len = ours.len().min(16);
                list.push(format!("memory at {n:x}: {:02x?}, host {:02x?}", &ours[..len], &host[..len]));
            }
            if list.len() > start {
                list.insert(start, format!("{name}:"));
            }
        }
        if !list.is_empty() {
            self.report.differences += 1;
            if self.report.examples.len() < TOLD {
                let mut text = listing(block, &before, host);
                text += &format!("{host_fault:x?}\n  ");
                self.report.examples.push(format!("{text}{}", list.join("\n  ")));
            }
        }
        Ok(None)
    }

    fn astray(&self, block: &Block, error: &str) -> String {
        format!("{error}: {:02x?} at {:x}", block.code, block.at)
    }
}

/// Addresses in each mapping of this process.
fn own_memory() -> Result<Vec<u64>, String> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
    let bounds = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    let own = maps.lines().filter_map(bounds);
    Ok(own.flat_map(|(start, end)| [start, (start + (end - start) / 2) & !7, end - 8]).collect())
}

/// What a reader needs to find a difference.
fn listing(block: &Block, before: &State, host: &State) -> String {
    let mut text = format!("block at {:x}, {:?}: {:02x?}\n", before.rip, block.mode, block.code);
    for mark in &block.marks {
        let here = before.rip + mark.at as u64;
        let sign = if here == host.rip { "-> " } else { "   " };
        text += &format!("{sign}{here:x} {:?}\n", mark.insn.code());
    }
    text + &format!(
        "  before: {:x?} flags {:x} mxcsr {:02x?} x87 {:02x?}\n  after: {:x?} flags {:x}\n  ",
        before.gpr,
        before.rflags,
        &before.xsave[24..28],
        &before.xsave[..5],
        host.gpr,
        host.rflags
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reaches_what_is_not_his() {
        for seed in [2, 13] {
            let faults = ThreeWays::new(seed).unwrap().attack(Duration::from_secs(4));
            assert!(faults.unwrap_or_else(|error| panic!("{error}")) > 0);
        }
    }

    #[test]
    fn blocks_agree_three_ways() {
        // Lane A, lane B, lane A with a tiny TLB.
        for seed in [2, 13, 1] {
            let report = ThreeWays::new(seed).unwrap().run(Duration::from_secs(10), 200_000).unwrap();
            assert_eq!(report.differences, 0, "{}", report.examples.join("\n"));
            assert!(report.instructions > 0 && report.faults > 0, "{report:?}");
        }
    }
}
