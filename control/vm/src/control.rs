//! The machine as the monitor steers it.

use crate::life::RunState;
use crate::machine::Machine;
use monitor::{MachineControl, Topic};
use qdev::{SystemControl, SystemRequest};
use std::sync::Arc;

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

    fn quit(&self) {
        self.machine.life.quit();
    }

    fn nmi(&self) -> Result<(), String> {
        for cpu in &self.machine.board.cpus {
            cpu.apic().nmi_button();
        }
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
        self.machine.vcpus.with(cpu, |vcpu| format!("{:x?}", vcpu.state().gpr)).unwrap_or_default()
    }

    fn register(&self, cpu: usize, name: &str) -> Option<u64> {
        self.machine.vcpus.with(cpu, |vcpu| (name == "rip").then(|| vcpu.state().rip)).flatten()
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
        self.machine.board.memory.memory.read(address, bytes);
        true
    }

    fn port_in(&self, port: u16, size: usize) -> u32 {
        self.machine.board.memory.ports.read_int(port.into(), size.clamp(1, 4) as u8) as u32
    }

    fn port_out(&self, port: u16, size: usize, value: u32) {
        self.machine.board.memory.ports.write_int(port.into(), size.clamp(1, 4) as u8, value.into());
    }

    fn info(&self, topic: Topic, cpu: usize) -> String {
        let board = &self.machine.board;
        match topic {
            Topic::Pic => format!("{}{}", board.ioapic.describe(), board.pic.describe()),
            Topic::Lapic => board.cpus.get(cpu).map(|cpu| cpu.apic().describe()).unwrap_or_default(),
            Topic::Pci => board.pci.describe(),
            Topic::Qtree => self.machine.tree.describe(),
            other => format!("info {other:?} is not supported by this build"),
        }
    }

    fn chardevs(&self) -> Vec<(String, String)> {
        self.machine.chardevs.info().into_iter().map(|info| (info.label, info.description)).collect()
    }
}
