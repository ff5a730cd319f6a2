//! Real-mode code on the host's KVM; passed over where there is none.

use crate::{Kvm, OpenError};
use accel::{Accelerator, CpuIo, Exit, VcpuSetup};
use guestmem::{AddressSpace, RamBlock, Region};
use irq::{CpuSignals, Event};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use x86::cpuid::CpuidTable;
use x86::models::{Topology, parse_on};
use x86::{Activity, X86State};

/// What surrounds the processor: it remembers every access.
#[derive(Default)]
struct World {
    log: Mutex<Vec<String>>,
    vectors: Mutex<VecDeque<u8>>,
    signals: Mutex<Option<Arc<CpuSignals>>>,
    tpr: AtomicU8,
}

impl World {
    fn note(&self, text: String) {
        self.log.lock().expect("log").push(text);
    }
}

impl CpuIo for World {
    fn mmio_read(&self, address: u64, size: u8) -> u64 {
        self.note(format!("read {address:#x}/{size}"));
        0x1122_3344_5566_7788
    }
    fn mmio_write(&self, address: u64, size: u8, value: u64) {
        self.note(format!("write {address:#x}/{size} {value:#x}"));
    }
    fn port_read(&self, port: u16, size: u8) -> u32 {
        self.note(format!("in {port:#x}/{size}"));
        0xaabb_ccdd
    }
    fn port_write(&self, port: u16, size: u8, value: u32) {
        self.note(format!("out {port:#x}/{size} {value:#x}"));
    }
    fn acknowledge_interrupt(&self) -> Option<u8> {
        let mut vectors = self.vectors.lock().expect("vectors");
        let vector = vectors.pop_front();
        if vectors.is_empty()
            && let Some(signals) = &*self.signals.lock().expect("signals")
        {
            signals.clear(Event::Intr);
        }
        vector
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&self, _value: u64) -> bool {
        true
    }
    fn apic_msr_read(&self, _msr: u32) -> Option<u64> {
        None
    }
    fn apic_msr_write(&self, _msr: u32, _value: u64) -> bool {
        false
    }
    fn set_tsc_deadline(&self, _deadline: u64, _now: u64, _hertz: u64) -> bool {
        false
    }
    fn tpr(&self) -> u8 {
        self.tpr.load(Ordering::SeqCst)
    }
    fn set_tpr(&self, value: u8) {
        self.tpr.store(value, Ordering::SeqCst);
    }
    fn fpu_error(&self) {}
    fn a20_mask(&self) -> u64 {
        u64::MAX
    }
    fn poll_timers(&self) {}
}

struct Bench {
    vcpu: Box<dyn accel::Vcpu>,
    world: Arc<World>,
    signals: Arc<CpuSignals>,
    memory: AddressSpace,
    _kvm: Kvm,
}

/// A processor whose RAM holds `code` at 0x1000, in real mode; `None` where there is no KVM.
fn bench(code: &[u8]) -> Option<Bench> {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(OpenError::Access(error)) => {
            eprintln!("SKIPPED: /dev/kvm: {error}");
            return None;
        }
        Err(OpenError::Unusable(text)) => panic!("{text}"),
    };
    let root = Region::whole("system");
    let memory = AddressSpace::memory("memory", &root);
    root.add(&Region::ram("ram", RamBlock::new("ram", 0x2_0000).expect("ram")), 0);
    memory.write(0x1000, code);
    let world = Arc::new(World::default());
    let signals = Arc::new(CpuSignals::new());
    *world.signals.lock().expect("signals") = Some(signals.clone());
    let realized = parse_on("qemu64,check=off", Some(&kvm.host_cpu()))
        .and_then(|config| config.realize(&kvm.supported_features(), Topology::default(), 40))
        .expect("model");
    let setup = VcpuSetup {
        index: 0,
        apic_id: 0,
        signals: signals.clone(),
        io: world.clone(),
        memory: memory.clone(),
        model: Arc::new(realized.table),
    };
    let mut vcpu = kvm.create_vcpu(setup).expect("vcpu");
    let mut state = X86State { rip: 0x1000, ..X86State::default() };
    state.seg = [x86::Segment::real_mode(0, false); 6];
    state.seg[1] = x86::Segment::real_mode(0, true);
    state.gpr[4] = 0x8000;
    vcpu.set_state(&state);
    Some(Bench { vcpu, world, signals, memory, _kvm: kvm })
}

