//! The machine as a debugger sees it.

use crate::Failed;
use crate::control::Control;
use crate::life::RunState;
use crate::machine::Machine;
use accel::{CpuIo as _, DebugRequest};
use cmdline::Plan;
use gdbstub::{Session, Target};
use report::{Location, error_report};
use std::sync::Arc;
use x86::{Activity, X86State};

struct Debugged {
    machine: Arc<Machine>,
}

/// Serves a debugger, if the command line wants that.
///
/// # Errors
/// Its character device cannot be made, or the accelerator cannot be debugged.
pub(crate) fn serve(plan: &Plan, machine: &Arc<Machine>) -> Result<Option<Arc<Session>>, Failed> {
    let Some(decl) = &plan.gdb else { return Ok(None) };
    let told = |error: &dyn std::fmt::Display| {
        let _place = Location::enter(&decl.location);
        error_report!("{error}");
        Failed::told()
    };
    if machine.vcpus.with(0, |vcpu| vcpu.set_debugger(&DebugRequest::default())) != Some(true) {
        return Err(told(&"gdbstub: current accelerator doesn't support guest debugging"));
    }
    machine.chardevs.create(&decl.spec).map_err(|error| told(&error))?;
    let front = machine.chardevs.claim(&decl.spec.id).map_err(|error| told(&error))?;
    let session = Session::attach(front, Arc::new(Debugged { machine: machine.clone() }));
    machine.life.set_debugger(&session);
    Ok(Some(session))
}

impl Target for Debugged {
    fn cpu_count(&self) -> usize {
        self.machine.vcpus.count()
    }

    fn is_running(&self) -> bool {
        self.machine.life.state() == RunState::Running
    }

    fn is_halted(&self, cpu: usize) -> bool {
        let activity = self.machine.vcpus.with(cpu, |vcpu| vcpu.state().activity);
        matches!(activity, Some(Activity::Halted | Activity::WaitForSipi))
    }

    fn registers(&self, cpu: usize) -> (X86State, u64) {
        let state = self.machine.vcpus.with(cpu, |vcpu| vcpu.state().clone()).unwrap_or_default();
        let priority = self.machine.board.cpus.get(cpu).map_or(0, |cpu| cpu.tpr());
        (state, priority.into())
    }

    fn set_registers(&self, cpu: usize, state: &X86State, cr8: u64) {
        self.machine.vcpus.with(cpu, |vcpu| vcpu.set_state(state));
        if let Some(cpu) = self.machine.board.cpus.get(cpu)
            && u64::from(cpu.tpr()) != cr8
        {
            cpu.set_tpr(cr8 as u8);
        }
    }

    fn read(&self, cpu: usize, physical: bool, address: u64, bytes: &mut [u8]) -> bool {
        let memory = &self.machine.board.memory.memory;
        self.pieces(cpu, physical, address, bytes.len(), |at, range| {
            let there = memory.view().lookup(at).is_some();
            memory.read(at, &mut bytes[range]);
            there
        })
    }

    fn write(&self, cpu: usize, physical: bool, address: u64, bytes: &[u8]) -> bool {
        let memory = &self.machine.board.memory.memory;
        self.pieces(cpu, physical, address, bytes.len(), |at, range| {
            let there = memory.view().lookup(at).is_some();
            memory.write(at, &bytes[range]);
            there
        })
    }

    fn set_debugger(&self, cpu: usize, request: &DebugRequest) {
        self.machine.vcpus.with(cpu, |vcpu| vcpu.set_debugger(request));
    }

    fn set_frozen(&self, cpu: usize, frozen: bool) {
        self.machine.vcpus.set_frozen(cpu, frozen);
    }

    fn stop(&self) {
        self.machine.life.stop(RunState::Paused);
    }

    fn cont(&self) -> bool {
        self.machine.life.cont().is_ok() && self.is_running()
    }

    fn quit(&self) {
        self.machine.life.quit();
    }

    fn monitor(&self, line: &str) -> String {
        monitor::run(&Control::new(&self.machine), line)
    }
}

impl Debugged {
    /// Cuts a range at the ends of pages, and hands out where each part is in physical memory; false as soon as one is
    /// not there.
    fn pieces(
        &self,
        cpu: usize,
        physical: bool,
        address: u64,
        length: usize,
        mut act: impl FnMut(u64, std::ops::Range<usize>) -> bool,
    ) -> bool {
        let mut done = 0;
        while done < length {
            let at = address.wrapping_add(done as u64);
            let end = length.min(done + (0x1000 - (at & 0xfff)) as usize);
            let place = if physical {
                Some(at)
            } else {
                self.machine.vcpus.with(cpu, |vcpu| vcpu.translate(at)).flatten()
            };
            if !place.is_some_and(|place| act(place, done..end)) {
                return false;
            }
            done = end;
        }
        true
    }
}
