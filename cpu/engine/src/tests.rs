//! Small programs on a processor with a little memory.

mod smp;
pub(crate) mod system;

use crate::cpu::Cpu;
use accel::{CpuIo, Exit, VcpuSetup};
use guestmem::{AddressSpace, RamBlock, Region};
use irq::CpuSignals;
use parking_lot::Mutex;
use std::sync::Arc;
use x86::cpuid::{CpuidTable, Leaf};
use x86::reg::{cr0, cr4, efer, seg};
use x86::{Segment, X86State};

#[derive(Default)]
pub(crate) struct World {
    pub(crate) out: Mutex<Vec<(u16, u32)>>,
}

impl CpuIo for World {
    fn mmio_read(&self, _: u64, _: u8) -> u64 {
        0
    }
    fn mmio_write(&self, _: u64, _: u8, _: u64) {}
    fn port_read(&self, _: u16, _: u8) -> u32 {
        0x5a
    }
    fn port_write(&self, port: u16, _: u8, value: u32) {
        self.out.lock().push((port, value));
    }
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&self, _: u64) -> bool {
        true
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

pub(crate) struct Bench {
    pub(crate) cpu: Cpu,
    pub(crate) memory: AddressSpace,
    pub(crate) world: Arc<World>,
}

fn bench() -> Bench {
    let root = Region::whole("system");
    let memory = AddressSpace::memory("memory", &root);
    root.add(&Region::ram("ram", RamBlock::shared("ram", 4 << 20).expect("ram")), 0);
    let mut model = CpuidTable::default();
    model.leaves.insert((0, 0), Leaf { eax: 7, ..Leaf::default() });
    model.leaves.insert((1, 0), Leaf { eax: 0x600, ebx: 0, ecx: 0x80a0_2009, edx: 0x0783_fbff });
    model.leaves.insert((0x8000_0000, 0), Leaf { eax: 0x8000_0001, ..Leaf::default() });
    model.leaves.insert((0x8000_0001, 0), Leaf { eax: 0, ebx: 0, ecx: 1, edx: 0x2810_0800 });
    let world = Arc::new(World::default());
    let setup = VcpuSetup {
        index: 0,
        apic_id: 0,
        signals: Arc::new(CpuSignals::new()),
        io: world.clone(),
        memory: memory.clone(),
        model: Arc::new(model),
    };
    Bench { cpu: Cpu::new(setup, Arc::default()), memory, world }
}

/// Long mode, first 2 MiB mapped one to one by a large page, code at 0x1000, stack below 0x8000, IDT at 0x9000.
pub(crate) fn long(code: &[u8]) -> Bench {
    let mut b = bench();
    b.memory.write_int(0x10000, 8, 0x11007);
    b.memory.write_int(0x11000, 8, 0x12007);
    b.memory.write_int(0x12000, 8, 0x87);
    b.memory.write_int(0xa008, 8, 0x00af_9b00_0000_ffff);
    b.memory.write_int(0xa010, 8, 0x00cf_9300_0000_ffff);
    for v in 0..32u64 {
        let to = 0x2000 + v * 16;
        b.memory.write_int(0x9000 + v * 16, 8, 0x8e00_0008_0000 | to);
        b.memory.write(to, &[0xb0, v as u8, 0xe6, 0x80, 0xf4]);
    }
    b.memory.write(0x1000, code);
    let mut s = X86State { rip: 0x1000, ..X86State::default() };
    s.gpr[4] = 0x8000;
    s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::ET;
    s.cr4 = cr4::PAE | cr4::OSFXSR;
    s.cr3 = 0x10000;
    s.efer = efer::LME | efer::LMA | efer::SCE | efer::NXE;
    s.gdtr.base = 0xa000;
    s.gdtr.limit = 0x1f;
    s.idtr.base = 0x9000;
    s.idtr.limit = 0xfff;
    s.seg = [Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 0x10 }; 6];
    s.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa09b, selector: 8 };
    b.cpu.load_state(&s);
    b
}

fn run(b: &mut Bench) {
    assert_eq!(b.cpu.run_loop(), Exit::Halted);
}

#[test]
fn real_mode_counts_and_writes_to_a_port() {
    let mut b = bench();
    // mov cx,10; xor ax,ax; l: add ax,cx; loop l; out 0x80,ax; push ax; pop bx; hlt
    b.memory.write(0x1000, &[0xb9, 10, 0, 0x31, 0xc0, 0x01, 0xc8, 0xe2, 0xfc, 0xe7, 0x80, 0x50, 0x5b, 0xf4]);
    let mut s = X86State::default();
    s.seg[seg::CS] = Segment::real_mode(0x100, true);
    s.rip = 0;
    s.gpr[4] = 0x800;
    b.cpu.load_state(&s);
    run(&mut b);
    assert_eq!(*b.world.out.lock(), [(0x80, 55)]);
    assert_eq!(b.cpu.state.gpr[3], 55);
}