#[test]
fn ports_and_registers_reach_the_world() {
    // mov dx,0x3f8; mov al,0x41; out dx,al; in eax,0x40; mov ax,0xa000; mov ds,ax;
    // mov bx,[0x10]; mov byte [0x12],0x5a; mov cx,bx; hlt
    let code = [
        0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0x66, 0xe5, 0x40, 0xb8, 0x00, 0xa0, 0x8e, 0xd8, 0x8b, 0x1e, 0x10,
        0x00, 0xc6, 0x06, 0x12, 0x00, 0x5a, 0x89, 0xd9, 0xf4,
    ];
    let Some(mut bench) = bench(&code) else { return };
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    let log = bench.world.log.lock().expect("log").join(", ");
    assert_eq!(log, "out 0x3f8/1 0x41, in 0x40/4, read 0xa0010/2, write 0xa0012/1 0x5a");
    let state = bench.vcpu.state();
    assert_eq!((state.gpr[3] & 0xffff, state.gpr[1] & 0xffff), (0x7788, 0x7788));
    assert_eq!((state.rip, state.activity), (0x1000 + code.len() as u64, Activity::Halted));
}

#[test]
fn string_output_comes_element_by_element() {
    // mov si,0x1100; mov cx,3; mov dx,0x402; cld; rep outsw; hlt
    let code = [0xbe, 0x00, 0x11, 0xb9, 0x03, 0x00, 0xba, 0x02, 0x04, 0xfc, 0xf3, 0x6f, 0xf4];
    let Some(mut bench) = bench(&code) else { return };
    bench.memory.write(0x1100, &[1, 2, 3, 4, 5, 6]);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    let log = bench.world.log.lock().expect("log").join(", ");
    assert_eq!(log, "out 0x402/2 0x201, out 0x402/2 0x403, out 0x402/2 0x605");
}

#[test]
fn an_interrupt_wakes_a_halted_processor() {
    // sti; hlt; hlt        handler at 0x1800: mov byte [0x600],0x77; iret
    let Some(mut bench) = bench(&[0xfb, 0xf4, 0xf4]) else { return };
    bench.memory.write(0x1800, &[0xc6, 0x06, 0x00, 0x06, 0x77, 0xcf]);
    bench.memory.write(0x20 * 4, &[0x00, 0x18, 0, 0]);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_ne!(bench.vcpu.wake_mask() & Event::Intr as u32, 0);
    assert_eq!(bench.vcpu.run(), Exit::Halted, "nothing came");
    assert_eq!(bench.vcpu.state().rip, 0x1002);
    bench.world.vectors.lock().expect("vectors").push_back(0x20);
    bench.signals.raise(Event::Intr);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(bench.memory.read_int(0x600, 1), 0x77);
    assert_eq!(bench.vcpu.state().rip, 0x1003);
}

#[test]
fn an_interrupt_waits_until_it_is_enabled() {
    // cli; out 0x80,al; nop; sti; nop; nop; hlt; jmp to the hlt     handler at 0x1800: inc byte [0x600]; iret
    let Some(mut bench) = bench(&[0xfa, 0xe6, 0x80, 0x90, 0xfb, 0x90, 0x90, 0xf4, 0xeb, 0xfd]) else {
        return;
    };
    bench.memory.write(0x1800, &[0xfe, 0x06, 0x00, 0x06, 0xcf]);
    bench.memory.write(0x21 * 4, &[0x00, 0x18, 0, 0]);
    bench.world.vectors.lock().expect("vectors").push_back(0x21);
    bench.signals.raise(Event::Intr);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(*bench.world.log.lock().expect("log"), ["out 0x80/1 0x0"]);
    assert_eq!((bench.memory.read_int(0x600, 1), bench.vcpu.state().rip), (1, 0x1008));
}

#[test]
fn a_running_processor_can_be_stopped_and_goes_on() {
    // inc dword [0x600]; jmp back
    let Some(mut bench) = bench(&[0x66, 0xff, 0x06, 0x00, 0x06, 0xeb, 0xf9]) else { return };
    for round in 0..20u64 {
        let signals = bench.signals.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round % 4));
            signals.raise(Event::Exit);
        });
        assert_eq!(bench.vcpu.run(), Exit::Interrupted);
        stopper.join().expect("stopper");
        bench.signals.take(Event::Exit);
    }
    assert_ne!(bench.memory.read_int(0x600, 4), 0);
}

#[test]
fn init_and_a_start_up_message_begin_at_the_page() {
    // At 0x5000: mov byte [cs:0x10],1; hlt
    let Some(mut bench) = bench(&[0xf4]) else { return };
    bench.memory.write(0x5000, &[0x2e, 0xc6, 0x06, 0x10, 0x00, 0x01, 0xf4]);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    // The boot processor (as the APIC base says) starts at the reset vector.
    let mut state = bench.vcpu.state().clone();
    state.activity = Activity::WaitForSipi;
    bench.vcpu.set_state(&state);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_ne!(bench.vcpu.wake_mask() & Event::Sipi as u32, 0);
    bench.signals.raise_sipi(5);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(bench.memory.read_int(0x5010, 1), 1);
    assert_eq!(bench.vcpu.state().seg[1].selector, 0x500);
}

