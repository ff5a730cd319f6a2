//! A processor with a little memory and nothing around it: what the comparison with the host and the fuzz targets
//! drive. No program links it into a machine.

use crate::cpu::Cpu;
use crate::features::supported_features;
use accel::{CpuIo, Exit, VcpuSetup};
use guestmem::{AddressSpace, RamBlock, Region};
use irq::CpuSignals;
use std::sync::Arc;
use x86::X86State;
use x86::cpuid::CpuidTable;
use x86::models::{Topology, parse};

/// Nothing is outside the processor: reads give zeros, writes are lost.
struct Nowhere;

impl CpuIo for Nowhere {
    fn mmio_read(&self, _: u64, _: u8) -> u64 {
        0
    }
    fn mmio_write(&self, _: u64, _: u8, _: u64) {}
    fn port_read(&self, _: u16, _: u8) -> u32 {
        0
    }
    fn port_write(&self, _: u16, _: u8, _: u32) {}
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&self, _: u64) -> bool {
        false
    }
    fn apic_msr_read(&self, _: u32) -> Option<u64> {
        None
    }
    fn apic_msr_write(&self, _: u32, _: u64) -> bool {
        false
    }
    fn set_tsc_deadline(&self, _: u64, _: u64, _: u64) -> bool {
        false
    }
    fn poll_timers(&self) {}
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&self, _: u8) {}
    fn fpu_error(&self) {}
    fn a20_mask(&self) -> u64 {
        u64::MAX
    }
}

/// An exception that an instruction raised, not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its vector.
    pub vector: u8,
    /// Its error code, for vectors that have one.
    pub code: Option<u16>,
}

/// What CPUID answers on a processor called `model` as after `-cpu`, cut down to what the engine executes.
///
/// # Errors
/// There is no such model.
pub fn cpuid(model: &str) -> Result<CpuidTable, String> {
    Ok(parse(model)?.realize(&supported_features(), Topology::default(), 40)?.table)
}

/// Which instructions the processor called `model` offers.
///
/// # Errors
/// There is no such model.
pub fn offered(model: &str) -> Result<impl Fn(iced_x86::Code) -> bool + use<>, String> {
    let table = cpuid(model)?;
    Ok(move |code| crate::features::offered(&table, code))
}

/// In place of an exception's vector: translator and interpreter differ.
pub const TIERS_DIFFER: u8 = 0xff;

/// One processor, and RAM from physical address 0.
pub struct Bench {
    cpu: Cpu,
    /// Instructions executed by the translator in [`Bench::step`].
    translated: Option<u64>,
    memory: AddressSpace,
}

impl Bench {
    /// A processor called `model` as after `-cpu`, in its power-up state, and `ram` bytes of RAM (a multiple of 4096).
    ///
    /// # Errors
    /// There is no such model, or the host has no memory left.
    pub fn new(model: &str, ram: u64) -> Result<Self, String> {
        let root = Region::whole("system");
        let memory = AddressSpace::memory("memory", &root);
        root.add(&Region::ram("ram", RamBlock::shared("ram", ram).map_err(|error| error.to_string())?), 0);
        let setup = VcpuSetup {
            index: 0,
            apic_id: 0,
            signals: Arc::new(CpuSignals::new()),
            io: Arc::new(Nowhere),
            memory: memory.clone(),
            model: Arc::new(cpuid(model)?),
        };
        Ok(Self { cpu: Cpu::new(setup, Arc::default()), memory, translated: None })
    }