#[test]
fn long_mode_runs_a_loop_with_memory_and_calls() {
    // mov ecx,1000; xor eax,eax; l: call f; dec ecx; jnz l; hlt; f: add [0x3000],rcx; mov rax,[0x3000]; ret
    let mut b = long(&[
        0xb9, 0xe8, 3, 0, 0, 0x31, 0xc0, 0xe8, 5, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xf4, 0x48, 0x01, 0x0c,
        0x25, 0, 0x30, 0, 0, 0x48, 0x8b, 0x04, 0x25, 0, 0x30, 0, 0, 0xc3,
    ]);
    run(&mut b);
    assert_eq!(b.cpu.state.gpr[0], 500_500);
    assert_eq!(b.memory.read_int(0x3000, 8), 500_500);
    assert_eq!(b.cpu.state.gpr[4], 0x8000);
}

#[test]
fn faults_reach_their_handlers() {
    let handler = |code: &[u8]| {
        let mut b = long(code);
        run(&mut b);
        let out = b.world.out.lock()[0].1;
        (out, b.cpu.state.cr2, b.memory.read_int(b.cpu.state.gpr[4], 8))
    };
    // mov rax,[0x40_0000]: not mapped
    assert_eq!(handler(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x40, 0]), (14, 0x40_0000, 0));
    assert_eq!(handler(&[0x0f, 0x0b]), (6, 0, 0x1000));
    // xor ecx,ecx; div ecx
    assert_eq!(handler(&[0x31, 0xc9, 0xf7, 0xf1]), (0, 0, 0x1002));
    // mov ds, 0x30: beyond the table
    assert_eq!(handler(&[0xb8, 0x30, 0, 0, 0, 0x8e, 0xd8]), (13, 0, 0x30));
    assert_eq!(handler(&[0xcc]), (3, 0, 0x1001));
}

#[test]
fn code_that_changes_the_next_instruction_runs_changed() {
    // mov byte [rip+1],0x42; mov al,0; hlt -- the immediate of the second instruction is patched
    let mut b = long(&[0xc6, 0x05, 1, 0, 0, 0, 0x42, 0xb0, 0, 0xf4]);
    run(&mut b);
    assert_eq!(b.cpu.state.gpr[0] & 0xff, 0x42);
}

#[test]
fn strings_and_flags() {
    // cld; mov edi,0x3000; mov ecx,300; mov al,7; rep stosb; mov esi,0x3000; mov edi,0x3800; mov ecx,300;
    // rep movsb; mov al,8; mov edi,0x3800; mov ecx,400; repe scasb... ends at once; pushf; pop rdx; hlt
    let mut b = long(&[
        0xfc, 0xbf, 0, 0x30, 0, 0, 0xb9, 44, 1, 0, 0, 0xb0, 7, 0xf3, 0xaa, 0xbe, 0, 0x30, 0, 0, 0xbf, 0,
        0x38, 0, 0, 0xb9, 44, 1, 0, 0, 0xf3, 0xa4, 0xb0, 8, 0xbf, 0, 0x38, 0, 0, 0xb9, 0x90, 1, 0, 0, 0xf3,
        0xae, 0x9c, 0x5a, 0xf4,
    ]);
    run(&mut b);
    assert_eq!(b.memory.read_int(0x3800 + 292, 8), 0x0707_0707_0707_0707);
    assert_eq!(b.memory.read_int(0x3800 + 300, 1), 0);
    assert_eq!(b.cpu.state.gpr[1], 399);
    assert_eq!(b.cpu.state.gpr[2] & 0x8d5, 0);
}

#[test]
fn a_fault_without_handlers_is_a_shutdown() {
    let mut b = long(&[0x0f, 0x0b]);
    b.cpu.state.idtr.limit = 0;
    assert_eq!(b.cpu.run_loop(), Exit::Shutdown);
}

#[test]
fn iret_returns_to_the_frame() {
    // int 0x20's gate is absent; use ud2 with a handler that skips it: push back with rip+2 by add [rsp],2; iretq
    let mut b = long(&[0x0f, 0x0b, 0xb8, 0x34, 0x12, 0, 0, 0xf4]);
    b.memory.write(0x2000 + 6 * 16, &[0x48, 0x83, 0x04, 0x24, 2, 0x48, 0xcf]);
    run(&mut b);
    assert_eq!((b.cpu.state.gpr[0], b.cpu.state.gpr[4]), (0x1234, 0x8000));
}