#[test]
fn registers_survive() {
    let Some(mut bench) = bench(&[0xf4]) else { return };
    let mut state = bench.vcpu.state().clone();
    state.gpr = std::array::from_fn(|n| n as u64 * 0x0101_0101_0101_0101);
    state.dr[0] = 0x1234;
    state.zmm[3][..16].copy_from_slice(b"vector registers");
    state.mtrr_fixed[4] = 0x0505_0505_0505_0505;
    state.lstar = 0xffff_8000_0000_1000;
    bench.vcpu.set_state(&state);
    // Something that makes KVM's registers the newer ones.
    bench.signals.raise(Event::Exit);
    assert_eq!(bench.vcpu.run(), Exit::Interrupted);
    bench.signals.take(Event::Exit);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    let mut after = bench.vcpu.state().clone();
    assert_eq!(after.rip, state.rip + 1);
    (after.rip, after.activity, after.tsc_offset) = (state.rip, state.activity, state.tsc_offset);
    assert_eq!(after, state);
}

#[test]
fn a_reset_stops_kvms_clock() {
    // mov ecx,0x4b564d01; mov eax,0x7001; xor edx,edx; wrmsr; rdmsr; mov [0x600],eax; hlt
    let mut code = vec![
        0x66, 0xb9, 0x01, 0x4d, 0x56, 0x4b, 0x66, 0xb8, 0x01, 0x70, 0, 0, 0x66, 0x31, 0xd2, 0x0f, 0x30, 0x0f,
        0x32, 0x66, 0xa3, 0x00, 0x06, 0xf4,
    ];
    code.resize(0x20, 0xf4);
    // At 0x1020: mov ecx,0x4b564d01; rdmsr; mov [0x604],eax; hlt
    code.extend([0x66, 0xb9, 0x01, 0x4d, 0x56, 0x4b, 0x0f, 0x32, 0x66, 0xa3, 0x04, 0x06, 0xf4]);
    let Some(mut bench) = bench(&code) else { return };
    let mut start = bench.vcpu.state().clone();
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    if bench.memory.read_int(0x600, 4) != 0x7001 {
        eprintln!("SKIPPED: this host's KVM has no clock");
        return;
    }
    bench.memory.write_int(0x604, 4, 0xffff_ffff);
    start.rip = 0x1020;
    bench.vcpu.set_state(&start);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(bench.memory.read_int(0x604, 4), 0);
}

#[test]
fn what_holds_interrupts_off_survives() {
    let Some(mut bench) = bench(&[0xf4]) else { return };
    for (shadow, nmi) in [(false, true), (true, false), (false, false)] {
        let mut state = bench.vcpu.state().clone();
        (state.interrupt_shadow, state.nmi_blocked, state.dr[7]) = (shadow, nmi, 0x400);
        state.activity = Activity::Running;
        bench.vcpu.set_state(&state);
        // Into guest mode and out of it at once.
        bench.signals.raise(Event::Exit);
        assert_eq!(bench.vcpu.run(), Exit::Interrupted);
        bench.signals.take(Event::Exit);
        let after = bench.vcpu.state();
        assert_eq!((after.interrupt_shadow, after.nmi_blocked), (shadow, nmi));
    }
}

#[test]
fn memory_that_appears_is_seen() {
    // mov al,[0x9000]; mov bl,[0x9000] after ROM came there; the port write puts it there.
    let Some(mut bench) = bench(&[0xa0, 0x00, 0x90, 0xf4, 0xa0, 0x00, 0x90, 0xa2, 0x01, 0x90, 0xf4]) else {
        return;
    };
    bench.memory.write(0x9000, &[0x11]);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(bench.vcpu.state().gpr[0] & 0xff, 0x11);
    let rom = RamBlock::new("rom", 0x1000).expect("rom");
    rom.write(0, &[0x22]);
    bench.memory.root().add_overlap(&Region::rom("rom", rom), 0x9000, 1);
    let mut state = bench.vcpu.state().clone();
    state.activity = Activity::Running;
    bench.vcpu.set_state(&state);
    assert_eq!(bench.vcpu.run(), Exit::Halted);
    assert_eq!(bench.vcpu.state().gpr[0] & 0xff, 0x22);
    // A write to ROM is an access like one to registers.
    assert_eq!(bench.world.log.lock().expect("log").join(", "), "write 0x9001/1 0x22");
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    // lidt [0x1010] (limit 0); int3
    let mut code = vec![0x0f, 0x01, 0x1e, 0x10, 0x10, 0xcc];
    code.resize(0x16, 0);
    let Some(mut bench) = bench(&code) else { return };
    let signals = bench.signals.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        signals.raise(Event::Exit);
    });
    match bench.vcpu.run() {
        // A KVM that emulates all of real mode may go round for ever.
        Exit::Interrupted => {
            eprintln!("SKIPPED: this host's KVM does not recognise triple faults in real mode")
        }
        exit => assert_eq!(exit, Exit::Shutdown),
    }
}

#[test]
fn a_table_is_filled_for_any_model() {
    assert!(
        crate::cpuid::guest(&CpuidTable::default(), &kvm_bindings::CpuId::new(0).expect("empty")).is_empty()
    );
}
