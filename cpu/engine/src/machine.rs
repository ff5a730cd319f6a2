//! The engine as an accelerator, and the interpreter as the vector unit sees it.

use crate::block::{BlockCache, Features};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use crate::mmu::{Ram, Tlb};
use crate::options::Options;
use crate::shared::Peers;
use crate::translator::profile::Profile;
use crate::vector::{Machine, Operands};
use accel::{Accelerator, Exit, Vcpu, VcpuSetup};
use irq::Event;
use std::sync::Arc;
use x86::reg::{flags, vector};
use x86::{Activity, X86State};

/// `-accel tcg`.
#[derive(Default)]
pub struct Tcg {
    peers: Arc<Peers>,
    options: Options,
    profile: Option<Arc<Profile>>,
}

impl Tcg {
    /// The accelerator of one machine: tier 1, the interpreter.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `options`.
    ///
    /// # Errors
    /// What the host lacks for the translator.
    pub fn with(options: Options) -> Result<Self, &'static str> {
        if options.translate {
            crate::translator::host_is_able(options.without)?;
        }
        let profile = (options.perfmap || options.jitdump)
            .then(|| Arc::new(Profile::open(options.perfmap, options.jitdump)));
        Ok(Self { options, profile, ..Self::default() })
    }
}

impl Accelerator for Tcg {
    fn name(&self) -> &'static str {
        "tcg"
    }

    fn create_vcpu(&self, setup: VcpuSetup) -> Result<Box<dyn Vcpu>, String> {
        let mut cpu = Box::new(Cpu::new(setup, self.peers.clone()));
        if self.options.lockstep && cpu.index != 0 {
            return Err("x-lockstep=on is for one processor".to_owned());
        }
        if self.options.single {
            self.peers.set_single();
        }
        cpu.set_options(&self.options, self.profile.clone());
        Ok(cpu)
    }
}

impl Cpu {
    pub(crate) fn new(setup: VcpuSetup, peers: Arc<Peers>) -> Self {
        crate::system::control::start_tsc();
        peers.add(setup.index, setup.signals.clone());
        let model = Arc::new(setup.model.for_apic_id(setup.apic_id));
        let mut state = X86State::default();
        state.gpr[2] = model.read(1, 0).eax.into();
        if setup.index != 0 {
            state.activity = Activity::WaitForSipi;
        }
        let bits = match model.read(0x8000_0008, 0).eax & 0xff {
            0 => 36,
            bits => bits.clamp(32, 52),
        };
        let signals = setup.signals.clone();
        setup.memory.subscribe(move |_| signals.raise(Event::MapChanged));
        let jit = crate::translator::Jit::new(&setup.signals);
        let mut cpu = Self {
            state: X86State::default(),
            fl: 0,
            set: 1,
            long: false,
            bits: 16,
            end: std::ptr::null(),
            tlb: Tlb::new(),
            ram: Ram::new(&setup.memory.view()),
            blocks: BlockCache::new(),
            features: Features::new(),
            thunks: crate::evex::Thunks::default(),
            a20: setup.io.a20_mask(),
            io: setup.io,
            signals: setup.signals,
            memory: setup.memory,
            model: model.clone(),
            peers,
            index: setup.index,
            phys_mask: (1 << bits) - 1,
            cr4_mask: crate::features::cr4_bits(&model),
            pages_1g: model.read(0x8000_0001, 0).edx >> 26 & 1 != 0,
            intel: model.read(0, 0).ebx == u32::from_le_bytes(*b"Genu"),
            aligned: false,
            debug: crate::debug::Debug::default(),
            debugger: crate::debugger::Debugger::default(),
            mov_ss: false,
            entered: false,
            loaded_rf: false,
            recheck_tf: false,
            moved: false,
            pauses: 0,
            want_exclusive: false,
            exclusive: false,
            shutdown: false,
            failed: false,
            attention: true,
            interest: u32::MAX,
            monitored: None,
            instructions: 0,
            counts: crate::status::Counts::default(),
            jit,
        };
        cpu.load_state(&state);
        cpu
    }
}

impl Cpu {
    /// Takes options over. Before anything runs.
    pub(crate) fn set_options(&mut self, options: &Options, profile: Option<Arc<Profile>>) {
        self.tlb.set_tiny(options.tiny_tlb);
        self.blocks.set_single(options.one_instruction || options.lockstep);
        if options.translate {
            let signals = self.signals.clone();
            self.jit.enable(options, profile, &signals);
        }
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        self.peers.remove(self.index);
    }
}

impl Vcpu for Cpu {
    fn run(&mut self) -> Exit {
        self.run_loop()
    }

