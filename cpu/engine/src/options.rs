//! What `-accel tcg` can be told.

pub use crate::translator::LaneB;

/// The engine's options. Those after `one_instruction` are for tests: they make rare paths common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Tier 2: hot code is translated.
    pub translate: bool,
    /// Bytes of one vCPU's translated code and what belongs to it.
    pub code_size: Option<usize>,
    /// One vCPU runs at a time.
    pub single: bool,
    /// Blocks have one instruction.
    pub one_instruction: bool,
    /// A TLB of two entries.
    pub tiny_tlb: bool,
    /// Executions by the interpreter before a block is translated.
    pub threshold: Option<u8>,
    /// The arithmetic flags in frames of exceptions may be older ones where the program overwrites them unread.
    pub lazy_flags: bool,
    /// Every translated block is executed by the interpreter too, and the results are compared. One vCPU.
    pub lockstep: bool,
    /// When user code runs in processes of its own.
    pub lane_b: LaneB,
    /// Features of the host that are not used.
    pub without: Without,
    /// `-perfmap`: perf is told where translated code is.
    pub perfmap: bool,
    /// `-jitdump`: translated code is shown to perf.
    pub jitdump: bool,
}

impl Options {
    /// Whether user code may come to run in processes, which need guest RAM that they can map.
    pub fn runs_processes(&self) -> bool {
        self.translate
            && self.lane_b != LaneB::Off
            && !self.lockstep
            && !self.one_instruction
            // What perf is shown is the code of this process.
            && !self.perfmap
            && !self.jitdump
            && !self.without.processes
    }
}

/// Features of the host that are treated as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// RORX and the guest's BMI2 instructions.
    pub bmi2: bool,
    /// AVX: VEX-coded instructions are interpreted.
    pub avx: bool,
    /// AVX-512: guests are not shown it.
    pub avx512: bool,
    /// WRGSBASE: the GS base is set by a system call.
    pub fsgsbase: bool,
    /// Executable shared memory: everything is left to tier 1.
    pub shm: bool,
    /// XSAVE: x87 and MMX instructions are interpreted.
    pub xsave: bool,
    /// Helper processes: user code stays in this one.
    pub processes: bool,
}

impl Without {
    /// From names separated by colons.
    ///
    /// # Errors
    /// The first name that is none.
    pub fn parse(text: &str) -> Result<Self, &str> {
        let mut without = Self::default();
        for name in text.split(':') {
            *match name {
                "bmi2" => &mut without.bmi2,
                "avx" => &mut without.avx,
                "avx512" => &mut without.avx512,
                "fsgsbase" => &mut without.fsgsbase,
                "shm" => &mut without.shm,
                "xsave" => &mut without.xsave,
                "processes" => &mut without.processes,
                _ => return Err(name),
            } = true;
        }
        Ok(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_told() {
        let both = Without { bmi2: true, shm: true, ..Without::default() };
        assert_eq!(Without::parse("bmi2:shm"), Ok(both));
        assert_eq!(Without::parse("avx:foo"), Err("foo"));
    }
}
