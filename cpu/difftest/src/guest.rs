//! The interpreter's side: the same pages in a guest, at CPL 3 in 64-bit mode.

use crate::native::{CODE, CODE_SIZE, Fault, SCRATCH, SCRATCH_SIZE, State};
use accel::{Accelerator, CpuIo, Exit, Vcpu, VcpuSetup};
use guestmem::{AddressSpace, RamBlock, Region};
use irq::CpuSignals;
use std::sync::Arc;
use x86::features::FeatureSet;
use x86::models::{Topology, parse};
use x86::reg::{cr0, cr4, efer, flags, seg, vector};
use x86::{Segment, X86State};

/// Nothing is outside the processor.
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
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&self, _: u8) {}
    fn fpu_error(&self) {}
    fn a20_mask(&self) -> u64 {
        u64::MAX
    }
}

/// Physical addresses.
const CODE_AT: u64 = 0x10_0000;
const SCRATCH_AT: u64 = 0x10_1000;
const STUBS: u64 = 0x2000;
const STACK: u64 = 0x8000;
const IDT: u64 = 0x9000;
const GDT: u64 = 0xa000;
const TSS: u64 = 0xb000;
const TABLES: u64 = 0x10000;

/// A processor of the engine with a little memory.
pub struct Guest {
    cpu: Box<dyn Vcpu>,
    memory: AddressSpace,
    features: FeatureSet,
}

impl Guest {
    /// A guest with `-cpu max`.
    ///
    /// # Errors
    /// The engine's or the host's refusal.
    pub fn new() -> Result<Self, String> {
        let root = Region::whole("system");
        let memory = AddressSpace::memory("memory", &root);
        root.add(&Region::ram("ram", RamBlock::new("ram", 4 << 20).map_err(|error| error.to_string())?), 0);
        let supported = FeatureSet::from_names(&engine::supported_names()).ok_or("unknown feature names")?;
        let realized = parse("max")?.realize(&supported, Topology::default(), 40)?;
        let setup = VcpuSetup {
            index: 0,
            apic_id: 0,
            signals: Arc::new(CpuSignals::new()),
            io: Arc::new(Nowhere),
            memory: memory.clone(),
            model: Arc::new(realized.table),
        };
        let table = |index: u64, entry: u64, value: u64| {
            memory.write_int(TABLES + index * 0x1000 + entry * 8, 8, value);
        };
        table(0, 0, TABLES + 0x1007);
        table(1, 0, TABLES + 0x2007);
        table(2, 0, 0x83);
        for (n, address, at, pages) in
            [(3, CODE, CODE_AT, 1), (5, SCRATCH, SCRATCH_AT, SCRATCH_SIZE as u64 / 4096)]
        {
            table(1, address >> 30, TABLES + n * 0x1000 + 7);
            table(n, 0, TABLES + (n + 1) * 0x1000 + 7);
            for page in 0..pages {
                table(n + 1, page, at + page * 4096 + 7);
            }
        }
        memory.write_int(GDT + 8, 8, 0x00af_9b00_0000_ffff);
        memory.write_int(TSS + 4, 8, STACK);
        for v in 0..32 {
            let dpl = if v == u64::from(vector::BP) { 3 << 45 } else { 0 };
            memory.write_int(IDT + v * 16, 8, dpl | 0x8e00_0008_0000 | (STUBS + v * 16));
            memory.write(STUBS + v * 16, &[0xf4]);
        }
        let cpu = engine::Tcg::new().create_vcpu(setup)?;
        Ok(Self { cpu, memory, features: realized.features })
    }

    /// Whether the processor has the feature that QEMU calls `name`.
    pub fn offers(&self, name: &str) -> bool {
        self.features.has(name)
    }

    /// Fills the data pages.
    pub fn set_scratch(&mut self, bytes: &[u8]) {
        self.memory.write(SCRATCH_AT, &bytes[..bytes.len().min(SCRATCH_SIZE)]);
    }

    /// What the data pages hold.
    pub fn scratch(&self) -> Vec<u8> {
        let mut bytes = vec![0; SCRATCH_SIZE];
        self.memory.read(SCRATCH_AT, &mut bytes);
        bytes
    }

    /// Runs the instruction in `code` from `state`, as [`crate::Native::run`] does.
    ///
    /// # Errors
    /// The guest stopped in another way than by an exception.
    pub fn run(&mut self, code: &[u8], state: &mut State) -> Result<Option<Fault>, String> {
        let mut page = [0xcc; CODE_SIZE];
        let at = usize::try_from(state.rip.wrapping_sub(CODE)).unwrap_or(0) % CODE_SIZE;
        page[at..at + code.len()].copy_from_slice(code);
        self.memory.write(CODE_AT, &page);
        let mut registers = X86State {
            gpr: state.gpr,
            rip: state.rip,
            rflags: state.rflags | flags::FIXED,
            cr0: cr0::PE | cr0::PG | cr0::WP | cr0::ET | cr0::NE | cr0::MP,
            cr3: TABLES,
            cr4: cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE,
            efer: efer::LME | efer::LMA | efer::SCE | efer::NXE,
            xcr0: 7,
            cpl: 3,
            ..X86State::default()
        };
        (registers.gdtr.base, registers.gdtr.limit) = (GDT, 0x0f);
        (registers.idtr.base, registers.idtr.limit) = (IDT, 0x1ff);
        registers.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0x40 };
        registers.seg = [Segment { base: 0, limit: u32::MAX, attributes: 0xc0f3, selector: 0x2b }; 6];
        registers.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa0fb, selector: 0x33 };
        let mut legacy = [0; 160];
        legacy.copy_from_slice(&state.xsave[..160]);
        engine::fpu::load_legacy_area(&mut registers.x87, true, &legacy);
        registers.mxcsr = u32::from_le_bytes([legacy[24], legacy[25], legacy[26], legacy[27]]);
        for (n, value) in registers.zmm[..16].iter_mut().enumerate() {
            value[..16].copy_from_slice(&state.xsave[160 + 16 * n..][..16]);
            value[16..32].copy_from_slice(&state.xsave[576 + 16 * n..][..16]);
        }
        self.cpu.set_state(&registers);
        let exit = self.cpu.run();
        let after = self.cpu.state().clone();
        let stub = after.rip.wrapping_sub(STUBS);
        if exit != Exit::Halted || stub >= 512 {
            return Err(format!("{exit:?} at {:x}", after.rip));
        }
        let number = (stub / 16) as u8;
        let mut frame = after.gpr[4];
        let mut code = 0;
        if STACK.wrapping_sub(frame) == 48 {
            code = self.memory.read_int(frame, 8);
            frame += 8;
        }
        state.gpr = after.gpr;
        state.gpr[4] = self.memory.read_int(frame + 24, 8);
        state.rip = self.memory.read_int(frame, 8);
        state.rflags =
            self.memory.read_int(frame + 16, 8) & (flags::ARITH | flags::DF | flags::ID) | flags::FIXED;
        engine::fpu::legacy_area(&after.x87, true, &mut legacy);
        legacy[24..28].copy_from_slice(&after.mxcsr.to_le_bytes());
        state.xsave[..160].copy_from_slice(&legacy);
        for (n, value) in after.zmm[..16].iter().enumerate() {
            state.xsave[160 + 16 * n..][..16].copy_from_slice(&value[..16]);
            state.xsave[576 + 16 * n..][..16].copy_from_slice(&value[16..32]);
        }
        if number == vector::BP {
            state.rip -= 1;
            return Ok(None);
        }
        let address = if number == vector::PF { after.cr2 } else { 0 };
        Ok(Some(Fault { vector: number, code, address }))
    }
}