    fn wake_mask(&self) -> u32 {
        const ALWAYS: u32 = Event::Init as u32 | Event::Exit as u32 | Event::MapChanged as u32;
        match self.state.activity {
            Activity::WaitForSipi => ALWAYS | Event::Sipi as u32,
            Activity::Shutdown => Event::Init as u32 | Event::Exit as u32,
            _ if self.rflags() & flags::IF != 0 => ALWAYS | Event::Nmi as u32 | Event::Intr as u32,
            _ => ALWAYS | Event::Nmi as u32,
        }
    }

    fn state(&mut self) -> &X86State {
        self.state.rflags = self.rflags();
        &self.state
    }

    fn set_state(&mut self, state: &X86State) {
        self.log_reset();
        self.load_state(state);
    }

    fn translate(&mut self, linear: u64) -> Option<u64> {
        self.translate_quietly(linear)
    }

    fn jit_status(&mut self) -> Option<accel::JitStatus> {
        Some(Self::jit_status(self))
    }

    fn set_debugger(&mut self, request: &accel::DebugRequest) -> bool {
        Self::set_debugger(self, request);
        true
    }

    fn take_debug_stop(&mut self) -> Option<accel::DebugStop> {
        self.debugger.stop.take()
    }

    fn tsc(&mut self) -> u64 {
        Self::tsc(self)
    }

    fn shift_tsc(&mut self, ticks: u64) {
        self.state.tsc_offset = self.state.tsc_offset.wrapping_add(ticks);
    }
}

impl Operands for Insn {
    fn register(&self, n: usize) -> usize {
        self.regs[n].into()
    }
    fn is_memory(&self, n: usize) -> bool {
        self.is_mem() && usize::from(self.mem_op) == n
    }
    fn immediate(&self) -> u8 {
        self.imm as u8
    }
    fn second_immediate(&self) -> u8 {
        self.imm2
    }
    fn vector_index(&self) -> (usize, u64) {
        (self.index.into(), 1 << self.scale)
    }
}

impl Machine for Cpu {
    type Insn = Insn;
    type Fault = Fault;
    fn x86(&mut self) -> &mut X86State {
        &mut self.state
    }
    fn fault(&mut self, vector: u8) -> Fault {
        Fault::new(vector, 0)
    }
    fn load<const N: usize>(&mut self, insn: &Insn, aligned: bool) -> Result<[u8; N], Fault> {
        if aligned { self.load_aligned(insn) } else { Self::load(self, insn) }
    }
    fn store<const N: usize>(&mut self, insn: &Insn, value: [u8; N], aligned: bool) -> Result<(), Fault> {
        if aligned { self.store_aligned(insn, value) } else { Self::store(self, insn, value) }
    }
    fn load_part<const N: usize>(&mut self, insn: &Insn, displacement: u64) -> Result<[u8; N], Fault> {
        Self::load_part(self, insn, displacement)
    }
    fn set_flags(&mut self, flags: u64) {
        self.set_arith_flags(flags);
    }
    fn load_gathered<const N: usize>(&mut self, insn: &Insn, displacement: u64) -> Result<[u8; N], Fault> {
        // The index is a vector register, whose number must not pick a general one.
        let plain = Insn { index: crate::insn::NONE, ..*insn };
        let at = self.element(&plain, displacement, N as u64, false)?;
        self.read_bytes(at)
    }
    fn store_part<const N: usize>(
        &mut self,
        insn: &Insn,
        displacement: u64,
        value: [u8; N],
    ) -> Result<(), Fault> {
        Self::store_part(self, insn, displacement, &value)
    }
    fn check_store_part(&mut self, insn: &Insn, displacement: u64, size: usize) -> Result<(), Fault> {
        Self::check_store_part(self, insn, displacement, size as u64)
    }
}

impl crate::fpu::FpuMachine for Cpu {
    fn insn_start(&self, insn: &Insn) -> u64 {
        Self::insn_start(self, insn)
    }
    fn operand_pointer(&self, insn: &Insn) -> (u16, u64) {
        (self.state.seg[usize::from(insn.seg) % 6].selector, self.offset(insn))
    }
    fn arith_flags(&self) -> u64 {
        Self::arith_flags(self)
    }
    fn set_arith_flags(&mut self, flags: u64) {
        Self::set_arith_flags(self, flags);
    }
    fn check_aligned(&mut self, insn: &Insn, size: u64) -> Result<(), Fault> {
        if !self.aligned || self.is_aligned(insn, size) { Ok(()) } else { Err(Fault::new(vector::AC, 0)) }
    }
    fn fpu_error(&mut self) {
        self.io.fpu_error();
    }
}