    /// Lets [`Bench::step`] execute in both tiers what the translator executes natively; the result is the
    /// translator's, and a difference an exception with the vector [`TIERS_DIFFER`].
    ///
    /// # Errors
    /// What the host lacks for the translator.
    pub fn compare_tiers(&mut self) -> Result<(), &'static str> {
        let options = crate::Options {
            translate: true,
            lockstep: true,
            one_instruction: true,
            threshold: Some(0),
            ..crate::Options::default()
        };
        crate::translator::host_is_able(options.without)?;
        self.cpu.set_options(&options, None);
        self.translated = Some(0);
        Ok(())
    }

    /// Lets [`Bench::run_until_halted`] execute by the translator, as `options` say.
    ///
    /// # Errors
    /// What the host lacks for the translator.
    pub fn translate(&mut self, options: &crate::Options) -> Result<(), &'static str> {
        crate::translator::host_is_able(options.without)?;
        self.cpu.set_options(&crate::Options { translate: true, ..*options }, None);
        Ok(())
    }

    /// What the translator did so far, and instructions that the interpreter executed meanwhile.
    pub fn status(&self) -> accel::JitStatus {
        self.cpu.jit_status()
    }

    /// Runs from `state`, with cached translations kept as by [`Bench::set_registers`] and exceptions delivered, until the
    /// processor halts; false when it has not within `most` blocks, or something else ended it.
    pub fn run_until_halted(&mut self, state: &X86State, most: u32) -> bool {
        self.set_registers(state);
        self.cpu.run_blocks(most) == Some(Exit::Halted)
    }

    /// How many instructions were executed in both tiers.
    pub fn translated(&self) -> u64 {
        self.translated.unwrap_or(0)
    }

    /// The memory, by physical addresses.
    pub fn memory(&self) -> &AddressSpace {
        &self.memory
    }

    /// The registers, exact.
    pub fn state(&mut self) -> &X86State {
        self.cpu.state.rflags = self.cpu.rflags();
        &self.cpu.state
    }

    /// Replaces the registers and drops every cached translation.
    pub fn set_state(&mut self, state: &X86State) {
        self.cpu.load_state(state);
    }

    /// Replaces the registers and keeps cached translations: the page tables must be the same as before.
    pub fn set_registers(&mut self, state: &X86State) {
        let cpu = &mut self.cpu;
        cpu.state = state.clone();
        cpu.state.zero = 0;
        cpu.jit.note_wide();
        cpu.set_rflags(state.rflags);
        (cpu.shutdown, cpu.moved) = (false, false);
        cpu.mode_changed();
    }

    /// Executes the instruction at CS:RIP and reports its exception instead of delivering it. A string instruction that
    /// wants to be continued is.
    ///
    /// # Errors
    /// The exception; a page fault's address is in CR2.
    pub fn step(&mut self) -> Result<(), Raised> {
        if let Some(count) = &mut self.translated {
            self.cpu.enter_thread();
            if self.cpu.run_translated() {
                *count += 1;
                let differ = std::mem::take(&mut self.cpu.failed);
                return if differ { Err(Raised { vector: TIERS_DIFFER, code: None }) } else { Ok(()) };
            }
        }
        // Each turn but the last does 4096 iterations of a repeated string instruction, or takes note of a page.
        for _ in 0..64 {
            match self.cpu.step_raw() {
                Err(fault) if fault.is_restart() => {}
                Err(fault) => return Err(Raised { vector: fault.vector(), code: fault.code() }),
                Ok(()) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts `code` at physical address `at`, then runs up to `blocks` blocks (of up to 48 instructions each) from
    /// `state`, with exceptions delivered as in a machine. Gives why it stopped early.
    pub fn run(&mut self, at: u64, code: &[u8], state: &X86State, blocks: u32) -> Option<Exit> {
        self.memory.write(at, code);
        self.set_state(state);
        self.cpu.run_blocks(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::reg::vector;

    #[test]
    fn a_loop_ends_and_a_fault_is_reported() {
        let mut bench = Bench::new("max", 1 << 20).unwrap();
        let mut state = X86State { rip: 0x100, ..X86State::default() };
        state.seg[1] = x86::Segment::real_mode(0, true);
        // inc ax; jmp $-1
        assert_eq!(bench.run(0x100, &[0x40, 0xeb, 0xfd], &state, 10), None);
        assert_eq!(bench.state().gpr[0], 10);
        assert_eq!(bench.run(0x100, &[0xf4], &state, 10), Some(Exit::Halted));
        bench.memory().write(0x100, &[0x0f, 0x0b]);
        bench.set_registers(&state);
        assert_eq!(bench.step(), Err(Raised { vector: vector::UD, code: None }));
        assert_eq!(bench.state().rip, 0x100);
    }
}
