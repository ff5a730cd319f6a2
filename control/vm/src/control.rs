//! The machine as the monitor steers it.

use crate::inspect;
use crate::life::RunState;
use crate::machine::Machine;
use monitor::{MachineControl, Topic};
use qdev::{SystemControl, SystemRequest};
use std::fs::File;
use std::io;
use std::sync::Arc;
use x86::dump::DumpOptions;

/// The monitor's view of a machine.
pub(crate) struct Control {
    machine: Arc<Machine>,
}

impl Control {
    pub(crate) fn new(machine: &Arc<Machine>) -> Self {
        Self { machine: machine.clone() }
    }
}

impl MachineControl for Control {
    fn stop(&self) {
        self.machine.life.stop(RunState::Paused);
    }

    fn cont(&self) -> Result<(), String> {
        self.machine.life.cont()
    }

    fn reset(&self) {
        self.machine.life.request(SystemRequest::Reset);
    }

    fn powerdown(&self) {
        self.machine.life.powerdown();
    }

    fn wake(&self) -> Result<(), String> {
        self.machine.life.wake()
    }

    fn quit(&self) {
        self.machine.life.quit();
    }

    fn nmi(&self) -> Result<(), String> {
        self.machine.board.nmi();
        Ok(())
    }

    fn run_state(&self) -> monitor::RunState {
        let state = self.machine.life.state();
        monitor::RunState { running: state == RunState::Running, name: state.name() }
    }

    fn name(&self) -> Option<String> {
        self.machine.name.clone()
    }

    fn uuid(&self) -> Option<[u8; 16]> {
        self.machine.uuid
    }

    fn cpu_count(&self) -> usize {
        self.machine.vcpus.count()
    }

    fn cpu_thread(&self, cpu: usize) -> Option<i32> {
        self.machine.vcpus.thread_id(cpu)
    }

    fn registers(&self, cpu: usize) -> String {
        use accel::CpuIo as _;
        let a20 = self.machine.board.cpus.get(cpu).is_none_or(|cpu| cpu.a20_mask() & 1 << 20 != 0);
        self.machine
            .vcpus
            .with(cpu, |vcpu| {
                vcpu.state().dump(DumpOptions { fpu: true, a20_masked: !a20, ..DumpOptions::default() })
            })
            .unwrap_or_default()
    }

    fn register(&self, cpu: usize, name: &str) -> Option<u64> {
        self.machine.vcpus.with(cpu, |vcpu| inspect::register(vcpu.state(), name)).flatten()
    }

    fn code_bits(&self, cpu: usize) -> u32 {
        self.machine.vcpus.with(cpu, |vcpu| inspect::code_bits(vcpu.state())).unwrap_or(16)
    }

    fn accelerator(&self) -> &'static str {
        self.machine.accelerator
    }

    fn ram(&self) -> u64 {
        self.machine.board.memory.ram.size()
    }

    fn send_keys(&self, keys: &[u16], hold_ms: u64) {
        // A key wakes a sleeping guest, and is for nothing else then.
        if self.machine.life.wake().is_err() {
            self.machine.send_keys(keys, hold_ms);
        }
    }

    fn ringbuf_read(&self, id: &str, max: usize) -> Result<Vec<u8>, String> {
        self.machine.chardevs.read_ringbuf(id, max).map_err(|error| error.to_string())
    }

    fn read_virtual(&self, cpu: usize, address: u64, bytes: &mut [u8]) -> bool {
        let memory = &self.machine.board.memory.memory;
        let mut done = 0;
        while done < bytes.len() {
            let at = address.wrapping_add(done as u64);
            let room = usize::try_from(0x1000 - (at & 0xfff)).unwrap_or(1);
            let end = bytes.len().min(done + room);
            let Some(Some(physical)) = self.machine.vcpus.with(cpu, |vcpu| vcpu.translate(at)) else {
                return false;
            };
            memory.read(physical, &mut bytes[done..end]);
            done = end;
        }
        true
    }

    fn read_physical(&self, address: u64, bytes: &mut [u8]) -> bool {
        let memory = &self.machine.board.memory.memory;
        let last = address.saturating_add((bytes.len() as u64).saturating_sub(1));
        let view = memory.view();
        if view.lookup(address).is_none() && view.lookup(last).is_none() {
            return false;
        }
        memory.read(address, bytes);
        true
    }

    fn port_in(&self, port: u16, size: usize) -> u32 {
        self.machine.board.memory.ports.read_int(port.into(), size.clamp(1, 4) as u8) as u32
    }

    fn port_out(&self, port: u16, size: usize, value: u32) {
        self.machine.board.memory.ports.write_int(port.into(), size.clamp(1, 4) as u8, value.into());
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn io::Write>> {
        Ok(Box::new(File::create(name)?))
    }

    fn set_log_items(&self, mask: u32) -> Result<(), String> {
        report::log::set_mask(mask).map_err(|error| error.to_string())
    }

    fn set_log_file(&self, name: &str) -> Result<(), String> {
        report::log::set_file(name).map_err(|error| error.to_string())
    }

    fn set_watchdog_action(&self, action: &str) -> bool {
        let action = cmdline::OnWatchdog::of(action);
        action.map(|action| self.machine.life.set_watchdog(action)).is_some()
    }

    fn info(&self, topic: Topic, cpu: usize) -> String {
        let machine = &self.machine;
        let board = &machine.board;
        let memory = &board.memory.memory;
        match topic {
            Topic::Mem => {
                machine.vcpus.with(cpu, |vcpu| inspect::mappings(vcpu.state(), memory)).unwrap_or_default()
            }
            Topic::Tlb => machine
                .vcpus
                .with(cpu, |vcpu| inspect::translations(vcpu.state(), memory))
                .unwrap_or_default(),
            Topic::Mtree { disabled } => inspect::memory_trees(board, disabled),
            Topic::Pic => format!("{}{}", board.ioapic.describe(), board.pic.describe()),
            Topic::Lapic => board.cpus.get(cpu).map(|cpu| cpu.apic().describe()).unwrap_or_default(),
            Topic::Pci => board.pci.describe(),
            Topic::Qtree => machine.tree.describe(),
            Topic::Ramblock => {
                let ram = &board.memory.ram;
                let size = ram.size();
                format!(
                    "{:>32}  {:>5}  {:>18} {:>18} {:>18} {:>18} {:>3}\n{:>32}  {:>5}  0x{:016x} 0x{size:016x} \
                     0x{size:016x} 0x{:016x} {:>3}\n",
                    "Block Name",
                    "PSize",
                    "Offset",
                    "Used",
                    "Total",
                    "HVA",
                    "RO",
                    ram.name(),
                    "4 KiB",
                    0,
                    ram.host_base().as_ptr() as usize,
                    "rw"
                )
            }
            Topic::Jit => inspect::jit(&machine.vcpus),
            Topic::Irq => board.gsi.describe(),
            Topic::Block => inspect::disks(&machine.drives, &machine.links, &machine.tree),
            Topic::Roms => machine.rom.as_ref().map_or_else(String::new, |(name, size)| {
                format!("addr={:016x} size=0x{size:06x} mem=rom name=\"{name}\"\n", (1_u64 << 32) - size)
            }),
        }
    }

    fn chardevs(&self) -> Vec<(String, String)> {
        self.machine.chardevs.info().into_iter().map(|info| (info.label, info.description)).collect()
    }
}
